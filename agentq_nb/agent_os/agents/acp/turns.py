"""Which turn an update belongs to. Agents tell things after the end of a turn, and those never count for the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentq_nb.agent_os.agent import AgentEvent, Emit
from agentq_nb.agent_os.agents.acp.updates import Updates
from agentq_nb.agent_os.agents.acp.wire import Wire

_GRACE = 0.05  # seconds without an update after the end of a turn, for what comes right behind it
_GRACE_ONCE_LATE = 1.0  # the same for an agent that has once told something later than that
_MOST_BROKEN = 10  # broken frames of a turn that are told
_LONGEST_GRACE = 10.0  # seconds; whoever goes on all the same is not waited for


class Turn:
    """One prompt, and what the agent tells in answer to it."""

    def __init__(self, emit: Emit, number: int) -> None:
        self.number = number
        """Of the frame that carries the prompt."""
        self.over = False
        self.cancelled = False
        self.updates = Updates()
        self._emit = emit
        self._messages: set[str] = set()
        self._noise = {True: _MOST_BROKEN, False: 1}

    async def emit(self, event: AgentEvent) -> None:
        """Tell one event."""
        await self._emit(event)

    async def take(self, update: Mapping[str, Any]) -> None:
        """Tell what an update says."""
        if isinstance(message := update.get("messageId"), str):
            self._messages.add(message)
        await self._tell(self.updates.events(update))

    async def finish(self) -> None:
        """Tell what is still to be told when nothing more comes."""
        await self._tell(self.updates.finish())

    def knows(self, update: Mapping[str, Any]) -> bool:
        """Whether an update goes on with a message or a tool call of this turn."""
        message = update.get("messageId")
        if isinstance(message, str) and message in self._messages:
            return True
        return update.get("sessionUpdate") == "tool_call_update" and self.updates.knows_tool(update)

    def tells_noise(self, broken: bool) -> bool:
        """Whether one more line that is no frame is to be told; a progress bar writes many."""
        self._noise[broken] -= 1
        return self._noise[broken] >= 0

    async def _tell(self, events: Iterator[AgentEvent]) -> None:
        for event in events:
            await self._emit(event)


class Turns:
    """The turn that runs, or ran last, and the one before it, for which something may still come."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._last: Turn | None = None
        self._before: Turn | None = None
        self._grace = _GRACE

    @property
    def running(self) -> Turn | None:
        """The turn whose prompt the agent has read and not yet answered."""
        turn = self._last
        return turn if turn is not None and not turn.over and self._wire.read >= turn.number else None

    def begin(self, emit: Emit) -> Turn:
        """A new turn, to be called right before its prompt is sent."""
        self._wire.hold_next()
        self._before, self._last = self._last, Turn(emit, self._wire.written + 1)
        return self._last

    async def end(self, turn: Turn) -> None:
        """Wait a moment for what comes right after the agent's answer: it is still part of the turn."""
        await self._wire.quiet(self._grace, _LONGEST_GRACE)
        if self._before is not None:
            await self._before.finish()
        await turn.finish()
        turn.over = True

    async def take(self, update: Mapping[str, Any]) -> None:
        """Tell an update in the turn that it belongs to; dropped where that was with an earlier process."""
        turn, before = self._last, self._before
        if turn is None:
            return
        earlier = self._wire.read < turn.number or (
            before is not None and before.knows(update) and not turn.knows(update)
        )
        if not earlier:
            if turn.over:
                self._grace = _GRACE_ONCE_LATE
            elif before is not None:
                await before.finish()
            await turn.take(update)
        elif before is not None:
            self._grace = _GRACE_ONCE_LATE
            before.updates.overtaken = True
            await before.take(update)
