"""A VM that is replaced or told to sleep while a prompt runs: it waits for that, and can be spoken to meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentq_nb.agent_os import agent_os, agents
from agentq_nb.agent_os.agents import AgentSession
from agentq_nb.agent_os.sandbox.workspace import Workspace
from agentq_nb.agent_os.sessions.sessions import sessions_of
from agentq_nb.errors import SessionUnknown
from tests.unit.agent_os.machine import Machine

SOON = 30  # seconds, for what would otherwise never end


async def waits(session: AgentSession, prompt: str) -> str:
    """Waits, or calls its tool once there is the file that it waits for."""
    if prompt == "wait":
        await asyncio.sleep(600)
    if prompt == "tool":
        await session.exec("until [ -e go.txt ]; do sleep 0.02; done")
    return str(await session.tools["files"]()) if prompt == "tool" else prompt


async def replace(vm: Machine, tools: list[Callable[..., Any]]) -> None:
    await vm.registry.deploy("vm", agent_os(agents=[agents.function(waits)], tools=tools))


async def put_to_sleep(vm: Machine, tools: list[Callable[..., Any]]) -> None:
    (await vm.activation()).close("going to sleep")


@pytest.mark.anyio
@pytest.mark.parametrize("end", [replace, put_to_sleep])
async def test_a_vm_that_waits_for_its_prompts_can_be_looked_at_and_told_to_cancel_them(
    end: Callable[..., Any], tmp_path: Path
) -> None:
    machines: list[Machine] = []

    async def files() -> list[str]:
        """The names of the files in the workspace."""
        return [info.name for info in await machines[0].list_dir(".")]

    async with Machine(agent_os(agents=[agents.function(waits)], tools=[files]), tmp_path) as vm:
        machines.append(vm)
        sessions = [await vm.create_session("waits") for _ in range(2)]
        begun = [vm.heard("prompt", "wait"), vm.heard("prompt", "tool")]
        waiting, tool = [
            asyncio.create_task(vm.send_prompt(session.session_id, prompt))
            for session, prompt in zip(sessions, ["wait", "tool"], strict=True)
        ]
        for event in begun:
            await event.wait()
        await end(vm, [files])
        later = asyncio.create_task(vm.send_prompt(sessions[1].session_id, "later"))
        async with asyncio.timeout(SOON):
            assert [session.status for session in await vm.list_sessions()] == ["running", "running"]
            # What an agent calls in a prompt that the VM waits for may need the VM itself.
            await vm.write_file("go.txt", "go")
            assert (await tool).text == "['go.txt']"
            assert not later.done()
            assert await vm.cancel_prompt(sessions[0].session_id)
            assert (await waiting).stop_reason == "cancelled"
            assert (await later).text == "later"


@pytest.mark.anyio
async def test_what_asks_for_new_work_waits_for_the_vm_that_comes(tmp_path: Path) -> None:
    async with Machine(agent_os(agents=[agents.function(waits)]), tmp_path) as vm:
        session = await vm.create_session("waits")
        begun = vm.heard("prompt", "wait")
        waiting = asyncio.create_task(vm.send_prompt(session.session_id, "wait"))
        await begun.wait()
        other = agents.function(waits, name="other")
        await vm.registry.deploy("vm", agent_os(agents=[agents.function(waits), other]))
        created = asyncio.create_task(vm.create_session("other"))
        assert await vm.cancel_prompt(session.session_id)
        assert (await waiting).stop_reason == "cancelled"
        assert (await asyncio.wait_for(created, SOON)).agent == "other"


@pytest.mark.anyio
async def test_cancelling_reaches_the_prompts_that_wait_behind_another(tmp_path: Path) -> None:
    async with Machine(agent_os(agents=[agents.function(waits)]), tmp_path) as vm:
        session_id = (await vm.create_session("waits")).session_id
        begun = vm.heard("prompt", "wait")
        prompts = [asyncio.create_task(vm.send_prompt(session_id, text)) for text in ("wait", "second", "third")]
        await begun.wait()
        session = await sessions_of(vm.workspaces, vm.actor_id).opened(session_id)
        while len(session.waiting) < 2:  # noqa: ASYNC110  # there is no event for it
            await asyncio.sleep(0)
        assert await vm.cancel_prompt(session_id)
        async with asyncio.timeout(SOON):
            results = await asyncio.gather(*prompts)
            assert [(result.text, result.stop_reason) for result in results] == [("", "cancelled")] * 3
            assert not await vm.cancel_prompt(session_id)
            assert (await vm.send_prompt(session_id, "later")).text == "later"
        told = [event.text for event in await vm.session_events(session_id) if event.type == "prompt"]
        assert told == ["wait", "later"]


@pytest.mark.anyio
async def test_destroying_a_vm_cancels_its_prompts_and_ends_its_commands(tmp_path: Path) -> None:
    async with Machine(agent_os(agents=[agents.function(waits)], isolation="off"), tmp_path) as vm:
        session_id = (await vm.create_session("waits")).session_id
        begun = vm.heard("prompt", "wait")
        running = asyncio.Event()
        vm.registry.host.listen(vm.actor_id, "process_output", lambda _: running.set())
        prompts = [asyncio.create_task(vm.send_prompt(session_id, text)) for text in ("wait", "second")]
        command = asyncio.create_task(vm.exec("echo running; sleep 600"))
        await begun.wait()
        await running.wait()
        activation = await vm.activation()
        async with asyncio.timeout(SOON):
            await vm.destroy()
            await activation.ended.wait()
            assert [(await prompt).stop_reason for prompt in prompts] == ["cancelled"] * 2
            assert (await command).exit_code == 143
            assert (await vm.get_session(session_id)).closed_reason == "the VM was destroyed"


@pytest.mark.anyio
async def test_a_prompt_that_begins_while_its_session_is_closed_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Machine(agent_os(agents=[agents.function(waits)]), tmp_path) as vm:
        session_id = (await vm.create_session("waits")).session_id
        ensuring, go_on = threading.Event(), threading.Event()

        def ensure(workspace: Workspace) -> None:
            ensuring.set()
            go_on.wait(SOON)

        monkeypatch.setattr(Workspace, "ensure", ensure)
        prompt = asyncio.create_task(vm.send_prompt(session_id, "too late"))
        await asyncio.to_thread(ensuring.wait)
        await vm.close_session(session_id)
        go_on.set()
        assert (await asyncio.wait_for(prompt, SOON)).stop_reason == "cancelled"
        assert await vm.session_events(session_id) == []
        with pytest.raises(SessionUnknown, match="was closed"):
            await vm.send_prompt(session_id, "much too late")
