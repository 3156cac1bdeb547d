"""Accept new messages: check capacity, known ids and idempotency keys. All messages of a call, or none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from agentq_nb._brokers.local import event_rows, predecessor_check
from agentq_nb._brokers.local.commit import CommitLog
from agentq_nb._brokers.local.idempotency import Clue, Name
from agentq_nb._brokers.local.live_messages import LiveMessages
from agentq_nb._brokers.local.queues import LARGEST_BODY, LiveMessage
from agentq_nb._brokers.local.waiting_senders import Sender, line_of
from agentq_nb._brokers.messages import Enqueued, NewMessage, digest
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.threads import in_thread
from agentq_nb._policies.admission import Limits, Load, refused
from agentq_nb._store import Connection, Row, startup_queries
from agentq_nb.errors import IdempotencyConflict, QueueFull, StoreError

Taken: TypeAlias = tuple[list[Enqueued], "asyncio.Future[None] | None"]
"""The result for each new message, and a future to wait for when any was added."""


class Known(NamedTuple):
    """Facts about new messages that are in the log but not in memory."""

    ids: frozenset[MessageId]
    """Ids of messages that exist already."""
    named: dict[MessageId, tuple[MessageId, bool]]
    """By the new message's id, the completed message that has its key, and whether it is equal."""
    predecessors: predecessor_check.Answers
    """What messages that others are sent after have come to."""


async def accept(
    commit_log: CommitLog, new_messages: Sequence[NewMessage], room_timeout: float | None
) -> Sequence[Enqueued]:
    """See :meth:`agentq_nb._brokers.base.Broker.enqueue`."""
    try:
        if _needs_lookup(commit_log, new_messages):
            accepted, durable = await _look_up_and_add(commit_log, new_messages)
        else:
            accepted, durable = _add(commit_log, new_messages, None)
    except QueueFull as full:
        if room_timeout == 0:
            raise
        accepted, durable = await _in_turn(commit_log, new_messages, full, room_timeout)
    if durable is not None:
        await durable
    for answer in accepted:
        if answer.repeated:
            await commit_log.flushed()
            break
    return accepted


def _needs_lookup(commit_log: CommitLog, new_messages: Sequence[NewMessage]) -> bool:
    """Whether the log must be asked: for an id from before the start, or settled since, or with a key. Rare."""
    settling, remembered = commit_log.results.settling, commit_log.results.remembered
    for new_message in new_messages:
        if (
            new_message.id < commit_log.opened
            or (new_message.options and new_message.idempotency_key is not None)
            or new_message.id in settling
            or new_message.id in remembered
            or (new_message.options and predecessor_check.to_ask(commit_log, new_message.after))
        ):
            return True
    return False


async def _look_up_and_add(commit_log: CommitLog, new_messages: Sequence[NewMessage]) -> Taken:
    while True:
        try:
            return await _look_up_once(commit_log, new_messages)
        except _DigestNeeded as needed:
            await _learn_digest(commit_log, needed.entry)
        except predecessor_check.NotAsked:
            continue  # it was settled meanwhile


class _DigestNeeded(Exception):
    """A new message must be compared with a live one whose body is only in the log. Nothing was added."""

    def __init__(self, entry: LiveMessage) -> None:
        self.entry = entry


async def _learn_digest(commit_log: CommitLog, entry: LiveMessage) -> None:
    """Load the digest of a message's body. Raises StoreError unless the message has left its queue meanwhile."""
    try:
        (body,) = await commit_log.read_bodies([entry])
    except StoreError:
        if not entry.gone:
            raise
    else:
        entry.digest = await in_thread(digest, body)


async def _look_up_once(commit_log: CommitLog, new_messages: Sequence[NewMessage]) -> Taken:
    """Ask the log, then add the messages. Raises _DigestNeeded, NotAsked."""
    if any(
        new_message.idempotency_key is not None and _live(commit_log.live_messages, new_message) is None
        for new_message in new_messages
    ):
        await commit_log.learn_keys()
    asked, clues = _lookups(commit_log, new_messages)
    after = predecessor_check.to_ask(commit_log, [one for new_message in new_messages for one in new_message.after])
    if not asked and not clues and not after:
        return _add(commit_log, new_messages, Known(frozenset(), {}, {}))
    taken: list[Taken] = []
    with commit_log.live_messages.dependents.sparing(after):
        await commit_log.decide(
            lambda connection: ((), _look_up(connection, asked, clues, after)),
            lambda known: taken.append(_add(commit_log, new_messages, known)),
        )
    return taken[0]


def _name(new_message: NewMessage) -> Name | None:
    return (
        None
        if new_message.idempotency_key is None
        else (new_message.actor, new_message.queue, new_message.idempotency_key)
    )


def _live(live_messages: LiveMessages, new_message: NewMessage) -> MessageId | None:
    name = _name(new_message)
    return None if name is None else live_messages.keys.find(name)


# --- waiting for room ---------------------------------------------------------------------------------------------------


async def _in_turn(
    commit_log: CommitLog, messages: Sequence[NewMessage], full: QueueFull, timeout: float | None
) -> Taken:
    """Wait for room where ``full`` says there is none, at most ``timeout`` seconds, and then add the messages.

    Raises QueueFull when the time is up, or at once when the queue could never hold all these messages, and Unavailable
    when the host stops or writing fails meanwhile.
    """
    clock = commit_log.clock
    deadline = None if timeout is None else clock.monotonic() + timeout
    while True:
        place = (full.metadata["actor"], full.metadata["queue"])
        load, limits = _load(messages, place)
        if refused(Load(0, 0), load, limits) is not None:
            raise full
        line = line_of(commit_log.live_messages.queue_state(*place))
        sender = Sender(message.id for message in messages)
        with line.place(sender, load, limits):
            while place == (full.metadata["actor"], full.metadata["queue"]):
                try:
                    await line.until_called(sender, deadline, clock)
                except TimeoutError:
                    raise full.after(timeout or 0.0) from None
                commit_log.check()
                try:
                    return await _look_up_and_add(commit_log, messages)
                except QueueFull as again:
                    full = again


