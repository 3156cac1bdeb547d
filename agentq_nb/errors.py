"""All errors of agentq_nb: each has a group, a code, and a message that says what happened and what to do.

Groups and codes are those of RivetKit where it has the same error, so that programs can handle both systems alike.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

from agentq_nb._core.safe_text import LONGEST_TEXT, safe


class AgentqError(Exception):
    """The base class of all errors: a code, a message that says what to do, and metadata.

        try:
            await runner.send("tasks", task)
        except AgentqError as error:
            if error.full_code == "queue.full":
                ...

    ``message`` and ``metadata`` hold the text of users and agents unescaped; ``metadata`` can be written as JSON.
    ``str(error)`` is safe to show in a terminal or on a page.
    """

    group: str = "agentq"
    code: str = "error"

    def __init__(
        self,
        message: str,
        *,
        group: str | None = None,
        code: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.group = group or type(self).group
        self.code = code or type(self).code
        self.metadata: dict[str, Any] = dict(metadata or {})

    @property
    def full_code(self) -> str:
        """The group and the code, for programs to compare: ``"queue.full"``."""
        return f"{self.group}.{self.code}"

    def __str__(self) -> str:
        return f"{safe(self.message, LONGEST_TEXT)} [{safe(self.full_code)}]"

    def __reduce__(self) -> tuple[Any, ...]:
        return (rebuilt, (type(self), self.message, self.group, self.code, self.metadata))


def rebuilt(kind: type[AgentqError], message: str, group: str, code: str, metadata: dict[str, Any]) -> AgentqError:
    """Return an error made of its finished text, as it was pickled, copied or sent, without its own constructor."""
    error = kind.__new__(kind)
    AgentqError.__init__(error, message, group=group, code=code, metadata=metadata)
    return error


def _did_you_mean(name: object, known: Sequence[str]) -> str:
    """Return a question with the most similar known name, to put before other text; empty if none is similar."""
    near = difflib.get_close_matches(str(name), known, 1)
    return f"Did you mean '{near[0]}'? " if near else ""


class UserError(AgentqError):
    """Raise this in an action to give the caller your own message, code and metadata.

    ``raise UserError("No such issue.", code="no_issue", metadata={"number": 7})``
    """

    group = "user"
    code = "user_error"


_KEPT_OF_REPLY = 4096
"""How many bytes of a reply that is too large are kept in its error."""


# --- queues -----------------------------------------------------------------------------------------------------------


class QueueError(AgentqError):
    """An error about a queue or a message."""

    group = "queue"


class QueueFull(QueueError):
    """The queue holds as much as its ``max_size`` and ``max_bytes`` allow; nothing was written."""

    code = "full"

    def __init__(
        self, actor_id: str, queue: str, limit: int, unit: str = "messages", waited: float | None = None
    ) -> None:
        """
        :param unit: what ``limit`` counts: "messages" that are not settled, or "bytes" of their bodies.
        :param waited: how many seconds the send has waited for room.
        """
        option = "max_bytes" if unit == "bytes" else "max_size"
        counted = unit.removesuffix("s") if limit == 1 else unit
        since = "" if waited is None else f" within {waited:g} s"
        super().__init__(
            f"Queue is full. Limit is {limit} {counted}. Nothing was sent to queue "
            f"'{queue}' of actor '{actor_id}'{since}. Send again once some are handled, or raise {option} in its "
            f"Queue(...).",
            metadata={"limit": limit, "unit": unit, "queue": queue, "actor": actor_id},
        )

    def after(self, waited: float) -> QueueFull:
        """Return the same error for a send that has waited."""
        known = self.metadata
        return QueueFull(known["actor"], known["queue"], known["limit"], known["unit"], waited)


class BatchTooLarge(QueueFull):
    """The batch would not even fit into its queue when that is empty; nothing was written."""

    code = "batch_too_large"

    def __init__(self, actor_id: str, queue: str, number: int, limit: int, unit: str = "messages") -> None:
        """
        :param number: how many messages, or bytes of bodies, would be sent; ``unit`` says which.
        """
        option = "max_bytes" if unit == "bytes" else "max_size"
        text = (
            f"A batch of {number:,} {unit} does not fit into queue '{queue}' of actor '{actor_id}', even while that is "
            f"empty. Limit is {limit} {unit}. Nothing was sent. Send it in parts, or raise {option} in its Queue(...)."
        )
        facts = {"number": number, "limit": limit, "unit": unit, "queue": queue, "actor": actor_id}
        AgentqError.__init__(self, text, metadata=facts)


class MessageTooLarge(QueueError):
    """The message's JSON is larger than ``max_message_bytes``, or than ``max_bytes``; nothing was written."""

    code = "message_too_large"

    def __init__(self, actor_id: str, queue: str, size: int, limit: int, max_bytes: int | None = None) -> None:
        """
        :param limit: the queue's ``max_message_bytes``.
        :param max_bytes: the queue's ``max_bytes``, which may be less.
        """
        option = "max_message_bytes"
        if max_bytes is not None and max_bytes < limit:
            option, limit = "max_bytes", max_bytes
        super().__init__(
            f"Queue message too large ({size} bytes). Limit is {limit} bytes. Nothing was sent to queue '{queue}' of "
            f"actor '{actor_id}'. Put large data in a file and send its path, or raise {option} in its Queue(...).",
            metadata={"size": size, "limit": limit, "queue": queue, "actor": actor_id},
        )


