"""Record the queue depths and transcripts of a host while a view of it is open. Runs in the host's loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agentq_nb._brokers.statuses import QueueStatus
from agentq_nb._host.host import Host
from agentq_nb._notebook.dashboard.transcripts import MOST_BLOCKS, Blocks, said_last
from agentq_nb.agent_os import SessionEvent, SessionInfo
from agentq_nb.agent_os.sessions.sessions import sessions_of

HISTORY = 300.0
"""Seconds of history that are kept for each queue."""
_SPACING = 2.0
_PIECES_READ = 2_000
_MOST_BEGUN = 200
_FORGOTTEN = 1_000
"""How many queues that are not shown any more may keep their history, in case they are shown again."""

Point = tuple[float, int, int]
"""The time on the monotonic clock, how many messages were waiting or running, and how many had been handled."""


@dataclass
class Activity:
    """The last activity of a session."""

    at: float
    events: int
    said: str
    answer: str = ""
    """The end of the answer that is being streamed."""


@dataclass
class Followed:
    """A transcript that a view shows."""

    actor: str
    blocks: Blocks = field(default_factory=Blocks)
    early: list[SessionEvent] | None = field(default_factory=list[SessionEvent])
    """Events that arrived while the log was being read; None once it was read."""
    viewers: int = 0


class HistoryRecorder:
    """Records a host's history as long as a view of it is open; see :func:`recorder_of`."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.activity: dict[str, Activity] = {}
        self.begun: deque[tuple[str, SessionInfo]] = deque(maxlen=_MOST_BEGUN)
        """The latest sessions with an event, and their VMs: a session may begin and end between two snapshots."""
        self.followed: dict[str, Followed] = {}
        self._histories: dict[str, deque[Point]] = {}
        self.close = host.listeners.observe(self._observe)
        """Stop recording."""

    # --- broadcasts ---------------------------------------------------------------------------------------------------

    def _observe(self, actor: str, event: str, payload: Any) -> None:
        if event == "session_event" and isinstance(payload, SessionEvent):
            self._said(actor, payload)

    def _said(self, actor: str, event: SessionEvent) -> None:
        before = self.activity.get(event.session_id)
        if before is None:
            known = sessions_of(self.host.workspaces, actor).now_open()
            self.begun.extend((actor, info) for info in known if info.session_id == event.session_id)
        said, answer = said_last(event, before.answer if before else "")
        self.activity[event.session_id] = Activity(event.time.timestamp(), event.index, said, answer)
        if (followed := self.followed.get(event.session_id)) is not None:
            if followed.early is None:
                followed.blocks.add([event])
            else:
                followed.early.append(event)

    # --- transcripts --------------------------------------------------------------------------------------------------

    async def follow(self, actor: str, session: str) -> None:
        """Keep the transcript's last blocks, from the log and then live. Undone by :meth:`leave`."""
        followed = self.followed.get(session)
        if followed is None:
            followed = self.followed[session] = Followed(actor)
            followed.blocks.add(await self.read(actor, session))
            followed.blocks.add(followed.early or ())
            followed.early = None
        followed.viewers += 1

    def leave(self, session: str) -> None:
        """Note that one view no longer shows the transcript."""
        followed = self.followed.get(session)
        if followed is not None:
            followed.viewers -= 1
            if followed.viewers <= 0:
                del self.followed[session]

    async def read(self, actor: str, session: str, before: int | None = None) -> Sequence[SessionEvent]:
        """Return the last events in the log, or the last before an index."""
        from agentq_nb.agent_os.transcript import as_mapping, event_of, in_utc

        limit = "" if before is None else "AND CAST(data->>'index' AS BIGINT) < ? "
        rows = await self.host.records_of(actor).fetch(
            "SELECT time, data FROM events WHERE kind = 'session.event' AND actor_id = ? AND session_id = ? "
            f"{limit}ORDER BY seq DESC LIMIT {_PIECES_READ}",
            (actor, session) if before is None else (actor, session, before),
        )
        return [event_of(session, in_utc(time), as_mapping(data)) for time, data in reversed(rows)]

    async def earlier(self, actor: str, session: str, before: int) -> dict[str, dict[str, Any]]:
        """Return the last blocks of a transcript before an index."""
        blocks = Blocks(MOST_BLOCKS // 2)
        blocks.add(await self.read(actor, session, before))
        return blocks.section()

    # --- history ------------------------------------------------------------------------------------------------------

    def sample(self, queues: Sequence[QueueStatus], now: float) -> None:
        """Record the depths of the queues that are shown. Only changes are kept: a line stays level until the next."""
        if len(self._histories) > 2 * len(queues) + _FORGOTTEN:
            shown = {key_of(queue) for queue in queues}
            self._histories = {key: points for key, points in self._histories.items() if key in shown}
        for queue in queues:
            points = self._histories.setdefault(key_of(queue), deque())
            live, handled = queue.live, queue.handled
            if points and points[-1][1:] == (live, handled):
                continue
            if len(points) > 1 and now - points[-2][0] < _SPACING:
                points.pop()
            points.append((round(now, 1), live, handled))
            while len(points) > 2 and points[1][0] < now - HISTORY:
                points.popleft()

    def histories(self) -> dict[str, list[Point]]:
        """Return the points of each queue, oldest first."""
        return {key: list(points) for key, points in self._histories.items()}


def key_of(queue: QueueStatus) -> str:
    """Return a queue's key in messages to the page. Neither part contains a space."""
    return f"{queue.actor} {queue.queue}"


_recorders: dict[str, HistoryRecorder] = {}
"""The recorders by the host's identity."""


def recorder_of(host: Host) -> HistoryRecorder:
    """Return the recorder of a host, which all its views share. Must be called in the host's loop."""
    recorder = _recorders.get(host.identity)
    if recorder is None:
        for ended in [known for known, other in _recorders.items() if not other.host.running]:
            _recorders.pop(ended).close()
        recorder = _recorders[host.identity] = HistoryRecorder(host)
    return recorder
