"""Assign updates to turns: agents send updates after the end of a turn, which must not count for the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentq_nb.agent_os.agent import AgentEvent, AgentSession, Emit
from agentq_nb.agent_os.agents.acp.limit_watch import LimitWatch
from agentq_nb.agent_os.agents.acp.updates import Updates
from agentq_nb.agent_os.agents.acp.wire import Wire

_GRACE = 0.05  # seconds without an update after the end of a turn, for updates that directly follow it
_GRACE_ONCE_LATE = 1.0  # the same for an agent that once sent an update later than that
_MOST_BROKEN = 10  # broken frames that are reported for a turn
_LONGEST_GRACE = 10.0  # seconds; after that, an agent that still sends updates is not waited for


class Turn:
    """One prompt, and the agent's updates in answer to it."""

    def __init__(self, emit: Emit, number: int, session: AgentSession) -> None:
        self.limits = LimitWatch(session.agent, session.env)
        self.number = number
        """The number of the frame that carries the prompt."""
        self.over = False
        self.cancelled = False
        self.updates = Updates()
        self._emit = emit
        self._messages: set[str] = set()
        self._noise = {True: _MOST_BROKEN, False: 1}

    async def emit(self, event: AgentEvent) -> None:
        """Emit one event."""
        await self._emit(event)

    async def take(self, update: Mapping[str, Any]) -> None:
        """Emit the events of an update."""
        if isinstance(message := update.get("messageId"), str):
            self._messages.add(message)
        self.limits.take(update)
        await self._tell(self.updates.events(update))

    async def finish(self) -> None:
        """Emit the remaining events when no more updates come."""
        await self._tell(self.updates.finish())

    def knows(self, update: Mapping[str, Any]) -> bool:
        """Whether an update continues a message or a tool call of this turn."""
        message = update.get("messageId")
        if isinstance(message, str) and message in self._messages:
            return True
        return update.get("sessionUpdate") == "tool_call_update" and self.updates.knows_tool(update)

    def tells_noise(self, broken: bool) -> bool:
        """Whether to report one more invalid line; a progress bar writes many."""
        self._noise[broken] -= 1
        return self._noise[broken] >= 0

    async def _tell(self, events: Iterator[AgentEvent]) -> None:
        for event in events:
            await self._emit(event)


class Turns:
    """The current or last turn, and the one before it, which may still get updates."""

    def __init__(self, wire: Wire, session: AgentSession) -> None:
        self._wire = wire
        self._session = session
        self._last: Turn | None = None
        self._before: Turn | None = None
        self._grace = _GRACE

    @property
    def running(self) -> Turn | None:
        """The turn whose prompt the agent has read and not yet answered."""
        turn = self._last
        return turn if turn is not None and not turn.over and self._wire.read >= turn.number else None

    def begin(self, emit: Emit) -> Turn:
        """Return a new turn; call it right before its prompt is sent."""
        self._wire.hold_next()
        self._before, self._last = self._last, Turn(emit, self._wire.written + 1, self._session)
        return self._last

    async def end(self, turn: Turn) -> None:
        """Wait briefly for updates right after the agent's answer, which are still part of the turn."""
        await self._wire.quiet(self._grace, _LONGEST_GRACE)
        if self._before is not None:
            await self._before.finish()
        await turn.finish()
        turn.over = True

    async def take(self, update: Mapping[str, Any]) -> None:
        """Emit an update in its turn; drop it if that was with an earlier process."""
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