class ReplyTooLarge(QueueError):
    """The reply's JSON is larger than ``max_reply_bytes``; nothing was written.

    ``metadata["beginning"]`` is the beginning of the reply. If a handler lets this error propagate, its message becomes a
    dead letter: the next attempt would do the same work with the same result.
    """

    code = "reply_too_large"

    def __init__(self, actor_id: str, queue: str, message_id: str, reply: bytes, limit: int) -> None:
        super().__init__(
            f"Reply too large ({len(reply)} bytes) to message {message_id} of queue '{queue}' of actor '{actor_id}'. Limit "
            f"is {limit} bytes. Write large results to a file and reply with its path, or raise max_reply_bytes in its "
            f"Queue(...). The reply's beginning is kept in this error's metadata.",
            metadata={
                "size": len(reply),
                "limit": limit,
                "queue": queue,
                "actor": actor_id,
                "message_id": message_id,
                "beginning": reply[:_KEPT_OF_REPLY].decode(errors="ignore"),
            },
        )


class QueueUnknown(QueueError):
    """The actor declares no such queue; nothing was written."""

    code = "unknown"

    def __init__(self, actor_name: str, queue: str, known: Sequence[str]) -> None:
        has = f"It has: {', '.join(known)}." if known else "It declares no queues."
        super().__init__(
            f"Actor '{actor_name}' has no queue '{queue}'. {_did_you_mean(queue, known)}{has}",
            metadata={"queue": queue, "actor": actor_name, "known": list(known)},
        )


class PreviousMessageNotCompleted(QueueError):
    """A receiver asked for the next message while it still holds a completable one."""

    code = "previous_message_not_completed"

    def __init__(self, message_id: str, queue: str) -> None:
        super().__init__(
            f"Message {message_id} of queue '{queue}' was not completed before the next one was asked for. "
            f"Call await message.complete(...), .fail(...) or .retry() first.",
            metadata={"message_id": message_id, "queue": queue},
        )


class AlreadyCompleted(QueueError):
    """The message is settled already."""

    code = "already_completed"

    def __init__(self, message_id: str, how: str) -> None:
        super().__init__(
            f"Message {message_id} was settled before ({how}), and can be settled only once. Nothing was written. Call "
            f"complete, fail or retry once for each message.",
            metadata={"message_id": message_id, "status": how},
        )


class CompleteNotConfigured(QueueError):
    """The message was received without ``completable=True``, so it settles automatically."""

    code = "complete_not_configured"

    def __init__(self, message_id: str) -> None:
        super().__init__(
            f"Message {message_id} was received without completable=True, so it settles by itself when the next one is "
            f"asked for. Receive it with iter(completable=True) or next(completable=True) to settle it yourself.",
            metadata={"message_id": message_id},
        )


class ReplyNeeded(QueueError):
    """A queue that declares a reply was received from without ``completable=True``: no message was taken."""

    code = "reply_needed"

    def __init__(self, actor_id: str, queue: str, reply: str, others: Collection[str]) -> None:
        names = ", ".join(f"'{name}'" for name in sorted(others))
        others_too = f" Queues without a reply can be asked for by name: {names}." if others else ""
        super().__init__(
            f"No message was taken: queue '{queue}' of actor '{actor_id}' declares reply={reply}, and without "
            f"completable=True its messages would be done without one. Write iter(completable=True) or "
            f"next(completable=True), and await message.complete(...) for each message.{others_too}",
            metadata={"actor_id": actor_id, "queue": queue},
        )


