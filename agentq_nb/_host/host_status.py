"""Build an actor's status, and the reason why a message is not settled, from what a host knows."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from agentq_nb._actor.actor import Actor
from agentq_nb._actor.message import INTERNAL_QUEUES, brief
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._brokers.statuses import NOWHERE, ActorHome, Elsewhere, QueueStatus
from agentq_nb._client.status import ActorState, ActorStatus
from agentq_nb._core.ids import ActorId, MessageId, actor_name
from agentq_nb._host.waker import WakeBackoff
from agentq_nb._runtime.actor_lifecycle import AwakeActor

_MOST_SWALLOWED = 1000


class SwallowedLimits:
    """The latest actors that went on in spite of a provider's limit, and what ``status()`` says of each."""

    def __init__(self) -> None:
        self._texts: dict[ActorId, str] = {}

    def note(self, actor: ActorId, text: str) -> None:
        self._texts.pop(actor, None)
        self._texts[actor] = text
        if len(self._texts) > _MOST_SWALLOWED:
            del self._texts[next(iter(self._texts))]

    def added_to(self, status: ActorStatus) -> ActorStatus:
        """Return the status with what was noted for its actor."""
        text = self._texts.get(status.actor_id)
        return status if text is None else replace(status, swallowed_limit=text)


def actor_status(
    actor: ActorId,
    cls: type[Actor] | None,
    activation: AwakeActor | None,
    wake_backoff: WakeBackoff,
    queues: Sequence[QueueStatus],
    home: ActorHome | None = None,
    elsewhere: Elsewhere = NOWHERE,
) -> ActorStatus:
    """Return one actor's status; ``cls``, ``activation`` and ``home`` are None if it has none."""
    host = elsewhere.awake.get(actor) if activation is None else None
    visible = [queue for queue in queues if queue.queue not in INTERNAL_QUEUES or queue.live or queue.dead]
    declared = () if cls is None else cls.declared.queues
    return ActorStatus(
        actor_id=actor,
        name=actor_name(actor),
        state="awake" if host is not None else _state(actor, cls, activation, wake_backoff, elsewhere),
        run="none" if activation is None else activation.supervisor.run_state,
        restarts_at=None if activation is None else activation.supervisor.restarts_at,
        last_error=wake_backoff.last_error(actor) if activation is None else activation.last_error,
        recovered=wake_backoff.recovered(actor) if activation is None else activation.recovered,
        closing=None if activation is None else activation.closing,
        queues=visible,
        overdue=[] if activation is None else list(activation.overdue),
        home=home,
        host=host,
        orphaned=[] if cls is None else [queue.queue for queue in visible if _orphaned(queue, declared)],
    )


def _orphaned(queue: QueueStatus, declared: Container[str]) -> bool:
    return queue.queue not in declared and queue.queue not in INTERNAL_QUEUES and queue.live > 0


def _state(
    actor: ActorId,
    cls: type[Actor] | None,
    activation: AwakeActor | None,
    wake_backoff: WakeBackoff,
    elsewhere: Elsewhere,
) -> ActorState:
    if cls is None:
        return "asleep" if actor_name(actor) in elsewhere.classes else "waiting for its class"
    if activation is None:
        return "failed to start" if wake_backoff.failed(actor) else "asleep"
    if activation.closing is not None:
        return "closing"
    return "awake" if activation.started.is_set() else "waking"


_BEGINNING = {
    "waking": "Its actor is waking up.",
    "asleep": "Its actor has not been woken yet.",
    "closing": "Its actor is ending, and begins again afterwards.",
}


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """The facts that explain why a message is not settled.

    :ivar is_taken: whether the class of its actor has a handler for it, or a ``run``.
    :ivar has_handler: whether its queue has a handler.
    :ivar running_for: seconds since its handler got it; None if no handler has it.
    :ivar trouble: what keeps the host itself from working.
    :ivar now: seconds since 1970.
    :ivar before: the first of the messages that it waits for.
    """

    message: StoredResult
    actor: ActorStatus
    is_taken: bool
    now: float
    has_handler: bool = False
    running_for: float | None = None
    trouble: str | None = None
    before: Sequence[StoredResult] = ()

    @property
    def queue(self) -> QueueStatus:
        """The message's own queue."""
        known = (queue for queue in self.actor.queues if queue.queue == self.message.queue)
        return next(known, QueueStatus(self.message.actor, self.message.queue))


def why_unsettled(known: Circumstances) -> str:
    """Return the first reason why the message is not settled, and how its last attempt failed."""
    message = known.message
    if message.status == "running":
        said = [_running(known), _attempt(known)]
    elif message.status == "blocked":
        said = [_blocked(known)]
    elif message.status == "delayed":
        said = [_attempt(known), _delayed(known), _expiring(known)]
    else:
        said = [_waiting(known), _attempt(known), _expiring(known)]
    return " ".join(part for part in (*said, known.trouble) if part)


def _running(known: Circumstances) -> str:
    since = "" if known.running_for is None else f" for {_length(known.running_for)}"
    return f"It has been running{since}, attempt {known.message.attempts}."


def _blocked(known: Circumstances) -> str:
    others = len(known.message.after) - 1
    first = "other messages" if not known.before else _named(known.before[0])
    also = "" if others < 1 else f", and for {others:,} other{'' if others == 1 else 's'}"
    return f"It waits for {first}{also}."


