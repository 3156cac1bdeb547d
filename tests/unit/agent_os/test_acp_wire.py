"""What a conversation over ACP does with what its agent writes, and how it ends: without a process."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from agentq_nb.agent_os.agents.acp.conversation import Conversation
from agentq_nb.agent_os.agents.acp.wire import Wire

pytestmark = pytest.mark.anyio


class Process:
    """An agent that writes what the test gives it, and reads all at once."""

    exit_code = None

    def __init__(self) -> None:
        self.output = asyncio.StreamReader()
        self.input = self
        self.written = b""
        self.abandoned = False

    def writes(self, text: str) -> None:
        self.output.feed_data(text.encode() + b"\n")

    def write(self, frame: bytes) -> None:
        self.written += frame

    async def drain(self) -> None: ...

    def has_unread_input(self) -> bool:
        return False

    def last_words(self) -> str:
        return ""

    def abandon(self) -> None:
        self.abandoned = True

    async def aclose(self) -> None:
        self.output.feed_eof()


async def turns_of_the_loop() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def conversation(process: Any) -> Conversation:
    session: Any = SimpleNamespace(agent="stub", env={}, agent_session_id=None, redact=str)
    agent: Any = SimpleNamespace(name="stub", greeting=None)
    return Conversation(process, session, agent, None)


async def test_a_frame_that_is_held_ends_only_when_what_came_before_it_has_been_handled() -> None:
    process: Any = Process()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def update(reported: Any) -> None:
        begun.set()
        await go_on.wait()

    async def noise(line: Any) -> None:
        raise AssertionError(line)

    wire = Wire(process, object(), update, noise)
    said = {"method": "session/update", "params": {"update": {"sessionUpdate": "agent_message_chunk"}}}
    process.writes(json.dumps(said))
    await begun.wait()
    wire.hold_next()
    sending = asyncio.create_task(wire.notify("session/cancel"))
    await turns_of_the_loop()
    assert process.written.startswith(b"{")
    assert not process.written.endswith(b"\n")
    go_on.set()
    await sending
    assert process.written.endswith(b"}\n")
    await wire.aclose()


async def test_lines_that_are_no_frames_before_the_first_turn_end_nothing_and_the_first_is_kept() -> None:
    process: Any = Process()
    talk = conversation(process)
    process.writes("Welcome to the agent!")
    process.writes("A new version is there.")
    await turns_of_the_loop()
    assert talk.alive
    assert "'Welcome to the agent!" in talk.last_words()
    assert "new version" not in talk.last_words()
    await talk.aclose()
    assert not talk.alive


async def test_a_conversation_that_is_abandoned_leaves_no_process_behind() -> None:
    process: Any = Process()
    talk = conversation(process)
    talk.abandon()
    assert process.abandoned
    await talk.aclose()