class IdempotencyConflict(QueueError):
    """The idempotency key already names a message with another body or another ``after``; nothing was written."""

    code = "idempotency_conflict"

    def __init__(self, key: str, message_id: str) -> None:
        super().__init__(
            f"Nothing was sent: idempotency key {key!r} already names message {message_id}, which has another body "
            f"or waits for other messages. Use another key, or send the same body and the same `after`.",
            metadata={"idempotency_key": key, "message_id": message_id},
        )


class MessageUnknown(QueueError):
    """No message has this id, or its history was pruned."""

    code = "message_unknown"

    def __init__(self, message_id: str) -> None:
        super().__init__(
            f"No message '{message_id}' is known here. It may belong to another file, or its history was pruned. "
            f"await registry.messages() lists those of this file.",
            metadata={"message_id": message_id},
        )


class PredecessorUnknown(QueueError):
    """A message was to be sent after one that is not stored with it; nothing was written."""

    code = "predecessor_unknown"

    def __init__(self, message_id: str) -> None:
        super().__init__(
            f"Nothing was sent: `after` names message '{message_id}', which is not known here. Messages can wait only for "
            f"messages of the same store, and history that was pruned is gone. await registry.messages() lists what it has.",
            metadata={"message_id": message_id},
        )


class PredecessorFailed(QueueError):
    """A message that others wait for did not complete.

    Raised by a send or a redelivery: nothing was written. As the error of a cancelled message: why it was cancelled.
    """

    code = "predecessor_failed"

    def __init__(self, message_id: str, how: str) -> None:
        super().__init__(
            f"Nothing was written: message {message_id}, which has to complete before, {how}. To try that one again: "
            f"%agentq retry {message_id}. What waits for it then comes back with it.",
            metadata={"message_id": message_id},
        )


class WaitWouldDeadlock(QueueError):
    """The wait could never end: the awaited message can be handled only after the one whose handler waits for it."""

    code = "wait_would_deadlock"

    def __init__(self, message_id: str, chain: Sequence[str], *, room: bool = False) -> None:
        """
        :param message_id: empty if a prompt waits for its start.
        :param room: whether the wait is for room in a full queue, to send the message.
        """
        what, advice = f"Waiting for message {message_id}", "send without wait, or wait in an action or another actor"
        if room:
            what = f"Nothing was sent: waiting for room in the full queue, to send message {message_id},"
            advice = 'raise max_size or max_bytes in its Queue(...), or let it raise queue.full with on_full="raise"'
        elif not message_id:
            what = "Nothing was sent to the agent: waiting for a place, to start this prompt,"
            advice = "or declare limits with different names for its queue and in agent_os(limits=[...])"
        super().__init__(
            f"{what} would never end: {' → '.join(chain)}. Settle the message that is being handled first, {advice}.",
            metadata={"message_id": message_id, "chain": list(chain)},
        )


class MessageFailed(QueueError):
    """Raised by ``Result.unwrap()`` if the message is a dead letter."""

    code = "failed"


class MessageCancelled(QueueError):
    """Raised by ``Result.unwrap()`` if the message was cancelled."""

    code = "cancelled"


class MessageExpired(QueueError):
    """Raised by ``Result.unwrap()`` if the message was not started within its ``ttl``."""

    code = "expired"


class WaitTimedOut(QueueError):
    """Raised by ``Result.unwrap()`` if the wait ended before the message was settled. It is still being worked on."""

    code = "timed_out"


class QueueHasHandler(QueueError):
    """The actor's own code asked for messages of a queue that has a handler, which gets all of them."""

    code = "has_handler"

    def __init__(self, actor_id: str, queue: str, handler: str) -> None:
        super().__init__(
            f"Messages of queue '{queue}' of actor '{actor_id}' go to its handler {handler}, so they cannot be taken here. "
            f"Remove @{queue}.handler, or take from other queues: self.queue.iter() without names leaves out those with "
            "handlers.",
            metadata={"actor": actor_id, "queue": queue, "handler": handler},
        )


