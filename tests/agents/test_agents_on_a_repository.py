"""The real Pi, Claude Code and Codex on a repository: a branch each, and nothing of the user's is touched."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Repository, agent_os, agents
from agentq_nb.agent_os.values import IsolationKind
from tests.agents.fake_llm import FakeModel, serving
from tests.agents.real_agents import KEYS, configure, need_agent
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import use_only
from tests.unit.agent_os.user_repository import UserRepository

AGENTS = [agents.pi, agents.claude, agents.codex]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["bubblewrap", "landlock", "none"])
def test_three_tasks_become_three_branches(kind: IsolationKind, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not below /tmp or /dev, where the sandboxes that agents bring with them have folders of their own.
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        _three_tasks(kind, Path(folder), monkeypatch)


def commits_itself(kind: IsolationKind, name: str) -> bool:
    """Whether this agent may write into .git: without isolation, Codex uses a sandbox of its own, which forbids that."""
    return (kind, name) != ("none", "codex")


def _three_tasks(kind: IsolationKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_only(kind, monkeypatch)
    for agent in AGENTS:
        need_agent(agent)
    user = UserRepository(tmp_path)
    before = user.bytes()

    async def work(vm: Any, name: str, model: FakeModel) -> None:
        await configure(vm, model)
        session = await vm.create_session(name, env=KEYS)
        commit = "git commit -qam x --allow-empty && " if commits_itself(kind, name) else ""
        prompt = f"@write by-{name}.txt {name}\n@run {commit}echo {name} >> src/cart.py\n@say done"
        result = await vm.send_prompt(session.session_id, prompt)
        assert result.text.endswith("done")
        assert [str(change) for change in result.files] == [f"by-{name}.txt (+1 -0)", "src/cart.py (+1 -0)"]
        await vm.close_session(session.session_id)
        diff = await vm.diff()
        assert [change.path for change in diff.files] == [f"by-{name}.txt", "src/cart.py"]
        await vm.commit(f"The work of {name}")
        brought = await vm.bring_back()
        assert (brought.branch, brought.insertions, brought.uncommitted) == (f"agentq/vm/{name}", 2, ())

    async def program(model: FakeModel) -> None:
        mode = "off" if kind == "none" else "required"
        cls = agent_os(agents=AGENTS, isolation=mode, hosts=[model.url], workspace=Repository(user.path))
        async with Machine(cls, tmp_path) as machine:
            assert (await machine.isolation()).kind == kind
            for agent in AGENTS:
                await work(machine.registry.host.client.vm.get_or_create(agent.name), agent.name, model)

    with serving() as model:
        asyncio.run(program(model))
    assert user.changed_since(before) == []
    assert list(user.traces.iterdir()) == []
    for agent in AGENTS:
        own = "\nx" if commits_itself(kind, agent.name) else ""
        assert user.git("log", "--format=%s", f"main..agentq/vm/{agent.name}") == f"The work of {agent.name}{own}"
        assert user.git("show", f"agentq/vm/{agent.name}:by-{agent.name}.txt") == agent.name
    user.git("fsck", "--strict")