def _load(messages: Sequence[NewMessage], place: tuple[ActorId, str]) -> tuple[Load, Limits]:
    """Return what these messages need of one queue, and its limits."""
    meant = [message for message in messages if (message.actor, message.queue) == place]
    sizes = [message.max_size for message in meant if message.max_size is not None]
    volumes = [message.max_bytes for message in meant if message.max_bytes is not None]
    load = Load(len(meant), sum(len(message.body) for message in meant))
    return load, Limits(min(sizes, default=None), min(volumes, default=None))


# --- queries ----------------------------------------------------------------------------------------------------------


def _lookups(
    commit_log: CommitLog, new_messages: Sequence[NewMessage]
) -> tuple[list[MessageId], list[tuple[NewMessage, Clue]]]:
    """Return ids generated before the broker started, and clues to completed messages that may have a key: rare."""
    live_messages = commit_log.live_messages
    asked: list[MessageId] = []
    clues: list[tuple[NewMessage, Clue]] = []
    for new_message in new_messages:
        if new_message.id < commit_log.opened and new_message.id not in live_messages.entries:
            asked.append(new_message.id)
        name = _name(new_message)
        if name is not None and live_messages.keys.find(name) is None:
            clues += [(new_message, clue) for clue in live_messages.keys.clues(name)]
    return asked, clues


def _look_up(
    connection: Connection, asked: list[MessageId], clues: list[tuple[NewMessage, Clue]], after: list[MessageId]
) -> Known:
    """Look in the database, in the writer's thread."""
    found: set[MessageId] = set()
    if asked:
        found = {message for (message,) in connection.execute(startup_queries.KNOWN_IDS, [asked]).fetchall()}
    named: dict[MessageId, tuple[MessageId, bool]] = {}
    for new_message, clue in clues:
        if new_message.id not in named and (row := _row_of(connection, clue)) is not None:
            message, actor, queue, key, body, named_after = row
            if (actor, queue, key) == _name(new_message):
                same = json.loads(named_after or "[]") == list(new_message.after)
                named[new_message.id] = (message, same and digest(body.encode()) == digest(new_message.body))
    return Known(frozenset(found), named, predecessor_check.ask(connection, after))


def _row_of(connection: Connection, clue: Clue) -> tuple[str, str, str, str, str, str | None] | None:
    if clue.message is None:
        found = connection.execute(startup_queries.KEYED_MESSAGE, {"first": clue.first}).fetchall()
    else:
        found = connection.execute(
            startup_queries.KEYED_MESSAGE_FROM, {"first": clue.first, "message": clue.message}
        ).fetchall()
    return found[0] if found else None


# --- adding -----------------------------------------------------------------------------------------------------------


def _add(commit_log: CommitLog, new_messages: Sequence[NewMessage], known: Known | None) -> Taken:
    """Decide from memory as it is now. If one message is refused, none is added.

    Raises QueueFull, StoreFull, IdempotencyConflict, PredecessorUnknown, PredecessorFailed, ValidationFailed,
    _DigestNeeded, NotAsked.
    """
    live_messages = commit_log.live_messages
    accepted: list[Enqueued] = []
    entries: list[LiveMessage] = []
    written: list[Row] = []
    try:
        for new_message in new_messages:
            found = new_message.id if new_message.id in live_messages.entries else None
            if found is None and known is not None:
                found = _known(commit_log, new_message, known)
            if found is None and new_message.options and new_message.idempotency_key is not None:
                found = _live_namesake(live_messages, new_message)
            accepted.append(Enqueued(found or new_message.id, found is not None))
            if found is None:
                if new_message.options and new_message.after:
                    own = {other.id for other in new_messages}
                    predecessor_check.check(commit_log, new_message.after, own, known.predecessors if known else {})
                if commit_log.store_limit.bytes is not None:
                    commit_log.store_limit.check(commit_log.log, len(new_message.body))
                entry = live_messages.enter(new_message)
                if entry.key is not None or entry.size > LARGEST_BODY:
                    entry.first = commit_log.log.last_seq + 1
                entries.append(entry)
                written.append(event_rows.queued(entry))
    except BaseException:
        live_messages.withdraw(entries)
        raise
    return accepted, commit_log.write(written, live_messages.arrive, entries) if entries else None


def _live_namesake(live_messages: LiveMessages, new_message: NewMessage) -> MessageId | None:
    """Return the live message with the same key, maybe of the same call. Raises IdempotencyConflict, _DigestNeeded."""
    live = _live(live_messages, new_message)
    if live is None:
        return None
    entry = live_messages.entries[live]
    known = digest(entry.body) if entry.body else entry.digest
    if known is None:
        raise _DigestNeeded(entry)
    if known != digest(new_message.body) or list(entry.after) != list(new_message.after):
        raise IdempotencyConflict(new_message.idempotency_key or "", live)
    return live


def _known(commit_log: CommitLog, new_message: NewMessage, known: Known) -> MessageId | None:
    """Return the same message, or the completed one that has its key. Raises IdempotencyConflict."""
    if new_message.id in known.ids or commit_log.results.knows(new_message.id):
        return new_message.id
    if new_message.id not in known.named or _live(commit_log.live_messages, new_message) is not None:
        return None
    message, same = known.named[new_message.id]
    if not same:
        raise IdempotencyConflict(new_message.idempotency_key or "", message)
    return message
