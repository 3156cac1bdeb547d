"""What an agent writes to its stdout besides good frames: nothing of a turn is lost for it, and no raw error comes of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agentq_nb.agent_os.agents.acp.frames import read_line
from agentq_nb.errors import PromptFailed
from tests.agents.test_acp_faults import SECRET, machine, texts

UPDATE = b'{"jsonrpc": "2.0", "method": "session/update", "params": {}}'


def test_frames_that_share_their_line_with_a_banner_or_a_progress_bar_are_read(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            assert (await vm.send_prompt(session.session_id, "banner")).text == "one two three four"
            (note,) = texts(await vm.session_events(session.session_id), "note")
            assert note is not None
            assert "no frame of the protocol" in note
            assert "Welcome to the agent! {not a frame}" in note

    asyncio.run(program())


def test_each_broken_frame_is_told_with_its_beginning_and_the_agent_goes_on(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            assert (await vm.send_prompt(session.session_id, "broken")).text == "still here"
            notes = texts(await vm.session_events(session.session_id), "note")
            assert len(notes) == 5
            assert all("broken frame" in (note or "") and "jsonrpc" in (note or "") for note in notes)
            assert (await vm.send_prompt(session.session_id, "count 2")).text == "0 1 "

    asyncio.run(program())


def test_a_reason_to_stop_that_is_not_known_is_told_as_it_is_with_the_text(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            result = await vm.send_prompt(session.session_id, 'end_as "result": {"stopReason": "budget_exhausted"}')
            assert (result.text, result.stop_reason) == ("the text", "budget_exhausted")
            (note,) = texts(await vm.session_events(session.session_id), "note")
            assert "budget_exhausted" in (note or "")

    asyncio.run(program())


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ('"result": {}', "without a reason"),
        ('"result": null', "without a reason"),
        ('"result": {"stopReason": 7, "more": "beginning"}', "without a reason.*7.*beginning"),
        ('"error": "beginning"', "could not answer.*broken"),
        ('"result": {"stopReason"', "could not answer.*broken"),
    ],
)
def test_an_answer_that_cannot_be_read_is_an_error_that_says_so(answer: str, says: str, tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            with pytest.raises(PromptFailed, match=says) as failed:
                await vm.send_prompt(session.session_id, f"end_as {answer}")
            assert "pydantic" not in str(failed.value)
            assert texts(await vm.session_events(session.session_id), "text") == ["the text"]
            assert (await vm.send_prompt(session.session_id, "count 2")).text == "0 1 "

    asyncio.run(program())


def test_usage_that_cannot_be_read_costs_no_turn(tmp_path: Path) -> None:
    async def program() -> None:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub")
            answer = '"result": {"stopReason": "end_turn", "usage": {"inputTokens": "many"}}'
            result = await vm.send_prompt(session.session_id, f"end_as {answer}")
            assert (result.text, result.usage) == ("the text", None)

    asyncio.run(program())


def test_no_half_of_a_secret_is_left_where_a_line_is_cut(tmp_path: Path) -> None:
    async def program() -> str:
        async with machine(tmp_path) as vm:
            session = await vm.create_session("stub", env={"API_KEY": SECRET})
            await vm.send_prompt(session.session_id, "noise_with_key")
            return repr(texts(await vm.session_events(session.session_id), "note"))

    notes = asyncio.run(program())
    assert "xxxx" in notes
    assert SECRET[:6] not in notes


@pytest.mark.parametrize(
    ("line", "frames", "rest"),
    [
        (UPDATE, 1, ""),
        (b"50%\r" + UPDATE, 1, "50%"),
        (UPDATE + b"done", 1, "done"),
        (UPDATE + UPDATE, 2, ""),
        (b"\xff\xfe " + UPDATE, 1, "\ufffd\ufffd"),
        (b'{"level": "info"}', 0, '{"level": "info"}'),
        (UPDATE[:-1], 0, UPDATE[:-1].decode()),
    ],
)
def test_a_line_is_taken_apart(line: bytes, frames: int, rest: str) -> None:
    read = read_line(line)
    assert (len(read.frames), read.rest) == (frames, rest)


def test_a_line_that_is_made_to_be_slow_is_not() -> None:
    """Each place where a frame may begin would be read to the end of the line."""
    assert read_line(b'{"id":' * 100_000).frames == []
