"""Nothing that an agent writes into its clone runs outside the sandbox, or changes anything of the user's repository."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Repository, agent_os
from agentq_nb.agent_os.sandbox import isolation
from agentq_nb.agent_os.values import IsolationKind
from agentq_nb.errors import AgentqError
from tests.agents.repository_attacks import ATTACKS, RepositoryAttack
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import use_only
from tests.unit.agent_os.user_repository import UserRepository


@dataclass
class Row:
    """What came of one attack."""

    attack: RepositoryAttack
    ran: list[str]
    changed: list[str]
    refs: list[str]
    brought_back: str
    """The branch, or the code of the error."""

    @property
    def held(self) -> bool:
        return not self.ran and not self.changed and not self.refs


async def attacked(vm: Any, attack: RepositoryAttack, user: UserRepository, name: str) -> Row:
    """Let an agent plant something, then do everything with its clone that a user does."""
    before, refs = user.bytes(), set(user.git("for-each-ref", "--format=%(refname)").splitlines())
    trace = user.traces / attack.name.replace("/", " ")
    script = f"#!/bin/sh\ntouch '{trace}'\ncat 2>/dev/null\n"
    await vm.write_file("/home/user/leave-trace", script)
    env = {"USER_REPOSITORY": str(user.path), "NAME": name}
    await vm.exec(
        f'chmod +x ~/leave-trace; export LEAVE_TRACE="$HOME/leave-trace"; {attack.commands}', env=env, timeout=60
    )
    outcomes: list[str] = []
    for action in (vm.diff, lambda: vm.commit("work"), vm.bring_back, vm.update, vm.discard, vm.diff):
        try:
            result = await action()
            outcomes.append(str(getattr(result, "branch", "")))
        except AgentqError as error:
            outcomes.append(error.full_code)
    now = set(user.git("for-each-ref", "--format=%(refname)").splitlines())
    # The user looks at what came back, as users do.
    for words in (("status",), ("log", "--all", "-p"), ("diff", "main", f"agentq/vm/{name}"), ("fsck", "--strict")):
        user.git(*words, check=False)
    ran = sorted(path.name for path in user.traces.iterdir())
    index = {".git/index"}  # status may refresh it
    changed = [each for each in user.changed_since(before) if each not in index]
    return Row(attack, ran, changed, sorted(now - refs - {f"refs/heads/agentq/vm/{name}"}), outcomes[2])


def render(rows: list[Row]) -> str:
    lines = [f"{'attack':42}{'ran outside':14}{'changed':10}{'brought back'}"]
    lines += [
        f"{row.attack.name:42}{', '.join(row.ran) or 'nothing':14}"
        f"{', '.join((*row.changed, *row.refs)) or 'nothing':10}{row.brought_back}"
        for row in rows
    ]
    return "\n".join(lines)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["bubblewrap", "landlock"])
def test_nothing_runs_and_nothing_changes(kind: IsolationKind, monkeypatch: pytest.MonkeyPatch) -> None:
    use_only(kind, monkeypatch)

    async def program(folder: Path, user: UserRepository) -> list[Row]:
        rows: list[Row] = []
        cls = agent_os(isolation="required", workspace=Repository(user.path))
        async with Machine(cls, folder) as vm:
            assert (await vm.isolation()).kind == kind
            for number, attack in enumerate(ATTACKS):
                name = f"attack-{number}"
                rows.append(await attacked(vm.registry.host.client.vm.get_or_create(name), attack, user, name))
        return rows

    # Not below /tmp, which is the VM's own under bubblewrap.
    with tempfile.TemporaryDirectory(dir=Path.home()) as name:
        user = UserRepository(Path(name))
        rows = asyncio.run(program(Path(name), user))
    print(render(rows))
    assert [row for row in rows if not row.held] == []
    for row in rows:
        if row.attack.refused is None:
            continue
        if row.attack.refused:
            assert row.brought_back.startswith("repository."), row
        else:
            assert row.brought_back.startswith("agentq/vm/attack-"), row


@pytest.mark.timeout(600)
def test_without_a_sandbox_nothing_of_a_clone_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_tried", {"bubblewrap": "not here", "landlock": "not here"})
    harmful = ("direct writing and pushing", "hard links to the user's files")
    user = UserRepository(tmp_path)

    async def program() -> list[Row]:
        rows: list[Row] = []
        async with Machine(agent_os(workspace=Repository(user.path)), tmp_path) as vm:
            for number, attack in enumerate(each for each in ATTACKS if each.name not in harmful):
                name = f"attack-{number}"
                # The agent only writes files here: what it could run itself, it need not plant.
                rows.append(await attacked(vm.registry.host.client.vm.get_or_create(name), attack, user, name))
        return rows

    rows = asyncio.run(program())
    print(render(rows))
    assert {row.brought_back for row in rows} == {"repository.no_isolation"}
    # What an attack ran by itself while it was planted, it ran as the user: that is what this isolation says.
    assert [row for row in rows if row.refs or row.changed] == []


@pytest.mark.parametrize("kind", ["bubblewrap", "landlock"])
def test_a_bundle_that_is_swapped_meanwhile_brings_nothing_else(
    kind: IsolationKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of the VM replaces the file with the commits by links and by other files, as fast as it can."""
    use_only(kind, monkeypatch)
    swap = """
    while :; do for file in ../.agentq-*.bundle; do
        ln -sfn "$USER_REPOSITORY/README.md" "$file"; rm -f "$file"; mkfifo "$file"; rm -f "$file"
        printf '# v2 git bundle\\n%s refs/heads/main\\n\\n' $(git rev-parse HEAD) > "$file"; rm -f "$file"; mkdir "$file"
        rmdir "$file"; cp ../whole.bundle "$file"
    done 2>/dev/null; done
    """

    async def program(folder: Path, user: UserRepository) -> list[str]:
        outcomes: list[str] = []
        async with Machine(agent_os(isolation="required", workspace=Repository(user.path)), folder) as vm:
            await vm.write_file("x", "x")
            work = (await vm.commit("work")).commit
            await vm.exec("git bundle create ../whole.bundle --all")
            await vm.spawn(swap, env={"USER_REPOSITORY": str(user.path)})
            for number in range(10):
                try:
                    brought = await vm.bring_back(f"agentq/swapped-{number}")
                    assert brought.commit in (None, work)
                    outcomes.append("brought back")
                except AgentqError as error:
                    outcomes.append(error.full_code)
        return outcomes

    with tempfile.TemporaryDirectory(dir=Path.home()) as name:
        user = UserRepository(Path(name))
        before = user.bytes()
        outcomes = asyncio.run(program(Path(name), user))
        assert user.changed_since(before) == []
        print(kind, outcomes)
        assert set(outcomes) <= {"brought back", "repository.bad_bundle", "agent.workspace", "repository.git_failed"}
