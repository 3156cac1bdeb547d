"""The status of queues and limits, and the hosts that use them, as a broker reports it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._policies.limits import Limit
from agentq_nb._policies.pause import PastPause


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """A limit and its use.

    :ivar name: its name; that of a limit without one is the queue's: ``worker/main tasks``.
    :ivar count: how many starts, or messages at work, are allowed now; ``per`` how many seconds (None: at work).
    :ivar declared: the limit as it is declared.
    :ivar used: how many starts its window holds now, or how many messages are at work.
    :ivar next_start: when the next message may start, in seconds since 1970; None: when another one ends.
    :ivar waiting: how many queues wait for it.
    :ivar paused_until: when a provider's pause ends or the next message is tried; None: it is not paused.
    """

    name: str
    count: int
    per: float | None
    declared: Limit
    used: int
    next_start: float | None
    waiting: int = 0
    paused_until: float | None = None
    reason: str | None = None

    @property
    def changed(self) -> bool:
        """Whether a user has changed it."""
        return (self.count, self.per) != (self.declared.count, getattr(self.declared, "per", None))


class QueueStatus(NamedTuple):
    """The status of one queue: counts of messages, and the oldest ready one's age in seconds.

    Ready messages of a paused queue wait until ``paused_until`` (seconds since 1970; None: until resumed). ``handled``
    counts messages that completed or failed since the broker started; it may restart from 0. ``completed``
    counts all completed messages, except those pruned before the broker started; ``per_minute`` is the rate over the
    last five minutes.
    ``held_back``: the next message waits while messages that may have crashed the host are tried one at a time.
    ``expired`` counts as ``completed`` does. ``waiting_senders`` wait for room in the full queue.
    ``pause_reason``: what a provider said, if its limit pauses the queue, or why it is ``stopped`` because messages fail.
    ``blocked`` messages wait for others to complete, and count neither as ready nor as delayed.
    ``limited_by``: the name of the limit that holds the queue, and ``next_start`` when it lets the next message start
    (None: when another one ends).
    ``pauses``: the latest ones because of a provider's limit, oldest first, also those of before a restart.
    """

    actor: ActorId
    queue: str
    ready: int = 0
    delayed: int = 0
    running: int = 0
    dead: int = 0
    oldest: float | None = None
    running_ids: Sequence[MessageId] = ()
    paused: bool = False
    paused_until: float | None = None
    handled: int = 0
    completed: int = 0
    per_minute: float = 0.0
    held_back: bool = False
    expired: int = 0
    waiting_senders: int = 0
    pause_reason: str | None = None
    limited_by: str | None = None
    next_start: float | None = None
    stopped: bool = False
    pauses: Sequence[PastPause] = ()
    blocked: int = 0

    @property
    def done(self) -> int:
        """Messages that completed or are dead letters."""
        return self.completed + self.dead

    @property
    def total(self) -> int:
        """Messages that are done or live."""
        return self.done + self.live

    @property
    def time_left(self) -> float | None:
        """Seconds until all due messages are done, at the current rate. None: paused, nothing due, or no rate yet."""
        due = self.ready + self.running
        return None if self.paused or not due or not self.per_minute else 60 * due / self.per_minute

    @property
    def live(self) -> int:
        """Messages that are not settled, without dead letters."""
        return self.ready + self.delayed + self.blocked + self.running


class HostLease(NamedTuple):
    """One host that uses the queues.

    :ivar facts: what it said of itself when it started.
    :ivar until: when it loses its actors unless it is heard of, in seconds since 1970; past: it has lost them.
    :ivar actors: those that are awake in it.
    :ivar running: how many messages it is working on.
    """

    host: str
    facts: Mapping[str, Any]
    until: float
    actors: Sequence[ActorId]
    running: int


class Home(NamedTuple):
    """A host that keeps files of actors.

    :ivar id: stays the same as long as the folder with the files is there.
    :ivar name: its machine and folder, for users.
    """

    id: str
    name: str


class Elsewhere(NamedTuple):
    """What the other hosts of the queues do, as long as they are alive.

    :ivar awake: the actors that are awake in them, each with its host: the machine and the process.
    :ivar classes: the names of the actor classes that they have.
    """

    awake: Mapping[ActorId, str]
    classes: Collection[str]


NOWHERE = Elsewhere({}, ())
"""There are no other hosts."""


class ActorHome(NamedTuple):
    """The host that has the files of an actor.

    :ivar name: its machine and folder.
    :ivar here: whether it is this host.
    :ivar running: whether that host runs.
    :ivar given_up: whether the files there were given up, so that any other host may wake the actor with none.
    """

    name: str
    here: bool
    running: bool
    given_up: bool = False

    @property
    def elsewhere(self) -> bool:
        """Whether this host may not wake the actor."""
        return self.here == self.given_up