class HandlerTimedOut(QueueError):
    """A handler took longer than its queue's ``handler_timeout``: the attempt failed."""

    code = "handler_timed_out"

    def __init__(self, actor_id: str, message_id: str, queue: str, seconds: float) -> None:
        super().__init__(
            f"Message {message_id} of queue '{queue}' of actor '{actor_id}' was handled for more than "
            f"handler_timeout={seconds:g} s, so its handler was stopped. Raise handler_timeout in its Queue(...) if "
            "the work may take longer.",
            metadata={"actor": actor_id, "message_id": message_id, "queue": queue, "handler_timeout": seconds},
        )


class RateLimited(QueueError):
    """A provider's limit is reached. Raise it in a handler or ``run``: it costs no attempt and pauses the queue.

        raise RateLimited("The API says to slow down.", retry_after=response.headers.get("retry-after"))

    The message goes back to the head of its queue. The queue is paused until the limit ends, and so is every queue that
    declares the limit named ``limit``. If the end is unknown, the queue is paused for a while, then one message is tried.
    Each time the limit is still reached, the next pause is longer. ``Queue(max_pause=...)`` limits the pauses.

    :param message: what happened; shown as the reason of the pause.
    :param retry_after: when the limit ends, in seconds from now, as a timedelta, or as the value of an HTTP header.
    :param until: when the limit ends, as a datetime (a naive one is local time) or in seconds since 1970.
    :param limit: the ``name`` of a RateLimit or ConcurrencyLimit. None: only the message's own queue is paused.

    Raises TypeError if both ``retry_after`` and ``until`` are given, or if one of them is not a time.
    """

    code = "rate_limited"

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float | timedelta | str | None = None,
        until: datetime | float | None = None,
        limit: str | None = None,
    ) -> None:
        if retry_after is not None and until is not None:
            raise TypeError("RateLimited takes retry_after or until, not both.")
        if limit is not None and not isinstance(limit, str):  # type: ignore[redundant-expr]  # users' code is not checked
            raise TypeError(f"RateLimited(limit=...) is the name of a limit, not {limit!r:.100}.")
        seconds, moment = _retry_after(retry_after)
        known = {"retry_after": seconds, "until": moment if until is None else _moment(until), "limit": limit}
        super().__init__(
            message or "A provider's limit is reached.",
            metadata={name: value for name, value in known.items() if value is not None},
        )
        if RateLimited._noted is not None:
            RateLimited._noted(self)

    _noted: ClassVar[Callable[[RateLimited], None] | None] = None
    """Notes each one, so that a handler that ignores it can be named."""

    @property
    def limit(self) -> str | None:
        """The name of the limit that is reached."""
        return self.metadata.get("limit")

    def ends_at(self, now: float) -> float | None:
        """Return when the limit ends, in seconds since 1970; None if that is unknown. ``now`` is such a time too."""
        seconds = self.metadata.get("retry_after")
        return self.metadata.get("until") if seconds is None else now + seconds


class BudgetSpent(RateLimited):
    """The budget of a language model is spent: ``send_prompt`` raises it. It costs a message no attempt, and pauses its queue.

    The prompt was cancelled, and its session is still open. ``%agentq budget 40`` raises the budget, and the queue continues.
    """

    code = "budget_spent"


