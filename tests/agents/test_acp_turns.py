"""What an agent says after the end of a turn belongs to that turn, and to no other."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agentq_nb.agent_os import SessionEvent
from tests.agents.test_acp_faults import machine


def by_turn(events: list[SessionEvent]) -> list[str]:
    """What was said in each turn, notes that came late left out."""
    turns: list[str] = []
    for event in events:
        if event.type == "prompt":
            turns.append("")
        elif event.type == "text":
            turns[-1] += event.text or ""
    return turns


def late_notes(events: list[SessionEvent]) -> list[str | None]:
    return [event.text for event in events if event.type == "note" and event.data.get("late")]


@pytest.mark.parametrize("seconds", [0, 0.05])
def test_text_that_comes_right_after_the_end_of_a_turn_is_part_of_its_result(seconds: float, tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            result = await vm.send_prompt(session.session_id, f"late begin1 {seconds} END1")
            assert (result.text, result.stop_reason) == ("begin1END1", "end_turn")
            assert (await vm.send_prompt(session.session_id, "count 2")).text == "0 1 "
            events = await vm.session_events(session.session_id)
            assert by_turn(events) == ["begin1END1", "0 1 "]
            assert [event.type for event in events].count("result") == 2

    asyncio.run(program())


def test_text_that_comes_between_two_prompts_is_in_the_transcript_of_the_first(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            came = vm.heard("text", "END1")
            result = await vm.send_prompt(session.session_id, "late begin1 0.5 END1")
            assert result.text == "begin1"
            await came.wait()
            assert (await vm.send_prompt(session.session_id, "count 2")).text == "0 1 "
            assert by_turn(await vm.session_events(session.session_id)) == ["begin1END1", "0 1 "]
            # Its agent is waited for longer from now on.
            result = await vm.send_prompt(session.session_id, "late begin3 0.5 END3")
            assert result.text == "begin3END3"

    asyncio.run(program())


@pytest.mark.parametrize("pause", [0, 0.5])
def test_text_written_before_the_agent_read_the_next_prompt_is_none_of_the_next_turn(
    pause: float, tmp_path: Path
) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            assert (await vm.send_prompt(session.session_id, f"late begin1 0.5 END1 {pause}")).text == "begin1"
            assert (await vm.send_prompt(session.session_id, "count 2")).text == "0 1 "
            events = await vm.session_events(session.session_id)
            assert by_turn(events) == ["begin1", "0 1 "]
            assert late_notes(events) == ["END1"]

    asyncio.run(program())


def test_text_of_a_message_and_output_of_a_tool_that_began_a_turn_earlier_are_none_of_the_next(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            assert (await vm.send_prompt(session.session_id, "later begin1 END1")).text == "begin1"
            second = await vm.send_prompt(session.session_id, "next")
            assert second.text == "begin2 end2"
            assert second.tool_calls == ()
            events = await vm.session_events(session.session_id)
            assert late_notes(events) == ["END1"]
            results = [event.data for event in events if event.type == "tool_result"]
            assert [(data["output"], data["late"]) for data in results] == [("the slow output", True)]

    asyncio.run(program())


@pytest.mark.parametrize("restart", [False, True], ids=["from memory", "from the log"])
def test_an_agent_that_is_started_again_is_told_what_it_said_late(restart: bool, tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub", keep=True)
            await vm.send_prompt(session.session_id, "late begin1 0.5 END1")
            await vm.send_prompt(session.session_id, "count 2")
            came = vm.heard("text", "END3")
            await vm.send_prompt(session.session_id, "late begin3 1.5 END3")
            await came.wait()
            await (vm.restart() if restart else vm.sleep())
            _, briefing = json.loads((await vm.send_prompt(session.session_id, "and now?")).text)
            told = briefing.partition("This continues an earlier conversation. Its end:\n\n")[2]
            assert [part.partition("\n\n")[0] for part in told.split("You: ")[1:]] == [
                "begin1END1",
                "0 1 ",
                "begin3END3",
            ]

    asyncio.run(program())


def test_text_after_a_cancelled_turn_belongs_to_it(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            begun = vm.heard("text", "begin1")
            prompt = asyncio.create_task(vm.send_prompt(session.session_id, "until_cancelled begin1 0.02 END1"))
            await begun.wait()
            assert await vm.cancel_prompt(session.session_id)
            result = await prompt
            assert (result.text, result.stop_reason) == ("begin1END1", "cancelled")
            assert (await vm.send_prompt(session.session_id, "count 2")).text == "0 1 "
            assert by_turn(await vm.session_events(session.session_id)) == ["begin1END1", "0 1 "]

    asyncio.run(program())


def test_text_after_an_error_of_the_agent_belongs_to_the_turn_that_failed(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            with pytest.raises(Exception, match="could not answer: Internal error"):
                await vm.send_prompt(session.session_id, "refuse_late END1")
            assert (await vm.send_prompt(session.session_id, "count 2")).text == "0 1 "
            events = await vm.session_events(session.session_id)
            assert by_turn(events) == ["END1", "0 1 "]
            assert [event.type for event in events][:3] == ["prompt", "text", "error"]

    asyncio.run(program())


def test_a_permission_asked_before_the_agent_read_the_next_prompt_is_not_put_to_anybody(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            await vm.send_prompt(session.session_id, "ask_late 0.5")
            second = await vm.send_prompt(session.session_id, "count 2")
            assert second.text == "0 1 "
            events = await vm.session_events(session.session_id)
            assert not any(event.type.startswith("permission") for event in events)
            assert late_notes(events) == ['{"outcome": "cancelled"}']

    asyncio.run(program())
