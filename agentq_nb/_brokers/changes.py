"""Changes that users ask of a queue or a message: pause, resume, cancel, redeliver, purge."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from agentq_nb._core.ids import ActorId, MessageId


class Cancel(NamedTuple):
    """Settle an unsettled message as cancelled; a running one is settled once its handler has stopped."""

    message: MessageId


class Redeliver(NamedTuple):
    """Put a dead letter, or a cancelled or expired message, back into its queue and reset its attempts.

    Messages that were cancelled because they waited for it wait for it again.
    """

    message: MessageId


class DeadLetters(NamedTuple):
    """The dead letters that match every given condition; None matches all.

    Without ``queue``, queues that start with ``$`` are left out. ``name`` is the actors' registered name, ``since`` is
    in seconds since 1970. ``error`` is a part of the error's type and message as ``message.headline`` joins them, or of
    its ``group.code``, ignoring case.
    """

    actor: ActorId | None = None
    name: str | None = None
    queue: str | None = None
    since: float | None = None
    error: str | None = None


class Purge(NamedTuple):
    """Cancel every message of a queue that is not running."""

    queue: str


class Pause(NamedTuple):
    """Deliver nothing from a queue ``until`` a time (seconds since 1970; None: until it is resumed), across restarts.

    Running handlers finish, and new messages are accepted. This replaces an earlier pause and its ``until``.
    """

    queue: str
    until: float | None = None


class Resume(NamedTuple):
    """End the pause of a queue."""

    queue: str


Change: TypeAlias = Pause | Resume | Cancel | Redeliver | Purge