def _retry_after(value: object) -> tuple[float | None, float | None]:
    """Return seconds from now, or a moment in seconds since 1970; neither for a header that cannot be understood."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None, _http_date(value)
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if value is None:
        return None, None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"RateLimited(retry_after=...) is in seconds, not {value!r:.100}.")
    return (max(0.0, float(value)), None) if math.isfinite(value) else (None, None)


def _http_date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _moment(value: object) -> float | None:
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"RateLimited(until=...) is a datetime or seconds since 1970, not {value!r:.100}.")
    return float(value) if math.isfinite(value) else None


class LimitConflict(QueueError):
    """Two queues declare limits of the same name with different values: the class was not deployed.

    The queues may be in two hosts that work on the same PostgreSQL database.
    """

    code = "limit_conflict"

    def __init__(self, name: str, declared: Mapping[str, str], *, hosts: bool = False) -> None:
        said = " and ".join(f"{limit} by {queue}" for queue, limit in declared.items())
        if hosts:
            advice = (
                f"A name is one limit for all hosts of these queues: change it for all at once with %agentq limits {name} "
                f"--count N, stop the other host first, or give one of them another name."
            )
        else:
            advice = (
                f"A name is one limit for the whole host: declare it once, as in limit = RateLimit(50, per=60, "
                f"name={name!r}), and use that in each queue; or give one of them another name."
            )
        super().__init__(
            f"Limit '{name}' is declared in two ways: {said}. Nothing was deployed. {advice}",
            metadata={"limit": name, "declared": dict(declared)},
        )


class LimitUnknown(QueueError):
    """No queue of a deployed class has a limit of this name."""

    code = "limit_unknown"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        has = f"There are: {', '.join(known)}." if known else "No queue declares limits."
        super().__init__(
            f"There is no limit '{name}'. {_did_you_mean(name, known)}{has}",
            metadata={"limit": name, "known": list(known)},
        )


# --- batches ----------------------------------------------------------------------------------------------------------


class BatchError(AgentqError):
    """A batch cannot be sent or found."""

    group = "batch"


class BatchUnknown(BatchError):
    """There is no batch of this name in the file."""

    code = "unknown"

    def __init__(self, name: str, known: Collection[str]) -> None:
        has = f"It has: {', '.join(list(known)[:20])}." if known else "It has no batches."
        super().__init__(
            f"There is no batch '{name:.200}' in this file. {_did_you_mean(name, list(known))}{has}",
            metadata={"batch": name, "known": list(known)[:20]},
        )


class BatchElsewhere(BatchError):
    """Another queue has a batch of this name."""

    code = "name_taken"

    def __init__(self, name: str, actor: str, queue: str) -> None:
        super().__init__(
            f"Nothing was sent: batch '{name:.200}' belongs to queue '{queue}' of actor '{actor}'. Give this batch another "
            f"name.",
            metadata={"batch": name, "actor": actor, "queue": queue},
        )


class BatchPruned(BatchError):
    """Results of this batch were pruned."""

    code = "pruned"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Nothing was sent: results of batch '{name:.200}' were pruned, so it is not known which rows are done. To do the "
            f"work again: redo=True, or another name.",
            metadata={"batch": name},
        )


class BatchStopped(BatchError):
    """The batch was stopped before all of its rows were done."""

    code = "stopped"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"Batch '{name:.200}' has stopped: {reason}. Correct the cause, then resume the rows that wait: await "
            f"batch.resume(), or call map with the same name again.",
            metadata={"batch": name, "reason": reason},
        )


# --- actors -----------------------------------------------------------------------------------------------------------


class ActorError(AgentqError):
    """An error about an actor."""

    group = "actor"


class ValidationFailed(ActorError):
    """A body, reply, argument or state does not fit its declared type; nothing was written."""

    code = "validation_error"


class StateConflict(ActorError):
    """Something else changed a field of the state that the message's handler changed too: the attempt failed."""

    code = "state_conflict"

    def __init__(self, actor_id: str, fields: Sequence[str]) -> None:
        names = " and ".join(f"'{field}'" for field in fields)
        super().__init__(
            f"The handler's changes to the state of actor '{actor_id}' were dropped: an action, or another message that was "
            f"handled at the same time, changed {names} meanwhile. Let them change different fields, or change the state "
            "with await message.complete(reply, update=f).",
            metadata={"actor": actor_id, "fields": list(fields)},
        )


class StateReadOnly(ActorError):
    """``self.state`` was changed while handling a message of a queue with ``concurrency`` above 1; nothing was changed."""

    code = "state_read_only"

    def __init__(self) -> None:
        super().__init__(
            "self.state is read-only while a message of a queue with concurrency above 1 is handled: messages that are "
            "handled at the same time would overwrite each other's changes. Take the message as second parameter, and "
            "write await message.complete(reply, update=f): f(state) gets the current state and changes it, in the same "
            "write. In a plain handler: asyncio.run(message.complete(reply, update=f))."
        )


class Aborted(ActorError):
    """The actor is stopping, sleeping, being replaced or destroyed."""

    code = "aborted"

    def __init__(self, actor_id: str, reason: str, *, action: str | None = None) -> None:
        """``action`` is the action that was cancelled; None if the actor asked for messages."""
        if action is None:
            text = f"Actor '{actor_id}' gets no more messages: it is {reason}. Let the call return."
        else:
            who = "it" if reason.startswith("no longer") else "the actor"
            text = f"Action `{action}` of actor '{actor_id}' was cancelled: {who} is {reason}. Call it again if needed."
        super().__init__(text, metadata={"actor": actor_id, "reason": reason})


