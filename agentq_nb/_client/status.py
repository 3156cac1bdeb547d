"""How things stand: what ``status()`` of a host or an actor says. Read from memory, but for what had completed earlier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from agentq_nb._brokers.base import QueueStatus
from agentq_nb._core.ids import ActorId
from agentq_nb._core.loop_monitor import Stall

ActorState: TypeAlias = Literal["awake", "waking", "closing", "asleep", "waiting for its class", "failed to start"]


@dataclass(frozen=True)
class ActorStatus:
    """One actor.

    :ivar run: whether its loop is running, has returned, or waits to be started again after a failure.
    :ivar restarts_at: when it is started again, in seconds since 1970.
    :ivar last_error: the last failure of ``run``, of a scheduled action or of waking, as a JSON object.
    :ivar recovered: whether a message has come to a good end since that failure.
    :ivar orphaned: queues that hold messages but that the class does not declare any more.
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
    orphaned: Sequence[str] = ()


@dataclass(frozen=True)
class HostStatus:
    """The whole host.

    :ivar background: whether it has an event loop and a thread of its own, so that blocking cells do not hold it up.
    :ivar uptime: seconds since it was started.
    :ivar notices: sentences worth reading once: how the file was opened, and the like.
    :ivar waiting_for: actor names that have work but no class yet.
    :ivar trouble: what does not work just now and is tried again, or why it ended by itself; None when all is well.
    :ivar stall: the last time the loop stood still for over a second.
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

    @property
    def queues(self) -> list[QueueStatus]:
        """Every queue of every actor."""
        return [queue for actor in self.actors for queue in actor.queues]
