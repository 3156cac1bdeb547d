"""The values that ``status()`` of a host or an actor returns. Read from memory, except counts of earlier runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from agentq_nb._brokers.statuses import ActorHome, LimitStatus, QueueStatus
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.loop_monitor import Stall

ActorState: TypeAlias = Literal["awake", "waking", "closing", "asleep", "waiting for its class", "failed to start"]


@dataclass(frozen=True)
class ActorStatus:
    """The status of one actor.

    :ivar run: whether ``run`` is running, has returned, or waits to be restarted after a failure.
    :ivar restarts_at: when ``run`` is restarted, in seconds since 1970.
    :ivar last_error: the last failure of ``run``, of a scheduled action or of waking, as a JSON object.
    :ivar recovered: whether a message has completed since that failure.
    :ivar overdue: messages whose attempt has ended though the thread of their handler still works. Each keeps its place in
        the queue's ``concurrency``, and its next attempt waits, until the thread has ended.
    :ivar swallowed_limit: the last message that completed although its handler met a provider's limit, and what to do.
    :ivar orphaned: queues that hold messages but are no longer declared by the class.
    :ivar home: the host that has the actor's files, such as the workspace of a VM; None if it keeps none, or if no other
        host has the queues.
    :ivar host: the other host that runs the actor, by its machine and process; None: this one, or none.
    """

    actor_id: ActorId
    name: str
    state: ActorState
    run: Literal["none", "running", "returned", "restarting"] = "none"
    restarts_at: float | None = None
    last_error: Mapping[str, Any] | None = None
    recovered: bool = False
    closing: str | None = None
    queues: Sequence[QueueStatus] = ()
    overdue: Sequence[MessageId] = ()
    orphaned: Sequence[str] = ()
    swallowed_limit: str | None = None
    home: ActorHome | None = None
    host: str | None = None


@dataclass(frozen=True)
class HostStatus:
    """The status of the whole host.

    :ivar background: whether the host has its own event loop and thread, so that blocking cells do not delay it.
    :ivar uptime: seconds since the host started.
    :ivar notices: sentences worth reading once, such as how the file was opened.
    :ivar waiting_for: actor names that have work but no class yet.
    :ivar trouble: a current problem that is being retried, or why the host ended unexpectedly; None when all is well.
    :ivar limits: the limits of queues, with their use.
    :ivar server: the address, without its password, of the server that has the queues; None: they are in the file.
    :ivar stall: the last time the loop was blocked for over a second.
    """

    running: bool
    store: Path
    background: bool = False
    uptime: float = 0.0
    notices: Sequence[str] = ()
    actors: Sequence[ActorStatus] = ()
    waiting_for: Sequence[str] = ()
    trouble: str | None = None
    stall: Stall | None = None
    limits: Sequence[LimitStatus] = ()
    server: str | None = None

    @property
    def queues(self) -> list[QueueStatus]:
        """Return every queue of every actor."""
        return [queue for actor in self.actors for queue in actor.queues]
