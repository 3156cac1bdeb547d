"""Blocked where promised: every attack, by every way in, under every isolation, against what ``isolation()`` says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from agentq_nb import agent_os, agents
from agentq_nb.agent_os.network.availability import Means
from agentq_nb.agent_os.sandbox import protections
from agentq_nb.agent_os.values import IsolationKind, NetworkMode
from tests.agents.attacks import ATTACKS, FILE_ATTACKS, Place
from tests.agents.fake_llm import FakeModel, serving
from tests.agents.isolation_table import COLUMNS, KEY, PROJECT, Row, attacks_under, compare, render, tried
from tests.agents.real_agents import configure, need_agent
from tests.agents.test_acp_faults import SECRET
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import need, need_own_network, need_ports, use_only

FOR_PI = (
    "write by absolute path",
    "write by a new link",
    "write to another VM",
    "write to /tmp",
    "read the home folder",
    "read the store",
    "environment of a neighbour",
    "kill a neighbour",
)


@pytest.mark.parametrize(("kind", "network", "means"), COLUMNS)
def test_what_isolation_says_is_what_happens(kind: IsolationKind, network: NetworkMode, means: Means | None) -> None:
    need(kind)
    if means == "namespace":
        need_own_network(kind)
    if means == "ports":
        need_ports()
    rows = tried(kind, network, means)
    print(render(rows))
    assert [row for row in rows if not row.true] == []
    by_route = Counter(row.route for row in rows)
    by_files = {"files": len(FILE_ATTACKS) + 1} if network == "open" else {}
    by_commands = dict.fromkeys(("exec", "agent"), len(attacks_under(network, means)))
    assert by_route == by_files | by_commands | {"function": len(attacks_under(network, None))}
    # An attack that never gets through anywhere would prove nothing.
    if kind == "none":
        harmless = [row.attack for row in rows if row.route == "function" and row.kept_out]
        assert harmless == [attack.name for attack in ATTACKS if attack.everywhere]


def test_older_landlocks_say_what_they_cannot_do() -> None:
    new, old = protections.landlock(6), protections.landlock(1)
    assert protections.SIGNALS in new.protects
    assert protections.SIGNALS not in old.protects
    assert {protections.SIGNALS_ON_OLD_LINUX, protections.TRUNCATING} <= set(old.does_not_protect)
    assert protections.TRUNCATING not in protections.landlock(3).does_not_protect


WITHOUT = """
import asyncio, sys
from pathlib import Path
from agentq_nb import agent_os
from agentq_nb.agent_os.sandbox.confinement import restrict
from agentq_nb.errors import IsolationUnavailable
from tests.unit.agent_os.machine import Machine

for _ in range(16):  # no process can be restricted more often, and none that is may set up what bubblewrap needs
    restrict(write=["/"], read=[])

async def program():
    async with Machine(agent_os(isolation=sys.argv[1]), Path(sys.argv[2])) as vm:
        try:
            print(await vm.exec("touch ran"))
        except IsolationUnavailable as error:
            print(error)
        else:
            print(await vm.isolation())

asyncio.run(program())
"""
"""A process in which neither kind can work."""


def without_isolation(mode: str, folder: Path) -> str:
    words = [sys.executable, "-c", WITHOUT, mode, str(folder)]
    ran = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_required_where_there_is_none_runs_nothing_and_says_why(tmp_path: Path) -> None:
    need("landlock")
    said = without_isolation("required", tmp_path)
    assert 'isolation="required", but this machine offers none' in said
    assert "bubblewrap: " in said
    assert "landlock: it was tried and does not work here" in said
    assert list(tmp_path.rglob("ran")) == []


def test_auto_where_there_is_none_runs_and_says_so(tmp_path: Path) -> None:
    need("landlock")
    said = without_isolation("auto", tmp_path)
    assert "kind='none'" in said
    assert "refused={'bubblewrap': " in said
    assert len(list(tmp_path.rglob("ran"))) == 1


@pytest.mark.parametrize("kind", ["none", "landlock", "bubblewrap"])
def test_the_real_pi_is_kept_out_of_the_same(
    kind: IsolationKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_only(kind, monkeypatch)
    need_agent(agents.pi)
    chosen = [attack for attack in ATTACKS if attack.name in FOR_PI]
    assert len(chosen) == len(FOR_PI)

    async def program(model: FakeModel, at: Place) -> list[Row]:
        rows: list[Row] = []
        cls = agent_os(agents=[agents.pi], isolation="off" if kind == "none" else "required", hosts=[model.url])
        async with Machine(cls, tmp_path, KEY) as vm:
            await configure(vm, model)
            session = await vm.create_session("pi", env={"ANTHROPIC_API_KEY": SECRET})
            told = await vm.isolation()
            for attack in chosen:
                at.reset()
                await vm.send_prompt(session.session_id, f"@run ({attack.command(at)}) > output\n@say tried")
                output = (await vm.read_file("output")).decode(errors="replace")
                rows.append(compare(told, None, "pi", attack.name, attack.about, attack.got_through(at, output)))
        return rows

    with serving() as model, Place(tmp_path, KEY) as at:
        rows = asyncio.run(program(model, at))
    assert [row for row in rows if not row.true] == []
    assert any(row.kept_out for row in rows) == (kind != "none")


def test_what_an_agent_writes_beside_its_workspace_fails_instead_of_getting_lost(tmp_path: Path) -> None:
    need("bubblewrap")

    async def program() -> list[int]:
        async with Machine(agent_os(isolation="required"), tmp_path) as vm:
            commands = ("echo x > /new", "mkdir /home/other", "echo x > /tmp/new", "echo x > /home/user/new")
            return [(await vm.exec(command)).exit_code for command in commands]

    failed, failed_too, private, own = asyncio.run(program())
    assert failed != 0
    assert failed_too != 0
    assert (private, own) == (0, 0)