class ActorNotFound(ActorError):
    """No actor with this key exists."""

    code = "not_found"

    def __init__(self, actor_id: str) -> None:
        super().__init__(
            f"Actor '{actor_id}' does not exist or was destroyed. get_or_create(...) makes it when it is missing.",
            metadata={"actor": actor_id},
        )


class ActorDuplicate(ActorError):
    """``create`` was called for an actor that exists."""

    code = "duplicate_key"

    def __init__(self, actor_id: str) -> None:
        super().__init__(
            f"Actor '{actor_id}' already exists. Use get(...) or get_or_create(...) to work with it.",
            metadata={"actor": actor_id},
        )


class ActorElsewhere(ActorError):
    """The files of an actor, such as a VM's workspace, are on another host, the only one that wakes it."""

    code = "elsewhere"

    def __init__(self, actor_id: str, home: str, *, running: bool, given_up: bool) -> None:
        """
        :param home: the machine and folder of the host that has the files.
        :param running: whether that host runs.
        :param given_up: whether that is this host, which has given them up.
        """
        self.running = running
        self.given_up = given_up
        super().__init__(
            f"The files of actor '{actor_id}' here ({home}) were given up: another host starts it. To take that back: "
            f"%agentq move {actor_id} --back"
            if given_up
            else f"The files of actor '{actor_id}' are on another host ({home}), the only one that wakes it. "
            f"{'It runs: call the actor there' if running else 'Start that host'}, or give up the files: %agentq move {actor_id}",
            metadata={"actor": actor_id, "home": home, "running": running, "given_up": given_up},
        )


class ActorUnknown(ActorError):
    """No actor class is registered under this name."""

    code = "unknown"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        has = f"Registered: {', '.join(sorted(known))}." if known else "None is registered yet."
        super().__init__(
            f"No actor class is registered as '{name}'. {_did_you_mean(name, known)}{has} Run the cell that defines it, or pass it to setup(use=...).",
            metadata={"name": name, "known": sorted(known)},
        )


class ActionNotFound(ActorError):
    """The actor has no such action."""

    code = "action_not_found"

    def __init__(self, name: str, action: str, known: Sequence[str]) -> None:
        has = f"It has: {', '.join(known)}." if known else "It has none; mark methods with @action."
        super().__init__(
            f"Action `{action}` was not found on actor '{name}'. {_did_you_mean(action, known)}{has}",
            metadata={"action": action, "actor": name, "known": list(known)},
        )


class ActionTimedOut(ActorError):
    """The action took longer than the actor's ``action_timeout``."""

    code = "action_timed_out"

    def __init__(self, actor_id: str, action: str, seconds: float) -> None:
        super().__init__(
            f"Action timed out: `{action}` of actor '{actor_id}' took more than {seconds:g} s. Set a larger "
            "action_timeout on its class, or None for no limit.",
            metadata={"action": action, "actor": actor_id, "action_timeout": seconds},
        )


class InternalError(ActorError):
    """An action or hook raised an error that is not an AgentqError; the original is the ``__cause__``."""

    code = "internal_error"


class StateMissing(ActorError):
    """The actor declares no state, or its state has no first value."""

    code = "state_missing"


# --- the host and its store -------------------------------------------------------------------------------------------


class NoHost(AgentqError):
    """No host runs in this process."""

    group = "host"
    code = "none"

    def __init__(self, ended: str | None = None) -> None:
        """
        :param ended: why the previous host has ended by itself, in sentences.
        """
        start = "Start one first: %agentq start, or await setup(use={...}).start()."
        super().__init__(f"No host runs in this kernel. {ended or start}")


class HostUnreachable(NoHost):
    """A client in another process cannot reach its host. What was asked was not done."""

    code = "unreachable"

    def __init__(self, place: str, reason: str) -> None:
        """
        :param place: the url of the host, or the path of its file.
        :param reason: why it cannot be reached, as the machine says it.
        """
        serve = ", then %agentq serve" if "://" in place else ""
        AgentqError.__init__(
            self,
            f"The host of {place} cannot be reached: {reason}. Nothing was done. Start it there: %agentq start{serve}.",
            metadata={"place": place, "reason": reason},
        )


