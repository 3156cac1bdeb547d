"""``python -m tests.agents.isolation_table``: what each isolation says it keeps out, beside what it kept out.

For each kind, and each network that it can give, a host of its own is started, with a mark in its environment; the attacks go by file actions, ``exec``, an
agent over ACP, and an agent that is a Python function. A row is wrong where an attack got through that ``isolation()``
says cannot, or the other way round, or where it says nothing about it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from agentq_nb import agent_os, agents
from agentq_nb.agent_os.network import availability
from agentq_nb.agent_os.network.availability import Means
from agentq_nb.agent_os.sandbox import isolation, protections
from agentq_nb.agent_os.values import IsolationKind, NetworkMode
from agentq_nb.errors import AgentqError
from tests.agents.attacks import ATTACKS, CONTENT, FILE_ATTACKS, MARK, NETWORK_ATTACKS, PORT_ATTACKS, Attack, Place
from tests.agents.test_acp_faults import stub
from tests.unit.agent_os.machine import Machine

PROJECT = Path(__file__).resolve().parents[2]
KEY = ("attacked",)

Column: TypeAlias = tuple[IsolationKind, NetworkMode, Means | None]

COLUMNS: list[Column] = [
    ("none", "open", None),
    ("landlock", "open", None),
    ("landlock", "web", "ports"),
    ("landlock", "llm", "ports"),
    ("landlock", "none", "ports"),
    ("landlock", "web", "namespace"),
    ("landlock", "llm", "namespace"),
    ("landlock", "none", "namespace"),
    ("bubblewrap", "open", None),
    ("bubblewrap", "web", "namespace"),
    ("bubblewrap", "llm", "namespace"),
    ("bubblewrap", "none", "namespace"),
]

Run = Callable[[str], Awaitable[str]]
"""Runs a shell command by one of the routes; what it printed."""


@dataclass(frozen=True)
class Row:
    """One attack by one route: the sentence that speaks of it, and what happened."""

    kind: str
    network: str
    means: str | None
    route: str
    attack: str
    sentence: str | None
    promised: bool | None
    """Whether that sentence says it is kept out; None: there is no sentence."""
    kept_out: bool

    @property
    def true(self) -> bool:
        return self.promised is self.kept_out


def compare(told: Any, means: Means | None, route: str, attack: str, about: Sequence[str], got_through: bool) -> Row:
    """Look up what ``isolation()`` said about an attack."""
    said = [sentence for sentence in about if sentence in (*told.protects, *told.does_not_protect)]
    sentence = said[0] if said else None
    promised = None if sentence is None else sentence in told.protects
    return Row(told.kind, told.network, means, route, attack, sentence, promised, not got_through)


async def attacked_by_files(vm: Machine, at: Place, told: Any) -> list[Row]:
    rows: list[Row] = []
    for attack in FILE_ATTACKS:
        at.reset()
        (at.root / "own").write_text("own")
        (at.root / "environment").symlink_to("/proc/self/environ")
        output = ""
        with suppress(AgentqError):  # what counts is what happened
            output = repr(await attack.call(vm, at))
        through = attack.got_through(at, output)
        rows.append(compare(told, None, "files", attack.name, [protections.FILE_ACTIONS], through))
    return [*rows, await attacked_by_swapping(vm, at, told)]


async def attacked_by_swapping(vm: Machine, at: Place, told: Any) -> Row:
    """While files are written and read, a process of the VM makes one of the folders on the way a link to the outside."""
    at.reset()
    (at.root / "real").mkdir()
    swap = f"mv real swapped; mv swapped real; ln -s {at.outside} swapped; rm swapped"
    swapping = asyncio.create_task(vm.exec(f"while [ ! -e stop ]; do {swap}; done"))
    output = ""
    for _ in range(300):
        with suppress(AgentqError):
            await vm.write_file("swapped/new", "x")
            output += repr(await vm.read_file("swapped/precious"))
    await vm.write_file("stop", "")
    await swapping
    through = at.new.exists() or CONTENT in output
    return compare(told, None, "files", "swap a folder for a link meanwhile", [protections.FILE_ACTIONS], through)


async def attacked_by(route: str, run: Run, at: Place, told: Any, means: Means | None) -> list[Row]:
    rows: list[Row] = []
    for attack in attacks_under(told.network, None if route == "function" else means):
        at.reset()
        output = await run(attack.command(at))
        about = [protections.IN_THE_KERNEL] if route == "function" and not attack.everywhere else attack.about
        rows.append(compare(told, means, route, attack.name, about, attack.got_through(at, output)))
    return rows


def attacks_under(network: NetworkMode, means: Means | None) -> list[Attack]:
    """All of them once; with less than an open network only those for which that makes a difference."""
    return ATTACKS if network == "open" else [*NETWORK_ATTACKS, *(PORT_ATTACKS if means == "ports" else ())]


async def in_the_kernel(session: Any, prompt: str) -> str:
    """The function agent: what the notebook may, it may."""
    words = ["/bin/sh", "-c", prompt]
    done = await asyncio.to_thread(subprocess.run, words, cwd=session.root, capture_output=True, check=False)
    return done.stdout.decode(errors="replace")


@asynccontextmanager
async def routes(vm: Machine, at: Place) -> AsyncIterator[dict[str, Run]]:
    """Every way in which a command gets into the VM."""

    async def by_exec(command: str) -> str:
        return (await vm.exec(command, timeout=30, env={"TOKEN_OF_A_COMMAND": at.token})).stdout

    def by(session_id: str, verb: str) -> Run:
        async def prompt(command: str) -> str:
            return (await vm.send_prompt(session_id, verb + command)).text

        return prompt

    env = {"TOKEN_OF_A_SESSION": at.token}
    stub_session, function_session = [await vm.create_session(name, env=env) for name in ("stub", "in_the_kernel")]
    yield {
        "exec": by_exec,
        "agent": by(stub_session.session_id, "run "),
        "function": by(function_session.session_id, ""),
    }


async def attack(kind: IsolationKind, network: NetworkMode, means: Means | None) -> list[Row]:
    """All attacks under one kind and network, in this process."""
    if kind == "landlock":
        isolation._tried["bubblewrap"] = "not in this table"
    if means == "ports":
        availability._tried["namespace"] = "not in this column"
    mode = "off" if kind == "none" else "required"
    with tempfile.TemporaryDirectory(dir=Path.home()) as name, Place(Path(name), KEY) as at:
        hosts = [f"127.0.0.1:{at.named}"] if network in ("web", "llm") else []
        both = [stub(), agents.function(in_the_kernel)]
        cls = agent_os(agents=both, isolation=mode, network=network, hosts=hosts)
        async with Machine(cls, Path(name), KEY) as vm, routes(vm, at) as ways:
            told = await vm.isolation()
            rows = await attacked_by_files(vm, at, told) if network == "open" else []
            for route, run in ways.items():
                rows += await attacked_by(route, run, at, told, means)
            spoken = {row.sentence for row in rows}
            said = {*told.protects, *told.does_not_protect}
            if network != "open":
                without = await isolation.in_force(mode)  # its sentences are tried in the column of the open network
                said -= {*without.protects, *without.does_not_protect}
            for sentence in said:
                assert sentence in spoken, f"No attack tries whether this is true: {sentence}"
    return rows


def tried(kind: IsolationKind, network: NetworkMode = "open", means: Means | None = None) -> list[Row]:
    """The same in a process that was started with a mark in its environment."""
    words = [sys.executable, "-m", "tests.agents.isolation_table", kind, network, means or ""]
    environment = os.environ | {MARK: f"mark-{os.urandom(8).hex()}"}
    ran = subprocess.run(words, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise AssertionError(ran.stderr)
    return [Row(**row) for row in json.loads(ran.stdout)]


def render(rows: Sequence[Row]) -> str:
    """A line for each attack by each route, a column for each kind and network; ``!`` marks what is not as it was said."""
    columns = list(dict.fromkeys((row.kind, row.network, row.means) for row in rows))
    found = {(row.route, row.attack, (row.kind, row.network, row.means)): row for row in rows}
    attacks = list(dict.fromkeys((row.route, row.attack) for row in rows))
    heads = (("attack", 0), ("network=", 1), ("by", 2))
    lines = [
        f"{'by' if not index else '':9}{head:36}" + "".join(f"{column[index] or '':14}" for column in columns).rstrip()
        for head, index in heads
    ]
    for route, attack in attacks:
        cells = [found.get((route, attack, column)) for column in columns]
        words = ["" if row is None else "kept out" if row.kept_out else "gets through" for row in cells]
        marks = ["" if row is None or row.true else " !" for row in cells]
        lines.append(
            f"{route:9}{attack:36}" + "".join(f"{w + m:14}" for w, m in zip(words, marks, strict=True)).rstrip()
        )
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    if words:
        print(json.dumps([asdict(row) for row in asyncio.run(attack(words[0], words[1], words[2] or None))]))  # type: ignore[arg-type]
        return 0
    rows = [row for column in COLUMNS for row in tried(*column)]
    print(render(rows))
    wrong = [row for row in rows if not row.true]
    print(f"\n{len(rows)} attacks, {len(wrong)} of them not as isolation() says")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