def _named(message: StoredResult) -> str:
    return f"message {message.message} of queue '{message.queue}' of '{message.actor}', which is {message.status}"


def _attempt(known: Circumstances) -> str:
    """Return how its last attempt failed."""
    problem = known.message.problem
    return "" if problem is None else f"Its last attempt failed: {_sentence(problem)}"


def _delayed(known: Circumstances) -> str:
    due = known.message.due
    if due is None:
        return "It is delayed."
    again = "tried again" if known.message.problem else "due"
    return f"It is {again} in {_length(due - known.now)}, at {_time(due)}."


def _expiring(known: Circumstances) -> str:
    expires = known.message.expires
    if expires is None:
        return ""
    return f"It expires in {_length(max(0.0, expires - known.now))}, at {_time(expires)}, unless it is started before."


def _waiting(known: Circumstances) -> str:
    actor, queue = known.actor, known.queue
    name, failed = actor.name, _error(known)
    if actor.home is not None and actor.home.elsewhere:
        return f"Not started: {_elsewhere(actor.actor_id, actor.home)}"
    if actor.state == "waiting for its class":
        return f"Not started: no actor class is registered as '{name}'. Run the cell that defines it, or pass it to setup(use=...)."
    if queue.queue in actor.orphaned:
        return f"Not started: the class of '{name}' does not declare queue '{queue.queue}' any more."
    if queue.stopped:
        return (
            f"Not started: queue '{queue.queue}' has stopped: {queue.pause_reason}. Correct the cause, then resume it: "
            f"%agentq resume {actor.actor_id} {queue.queue}"
        )
    if queue.paused:
        until = f"until {_time(queue.paused_until)}" if queue.paused_until is not None else "by hand"
        if queue.pause_reason is not None:
            until += f", because a provider's limit is reached ({queue.pause_reason})"
        return f"Not started: queue '{queue.queue}' is paused {until}. To resume it: %agentq resume {actor.actor_id} {queue.queue}"
    if queue.held_back:
        return (
            "Not started: the kernel died while several messages were handled. They are tried again first, one at a time, to "
            "find out which one it was. The rest is handled after them, or after a minute (longer if the kernel dies again)."
        )
    if message := _overdue(known):
        return (
            f"Not started: the thread that handled message {message} still works, after its attempt has ended; until it returns "
            "it keeps its place. Let the handler look at self.aborted and return."
        )
    if queue.limited_by is not None:
        until = "one ends" if queue.next_start is None else f"{_time(queue.next_start)}"
        return (
            f"Not started: limit '{queue.limited_by}' lets no other message start before {until}. See %agentq limits."
        )
    if actor.state == "failed to start":
        return f"Not started: its actor does not start. {failed}It is tried again."
    if actor.run == "restarting" and not known.has_handler:
        left = "" if actor.restarts_at is None else f" in {_length(actor.restarts_at - known.now)}"
        return f"Not started: `run` of its actor failed. {failed}It is started again{left}."
    return f"Not started: {_in_line(known)}{'' if actor.recovered else f' {failed}'.rstrip()}"


def _elsewhere(actor: ActorId, home: ActorHome) -> str:
    if home.given_up:
        return f"its files here were given up, and another host has to start it. To take that back: %agentq move {actor} --back"
    if home.running:
        return f"its files are on host {home.name}, which runs; only that host wakes its actor."
    return (
        f"its files are on host {home.name}, which does not run; only that host wakes its actor. Start it there, or give up "
        f"the files: %agentq move {actor}"
    )


def _overdue(known: Circumstances) -> MessageId | None:
    """Return the message whose thread the queue waits for, if there is one and nothing else of the queue is handled."""
    overdue = known.actor.overdue
    if known.message.message in overdue:
        return known.message.message
    return overdue[0] if overdue and known.has_handler and not known.queue.running else None


def _in_line(known: Circumstances) -> str:
    """Return why an actor that could take the message has not taken it yet."""
    actor = known.actor
    if running := [(queue.queue, message) for queue in actor.queues for message in queue.running_ids]:
        queue, message = running[0]
        return f"its actor is handling message {message} of queue '{queue}'{_others(known)}."
    if actor.host is not None:
        return f"its actor is awake on another host, {actor.host}, which has not started it yet{_others(known)}."
    if not known.is_taken:
        return f"the class of '{actor.name}' has no handler for it and no `run`: only its actions can take messages."
    if actor.run == "returned" and not known.has_handler:
        return "`run` of its actor has returned without asking for it."
    if actor.state in _BEGINNING:
        text = _BEGINNING[actor.state]
        return text[0].lower() + text[1:]
    if known.has_handler:
        return f"its handler has not been called yet{_others(known)}."
    return f"`run` of its actor does not ask for messages of queue '{known.queue.queue}' just now{_others(known)}."


def _others(known: Circumstances) -> str:
    others = known.queue.ready - 1
    return (
        ""
        if others < 1
        else f"; {others} other{'' if others == 1 else 's'} of queue '{known.queue.queue}' wait{'s' if others == 1 else ''} too"
    )


def _error(known: Circumstances) -> str:
    said = brief(known.actor.last_error)
    return "" if said is None else f"{_sentence(said)} "


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _length(seconds: float) -> str:
    """Return a rounded duration: "under 1 s", "12 s", "3 min", "2 h"."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _time(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC"