class HostBlocked(AgentqError):
    """A request from outside did not get its turn on the host's event loop: code blocks that. Nothing was done."""

    group = "host"
    code = "blocked"

    def __init__(self, seconds: float, place: str | None, background: bool) -> None:
        """
        :param seconds: how long the request has waited.
        :param place: the line of code that blocks the loop, if it is known.
        :param background: whether the host has a thread of its own, so that cells do not block it.
        """
        by = f" It is blocked by {place}." if place else ""
        advice = (
            "An actor's code blocks all actors: await in it, or put what takes long into self.in_thread(...)."
            if background
            else "Cells that block stop the host, unless it has a thread of its own: %agentq start --background"
        )
        super().__init__(
            f"Nothing was done: the host's event loop did not take the request within {seconds:g} s.{by} Ask again "
            f"later. {advice}",
            metadata={"seconds": seconds, "place": place, "background": background},
        )


class GatewayError(AgentqError):
    """An error about a request from another program, or about the server that takes it."""

    group = "gateway"


class BadRequest(GatewayError):
    """A request that cannot be read; nothing was done."""

    code = "bad_request"


class BodyTooLarge(GatewayError):
    """The body of a request is larger than the server takes; nothing was done."""

    code = "too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The body of the request is larger than {limit:,} bytes. Put large data in a file and send its path.",
            metadata={"limit": limit},
        )


class Refused(GatewayError):
    """A request that is not let in, or that there is no path for; nothing was done."""

    code = "refused"

    def __init__(self, status: int, code: str, message: str) -> None:
        """
        :param status: the HTTP status.
        """
        super().__init__(message, code=code, metadata={"status": status})

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.metadata["status"]


class WebhookRefused(Refused):
    """A delivery to a webhook that is not let in, or that cannot be read; nothing was written."""

    group = "webhook"


class PortInUse(GatewayError):
    """The server could not listen: another program has the port, or the address is not this machine's."""

    code = "port_in_use"

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(
            f"The server cannot listen on {host}, port {port}: {reason}. Take a free port: serve(port=0), or end the "
            f"program that has this one.",
            metadata={"host": host, "port": port},
        )


class NoPage(AgentqError):
    """There is no front end here that can show a live view."""

    group = "host"
    code = "no_page"

    def __init__(self) -> None:
        super().__init__(
            "A dashboard needs a page with widgets, such as JupyterLab. Here: %agentq status, %agentq results, or await "
            "registry.status() and await registry.messages()."
        )


class HostElsewhere(AgentqError):
    """The host runs already, in another event loop than the one asked for."""

    group = "host"
    code = "elsewhere"

    def __init__(self, *, background: bool) -> None:
        where = "in the background, in a thread of its own" if background else "in the kernel's own event loop"
        super().__init__(
            f"The host of this kernel runs {where}. To start it elsewhere, stop it first: %agentq stop, or await "
            "registry.stop()."
        )


class WouldBlockHost(AgentqError):
    """Blocking this thread to wait for the host would never end, because the host runs in it."""

    group = "host"
    code = "would_block"

    def __init__(self) -> None:
        super().__init__(
            "registry.run() would block this thread, in which the host runs. Write await instead, or give the host a "
            "thread of its own: %agentq start --background, or setup(background=True)."
        )


class Unavailable(AgentqError):
    """The broker could not answer, so it is unknown whether anything was written. Repeat with the same ids."""

    group = "host"
    code = "unavailable"


class LeaseLost(AgentqError):
    """Another host runs this actor now, or the broker has ended the lease: nothing was written."""

    group = "host"
    code = "lease_lost"


class StoreError(AgentqError):
    """An error about the file that holds the queues. Nothing on disk was changed."""

    group = "store"
    code = "error"


class StoreInUse(StoreError):
    """Another process has the file open."""

    code = "in_use"


class StoreDamaged(StoreError):
    """Rows that were written are missing or unreadable. Nothing was changed in either file."""

    code = "damaged"
    expected: int
    found: int

    def __init__(self, message: str, *, expected: int, found: int, metadata: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, metadata={"expected": expected, "found": found, **(metadata or {})})
        self.expected = expected
        self.found = found


class StoreNotBegun(StoreError):
    """There is no file yet. Starting a host creates it."""

    code = "missing"


