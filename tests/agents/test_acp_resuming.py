"""Sessions taken up again after sleep, a restart and a death: loaded by the agent itself, or told how they ended."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import agent_os, agents
from agentq_nb.agent_os.agents import AcpAgent
from agentq_nb.agent_os.agents.acp import conversation
from agentq_nb.errors import AgentError, PromptFailed, SessionUnknown, ValidationFailed
from tests.agents.real_agents import need_agent, show_it_goes_on_after_a_restart
from tests.agents.running import all_gone, marked, new_mark
from tests.unit.agent_os.machine import Machine

KEEPER = Path(__file__).with_name("keeping_agent.py")


def keeper(*words: str) -> AcpAgent:
    return agents.acp("keeper", [sys.executable, str(KEEPER), *words], readable=[KEEPER.parent])


def machine(folder: Path, *words: str) -> Machine:
    return Machine(agent_os(agents=[keeper(*words)]), folder)


async def ask(vm: Any, session_id: str, text: str) -> dict[str, Any]:
    """What the agent says of itself beside its answer."""
    return json.loads((await vm.send_prompt(session_id, text)).text)


async def end(vm: Any, way: str, session_id: str) -> None:
    """End the session's process."""
    if way == "sleep":
        await vm.sleep()
    elif way == "restart":
        await vm.restart()
    else:
        with pytest.raises(PromptFailed, match="in the middle of a prompt"):
            await vm.send_prompt(session_id, "die")


def notes(events: list[Any]) -> list[str]:
    return [event.text or "" for event in events if event.type == "note"]


@pytest.mark.parametrize("way", ["sleep", "restart", "death"])
@pytest.mark.parametrize("late", [False, True])
def test_an_agent_that_can_load_its_session_does_and_what_it_replays_is_not_told_twice(
    late: bool, way: str, tmp_path: Path
) -> None:
    async def program() -> None:
        async with machine(tmp_path, "loads", *(["late"] if late else [])) as vm:
            session = await vm.create_session("keeper", keep=True)
            assert session.resumed is None
            assert (await ask(vm, session.session_id, "first"))["before"] == 0
            before = (await vm.get_session(session.session_id)).agent_session_id
            await end(vm, way, session.session_id)
            resumed = await vm.resume_session(session.session_id)
            assert (resumed.resumed, resumed.agent_session_id) == ("loaded", before)
            answer = await ask(vm, session.session_id, "second")
            assert (answer["before"], answer["blocks"]) == (1, ["second"])
            events = await vm.session_events(session.session_id)
            texts = [json.loads(event.text)["blocks"][0] for event in events if event.type == "text"]
            assert texts == ["first", "second"]
            assert notes(events) == ["The agent's process was restarted and has loaded the conversation."]
            # A process that runs is left alone.
            assert (await vm.resume_session(session.session_id)).resumed == "loaded"
            assert await vm.session_events(session.session_id) == events

    asyncio.run(program())


