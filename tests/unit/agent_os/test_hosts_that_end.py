"""Sessions of a host that ended in the middle of a prompt, in the same process: they go on with the next host."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Actor, Queue, agent_os, agents, create_client, setup
from agentq_nb._host.registry import Registry
from agentq_nb.agent_os import SessionInfo
from agentq_nb.agent_os.agents import AgentSession
from agentq_nb.errors import AgentqError
from tests.agents.running import all_gone, marked, new_mark

STUB = agents.acp(
    "stub", [sys.executable, str(Path(__file__).parents[2] / "agents/stub_agent.py")], readable=[sys.prefix]
)
SOON = 30  # seconds, for what would otherwise never end


async def answers(session: AgentSession, prompt: str) -> str:
    """Answers, after having asked whether it may if the prompt is so."""
    if prompt == "ask":
        return str(await session.ask("Delete everything?"))
    if prompt == "wait":
        await asyncio.sleep(600)
    return f"{prompt}, {session.env.get('WORD')}"


class Owner(Actor):
    """Its ``run`` holds a session whose prompt does not end."""

    jobs = Queue(str)

    async def run(self) -> None:
        vm = self.actors.vm.get_or_create(["a"])
        session = await vm.create_session("answers")
        async for message in self.queue.iter():
            await vm.send_prompt(session.session_id, message.body)


def hosted(folder: Path, **options: Any) -> Registry:
    vm = agent_os(agents=[agents.function(answers), STUB], isolation="off", **options)
    return setup(use={"vm": vm, "owner": Owner}, store=folder / "nb.agentq.duckdb", background=True)


async def fall(registry: Registry) -> None:
    """What nobody expects: the loop of the host fails, and its thread ends."""

    def fails() -> None:
        raise RuntimeError("a bug in the loop")

    thread = registry.lifecycle._thread
    assert thread is not None
    thread.loop._run_once = fails  # type: ignore[attr-defined]  # asyncio's own, which tells nobody of it
    thread.loop.call_soon_threadsafe(lambda: None)
    await asyncio.wrap_future(thread.gone)


async def started(prompt: Any, vm: Any, session_id: str, type: str) -> asyncio.Task[Any]:
    """A prompt whose transcript has come to an event of this type."""
    task = asyncio.create_task(vm.send_prompt(session_id, prompt))
    after = 0
    while True:
        for event in await vm.session_events(session_id, after):
            after = event.index
            if event.type == type:
                return task
        await asyncio.sleep(0.01)


@pytest.mark.anyio
async def test_a_host_that_falls_in_a_prompt_leaves_sessions_that_the_next_host_goes_on_with(tmp_path: Path) -> None:
    registry, mark = hosted(tmp_path), new_mark()
    await registry.start()
    vm = create_client().vm.get_or_create(["a"])
    python = await vm.create_session("answers", env={"WORD": "a long word"}, public_env=["WORD"])
    process = await vm.create_session("stub", env=mark)
    prompts = [
        await started("wait", vm, python.session_id, "prompt"),
        await started("hang", vm, process.session_id, "text"),
    ]
    assert marked(mark)
    await fall(registry)
    for prompt in prompts:
        with pytest.raises(AgentqError, match="ended before it answered"):
            await prompt
    async with registry:
        async with asyncio.timeout(SOON):
            assert [session.status for session in await vm.list_sessions()] == ["open", "open"]
            # With what it had in memory.
            assert (await vm.send_prompt(python.session_id, "again")).text == "again, a long word"
            assert (await vm.send_prompt(process.session_id, "count 2")).text == "0 1 "
            await vm.close_session(process.session_id)
            await vm.close_session(python.session_id)
        told = [event.text for event in await vm.session_events(process.session_id) if event.type == "prompt"]
        assert told == ["hang", "count 2"]
    assert all_gone(mark)


@pytest.mark.anyio
async def test_a_session_whose_call_fell_with_the_host_is_closed(tmp_path: Path) -> None:
    registry = hosted(tmp_path)
    await registry.start()
    vm = create_client().vm.get_or_create(["a"])
    owner = create_client().owner.get_or_create(["a"])
    await owner.send("jobs", "wait")
    running: list[SessionInfo] = []
    while not running:
        running = [session for session in await vm.list_sessions() if session.status == "running"]
    await fall(registry)
    await owner_does_nothing(registry)
    async with registry:
        found = await vm.get_session(running[0].session_id)
        assert (found.status, found.closed_reason) == ("closed", "the host in which it was created ended")


async def owner_does_nothing(registry: Registry) -> None:
    """From the next start on."""

    class Idle(Actor):
        jobs = Queue(str)

    await registry.deploy("owner", Idle)


@pytest.mark.anyio
async def test_a_request_that_fell_with_the_host_is_refused_and_nobody_can_answer_it(tmp_path: Path) -> None:
    registry = hosted(tmp_path, permissions="ask")
    await registry.start()
    vm = create_client().vm.get_or_create(["a"])
    session = await vm.create_session("answers")
    prompt = await started("ask", vm, session.session_id, "permission_request")
    await fall(registry)
    with pytest.raises(AgentqError, match="ended before it answered"):
        await prompt
    async with registry, asyncio.timeout(SOON):
        assert await vm.list_permission_requests() == []
        events = await vm.session_events(session.session_id)
        assert [event.type for event in events] == ["prompt", "permission_request", "permission_answer"]
        assert events[-1].text == "permission for Delete everything?: deny (the host ended before it was answered)"
        assert (await vm.send_prompt(session.session_id, "again")).text.startswith("again")


@pytest.mark.anyio
async def test_an_agent_that_cannot_be_stopped_does_not_block_its_session_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("call_task.GRACE", "call_task.GRACE_AFTER_CANCEL"):
        monkeypatch.setattr(f"agentq_nb._runtime.{module}", 0.2)
    deaf, ended = asyncio.Event(), asyncio.Event()

    async def stubborn(session: AgentSession, prompt: str) -> str:
        while prompt == "wait" and not ended.is_set():
            deaf.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.1)
        return prompt

    vm_class = agent_os(agents=[agents.function(stubborn)])
    registry = setup(use={"vm": vm_class}, store=tmp_path / "nb.agentq.duckdb")
    await registry.start()
    vm = create_client().vm.get_or_create(["a"])
    session = await vm.create_session("stubborn")
    prompt = asyncio.create_task(vm.send_prompt(session.session_id, "wait"))
    await deaf.wait()
    await registry.stop()
    with pytest.raises(AgentqError):
        await prompt
    async with registry, asyncio.timeout(SOON):
        assert (await vm.send_prompt(session.session_id, "again")).text == "again"
        ended.set()
