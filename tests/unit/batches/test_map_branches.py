"""``map`` over a repository: a VM and a branch for each item, and each branch in the user's repository at the end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import agentq_nb
from agentq_nb import Registry, Repository, Retry, agent_os, agents
from agentq_nb._commands.from_shell import run
from agentq_nb.agent_os.sandbox import isolation
from agentq_nb.errors import ValidationFailed
from tests.unit.agent_os.user_repository import UserRepository

pytestmark = pytest.mark.anyio


@pytest.fixture
def user(tmp_path: Path) -> UserRepository:
    return UserRepository(tmp_path)


asked: list[str] = []


async def work(session: Any, prompt: str) -> str:
    asked.append(prompt)
    if "nothing" in prompt:
        return "there is nothing to do"
    if "badly" in prompt:
        raise RuntimeError("it went badly")
    session.write("answer.txt", f"{prompt}\n")
    return f"did {prompt}"


async def test_each_item_becomes_a_branch_that_begins_at_the_same_commit(
    registry: Registry, user: UserRepository, tmp_path: Path
) -> None:
    start = user.git("rev-parse", "main")
    before = user.bytes()
    vm = agent_os(agents=[agents.function(work)], workspace=Repository(user.path))
    tasks = ["Fix the login!", "Fix the login!", "Do nothing", "-rf ../.. ünïcode.lock", "Go badly"]
    options: dict[str, Any] = {"name": "night 1", "vm": vm, "concurrency": 2, "retry": Retry(attempts=1)}
    batch = await agentq_nb.map(agents.function(work), tasks, **options)
    frame = await batch.frame()
    assert list(frame["item"]) == tasks
    assert list(frame["status"]) == ["completed"] * 4 + ["failed"]
    branches = list(frame["branch"])
    assert len(set(branches)) == 4
    assert branches[0].startswith("agentq/night-1-")
    assert "/fix-the-login-" in branches[0]
    assert branches[2] is None
    assert [None if value != value else value for value in frame["insertions"].fillna(-1)] == [1, 1, 0, 1, -1]
    assert frame["reply"][3] == "did -rf ../.. ünïcode.lock"
    for branch in (branches[0], branches[1], branches[3]):
        assert user.git("rev-parse", f"{branch}~1") == start
    assert user.git("log", "-1", "--format=%s", branches[3]) == "-rf ../.. ünïcode.lock"
    assert user.changed_since(before) == []

    results = (await registry.results(status="completed")).set_index("branch")
    assert [results[name][branches[3]] for name in ("files", "insertions", "deletions")] == [1, 1, 0]
    shown = await run(registry, ["results"], tmp_path)
    (header,) = [line for line in shown.text.splitlines() if line.startswith("message_id")]
    (line,) = [line for line in shown.text.splitlines() if f"  {branches[3]}  " in line]
    assert line[header.index("branch  ") :].startswith(f"{branches[3]}  1 file, +1 -0  ")
    assert header.index("branch  ") < header.index("diff  ") < header.index("reply")

    # What was brought back is removed; what failed keeps its clone.
    vms = tmp_path / "map.agentq" / batch.actor_id.replace("map_", "map_", 1)
    left = [path for path in (tmp_path / "map.agentq").glob("map_*_vm/*") if path.is_dir()]
    for _ in range(100):
        if len(left) == 1:
            break
        await asyncio.sleep(0.05)
        left = [path for path in (tmp_path / "map.agentq").glob("map_*_vm/*") if path.is_dir()]
    assert [path.name.startswith("go-badly-") for path in left] == [True], vms

    # Later items begin from the commit of the first ones, and what is done is not done again.
    user.commit("newer.txt", "x", "Newer")
    asked.clear()
    batch = await agentq_nb.map(agents.function(work), [*tasks, "One more"], **options)
    frame = await batch.frame()
    assert asked == ["One more"]
    assert user.git("rev-parse", f"{frame['branch'][5]}~1") == start


async def test_without_a_sandbox_nothing_is_queued(
    registry: Registry, user: UserRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "_tried", {"bubblewrap": "not here", "landlock": "not here"})
    vm = agent_os(agents=[agents.function(work)], workspace=Repository(user.path))
    with pytest.raises(ValidationFailed, match='isolation="off"'):
        await agentq_nb.map(agents.function(work), ["a"], name="refused", vm=vm)
    assert await registry.sql("select * from messages") is not None
    assert (await registry.sql("select count(*) from messages")).rows == [(0,)]


async def test_work_that_cannot_be_brought_back_fails_without_asking_again(
    registry: Registry, user: UserRepository
) -> None:
    async def breaks(session: Any, prompt: str) -> str:
        asked.append(prompt)
        await session.exec("rm -rf .git; ln -s /tmp .git; echo precious > work")
        return "done"

    asked.clear()
    agent = agents.function(breaks)
    vm = agent_os(agents=[agent], workspace=Repository(user.path))
    batch = await agentq_nb.map(agent, ["a"], name="broken", vm=vm)
    (result,) = await batch.results()
    assert result.status == "failed"
    assert result.error is not None
    assert "is damaged" in result.error["message"]
    assert asked == ["a"]
    vms = list((user.path.parent / "map.agentq").glob("map_broken_vm/*/*/work"))
    assert [path.read_text() for path in vms] == ["precious\n"]