@pytest.mark.parametrize("way", ["sleep", "restart", "death"])
def test_an_agent_that_cannot_load_its_session_is_told_how_it_ended(way: str, tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("keeper", keep=True)
            await ask(vm, session.session_id, "first")
            before = (await vm.get_session(session.session_id)).agent_session_id
            await end(vm, way, session.session_id)
            assert (await vm.resume_session(session.session_id)).resumed == "told"
            answer = await ask(vm, session.session_id, "second")
            assert answer["before"] == 0
            assert answer["blocks"][0] == "second"
            assert "User: first" in answer["blocks"][1]
            assert notes(await vm.session_events(session.session_id)) == [
                "The agent's process was restarted; it was told how the conversation went so far."
            ]
            # From now on this new session is the one to load.
            after = (await vm.get_session(session.session_id)).agent_session_id
            assert after not in (None, before)
            await vm.restart()
            assert (await vm.get_session(session.session_id)).agent_session_id == after

    asyncio.run(program())


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("refuses", "Resource not found"), ("dies", "too much for me"), ("mute", "did not get ready")],
)
def test_where_loading_fails_the_agent_is_told_how_it_ended_and_the_note_says_why(
    fault: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = new_mark()

    async def program() -> None:
        async with machine(tmp_path, "loads", fault) as vm:
            session = await vm.create_session("keeper", env=mark)
            await ask(vm, session.session_id, "first")
            await vm.sleep()
            if fault == "mute":
                monkeypatch.setattr(conversation, "_STARTING", 2.0)
            answer = await ask(vm, session.session_id, "second")
            assert "User: first" in answer["blocks"][1]
            assert (await vm.get_session(session.session_id)).resumed == "told"
            (note,) = notes(await vm.session_events(session.session_id))
            assert "It could not load it itself" in note
            assert reason in note
            await vm.close_session(session.session_id)
            assert marked(mark) == []

    asyncio.run(program())
    assert all_gone(mark)


def test_a_session_in_which_nothing_was_said_just_begins_again(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path, "loads", "refuses") as vm:
            session = await vm.create_session("keeper")
            await vm.sleep()
            assert (await ask(vm, session.session_id, "first"))["blocks"] == ["first"]
            assert notes(await vm.session_events(session.session_id)) == []
            assert (await vm.get_session(session.session_id)).resumed is None

    asyncio.run(program())


def test_after_a_restart_what_was_in_memory_only_is_asked_for_by_name(tmp_path: Path) -> None:
    env = {"API_KEY": "sk-not-a-real-key"}
    server = {"name": "docs", "url": "http://127.0.0.1:1/mcp", "headers": {"Authorization": "Bearer 0123456789"}}

    async def program() -> None:
        async with machine(tmp_path, "loads") as vm:
            session = await vm.create_session("keeper", env=env, mcp_servers=[server], keep=True)
            assert session.mcp_servers == ("docs",)
            await ask(vm, session.session_id, "first")
            await vm.restart()
            assert (await vm.get_session(session.session_id)).mcp_servers == ("docs",)
            with pytest.raises(PromptFailed, match=r"API_KEY, the MCP server 'docs' again.*with mcp_servers="):
                await vm.send_prompt(session.session_id, "second")
            with pytest.raises(ValidationFailed, match="needs the MCP server 'docs' too"):
                await vm.resume_session(session.session_id, env=env)
            resumed = await vm.resume_session(session.session_id, env=env, mcp_servers=[server])
            assert resumed.resumed == "loaded"
            assert (await vm.send_prompt(session.session_id, "second")).stop_reason == "end_turn"

    asyncio.run(program())
    for path in tmp_path.glob("nb.agentq.duckdb*"):
        for secret in (b"sk-not-a-real-key", b"0123456789"):
            assert secret not in path.read_bytes(), path


def test_what_cannot_be_resumed_says_so(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path, "loads") as vm:
            with pytest.raises(SessionUnknown, match="no session 'nonsense'"):
                await vm.resume_session("nonsense")
            session = await vm.create_session("keeper")
            await vm.close_session(session.session_id)
            await vm.restart()
            with pytest.raises(SessionUnknown, match="was closed"):
                await vm.resume_session(session.session_id)

    asyncio.run(program())


def test_an_agent_that_does_not_start_again_leaves_the_session_open(tmp_path: Path) -> None:
    async def program() -> None:
        script = tmp_path / "agent.sh"
        script.write_text(f'#!/bin/sh\n[ -e "$HOME/broken" ] && exit 3\nexec {sys.executable} {KEEPER} loads\n')
        script.chmod(0o755)
        agent = agents.acp("keeper", [str(script)], readable=[KEEPER.parent])
        async with Machine(agent_os(agents=[agent]), tmp_path) as vm:
            session = await vm.create_session("keeper")
            await ask(vm, session.session_id, "first")
            await vm.sleep()
            await vm.write_file("broken", "")
            with pytest.raises(AgentError, match=r"before it was ready \(exit code 3\)"):
                await vm.resume_session(session.session_id)
            await vm.delete("broken")
            assert (await ask(vm, session.session_id, "second"))["before"] == 1

    asyncio.run(program())


@pytest.mark.parametrize("agent", [agents.pi, agents.claude, agents.codex], ids=lambda agent: agent.name)
def test_a_real_agent_loads_its_session_after_a_restart(agent: AcpAgent, tmp_path: Path) -> None:
    need_agent(agent)
    assert show_it_goes_on_after_a_restart(agent, tmp_path) == "loaded"