class StoreFull(StoreError):
    """The store has reached ``setup(max_store_bytes=)``, or its disk is nearly full; nothing was sent.

    Queued messages are still handled: settlements, replies and state can be written.
    """

    code = "full"

    def __init__(self, path: str, used: int, limit: int, free: int | None = None) -> None:
        """
        :param free: bytes that are left on the disk, if that is the reason.
        """
        why = f"{path} takes {used} of max_store_bytes={limit} bytes"
        if free is not None:
            why = f"the disk of {path} has {free} bytes left"
        super().__init__(
            f"Sends are refused: {why}. Queued messages are still handled, and their results kept. To make room: "
            "%agentq prune, or await registry.prune(...). To raise the limit: setup(max_store_bytes=...).",
            metadata={"path": path, "used": used, "limit": limit, "free": free},
        )


class StoreTooNew(StoreError):
    """The file was written by a newer version."""

    code = "too_new"


class StoreNotOurs(StoreError):
    """The file is not a DuckDB database, or not one of agentq_nb."""

    code = "not_ours"


class StoreReadOnly(StoreError):
    """The folder or file cannot be written."""

    code = "read_only"


class StoreLeftBehind(StoreError):
    """A new file was not created, because another has unfinished work of a notebook that is gone, perhaps renamed."""

    code = "left_behind"


class StoreWriteFailed(StoreError, Unavailable):
    """A write did not reach the disk (full, removed, broken). It is not acknowledged."""

    group = "store"
    code = "write_failed"


class SqlRefused(StoreError):
    """The query is not a read; only reads are allowed."""

    code = "sql_refused"


class Forked(StoreError):
    """A forked child used its parent's host."""

    code = "forked"

    def __init__(self) -> None:
        super().__init__(
            "This process is a forked child of the one that has the queues open; it cannot use them. "
            "Start it with multiprocessing's 'spawn' method, or send from the parent."
        )


# --- agents -----------------------------------------------------------------------------------------------------------


class AgentError(AgentqError):
    """An error about an agent, its session or its workspace."""

    group = "agent"


class AgentUnknown(AgentError):
    """The VM was not given this agent."""

    code = "unknown"


class SessionUnknown(AgentError):
    """The VM has no such session."""

    code = "session_unknown"


class PermissionRequestUnknown(AgentError):
    """The session has no permission request with this id."""

    code = "permission_request_unknown"


class PermissionAnswered(AgentError):
    """The permission request is settled already: a user answered it, or it timed out."""

    code = "permission_answered"


class PromptFailed(AgentError):
    """The agent did not finish its turn."""

    code = "prompt_failed"


class ReplyInvalid(AgentError):
    """The agent gave no answer that fits the ``reply`` type of its prompt, though it was asked again.

    ``metadata["text"]`` is its last answer (of one that is longer than 65,536 characters, the end); all are in the transcript.
    """

    code = "reply_invalid"

    def __init__(self, agent: str, session_id: str, reply: str, times: int, reason: str) -> None:
        asked = "once" if times == 1 else f"{times} times"
        super().__init__(
            f"Agent '{agent}' was asked {asked} in session {session_id} for an answer of type {reply}, and gave none that "
            f"fits. {reason} Its last answer is in this error's metadata, and all of them are in the transcript. Ask for "
            "less, describe the fields in the type, or take another model.",
            metadata={"agent": agent, "session_id": session_id, "reply": reply, "times": times, "reason": reason},
        )


class ProcessUnknown(AgentError):
    """The VM has no such process."""

    code = "process_unknown"


class WorkspaceError(AgentError):
    """A path is outside the workspace, or the file action failed."""

    code = "workspace"


class RepositoryError(AgentError):
    """Something about a VM's repository or folder failed; ``code`` says what.

    Codes: ``git_failed``, ``git_missing``, ``not_found``, ``setup_failed``, ``damaged``, ``no_isolation``,
    ``branch_moved``, ``branch_checked_out``, ``bad_branch``, ``bad_bundle``, ``uncommitted``, ``unsaved_work``,
    ``folder_in_use``, ``has_store``, ``no_repository``.
    """

    group = "repository"
    code = "git_failed"


class IsolationUnavailable(AgentError):
    """The isolation asked for is not available on this machine."""

    code = "isolation_unavailable"
