"""Move the contents of another store here, in one transaction, so that an interrupted move leaves nothing. Blocking."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import psycopg

from agentq_nb._brokers.messages import digest
from agentq_nb._brokers.moved import Contents, MovedBatch, MovedMessage
from agentq_nb._brokers.postgres.address import Address
from agentq_nb._brokers.postgres.changed_rows import searchable
from agentq_nb._brokers.postgres.connection import Database, Row
from agentq_nb._brokers.postgres.migration import migrate
from agentq_nb._brokers.postgres.new_rows import digest_of, key_hash, schedule_name
from agentq_nb._core.ids import MessageId, actor_name
from agentq_nb.errors import StoreError, Unavailable

_SHOWN = 10

_COLUMNS = (
    "id, actor, queue, status, priority, due, expires, created_at, body, options, size, key, digest, schedule, "
    "began_at, front, in_order, failures, crashes, ended, suspicion, attempts, problem, reply, error, said, ended_at, "
    "seconds, batch"
)


class Moved(NamedTuple):
    """How much was moved.

    :ivar departed: the messages that were unsettled in their store, by id: they leave it.
    :ivar unsettled: how many of them still are, without scheduled calls.
    :ivar earlier: when the same store was moved before, in seconds since 1970; then nothing was moved now.
    """

    departed: frozenset[MessageId]
    unsettled: int = 0
    dead: int = 0
    results: int = 0
    scheduled: int = 0
    actors: int = 0
    pauses: int = 0
    batches: int = 0
    earlier: float | None = None


async def prepare(address: Address) -> None:
    """Wait for the server, and create the tables if they are missing. Raises Unavailable and StoreTooNew."""
    database = Database(address)
    await database.open()
    try:
        await migrate(database)
    finally:
        await database.close()


def take_over(address: Address, contents: Contents) -> Moved:
    """Store everything, durable on return, or nothing.

    Raises StoreError if a name exists here, and Unavailable (unknown: repeat).
    """
    try:
        # Behind a pooler, prepared statements would be shared with other clients.
        with psycopg.connect(address.slow_conninfo, prepare_threshold=None) as connection:
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            with connection.transaction():
                return _Intake(connection, address, contents).run()
    except psycopg.Error as error:
        text = address.hide(" ".join(str(error).split()))
        raise Unavailable(
            f"Moving to PostgreSQL ({address.shown}) was interrupted: {text}. Run the command again: what was moved "
            "is not moved twice."
        ) from None


class _Intake:
    def __init__(self, connection: psycopg.Connection[Row], address: Address, contents: Contents) -> None:
        self._connection = connection
        self._address = address
        self._contents = contents
        self._batches: dict[str, MovedBatch] = {one.name: one for one in contents.batches()}
        self._rows: dict[str, dict[int, tuple[str, bytes]]] = {name: {} for name in self._batches}
        self._names: set[str] = set()
        self._unsettled = frozenset(contents.unsettled())
        self._departed: set[MessageId] = set()
        self._predecessors: list[tuple[MessageId, int, MessageId]] = []
        self._counts = {"unsettled": 0, "dead": 0, "results": 0, "scheduled": 0}

    def run(self) -> Moved:
        # Two moves at once would not see each other's names.
        self._do("lock table agentq.version in share row exclusive mode")
        earlier = self._do("select at from agentq.takeovers where store = %s", self._contents.store).fetchone()
        if earlier is not None:
            return self._already(earlier[0])
        self._check_names()
        self._copy_messages()
        self._insert_actors()
        self._insert_queues()
        self._insert_batches()
        self._do("insert into agentq.takeovers values (%s, agentq.now())", self._contents.store)
        return Moved(
            frozenset(self._departed),
            **self._counts,
            actors=len(self._contents.actors()),
            pauses=len(self._contents.pauses()),
            batches=len(self._batches),
        )

    def _already(self, at: float) -> Moved:
        """Return what an earlier run has stored: it may have ended before the messages left their store."""
        found = self._do("select id from agentq.messages where id = any(%s)", list(self._unsettled))
        return Moved(frozenset(message for (message,) in found.fetchall()), earlier=at)

    def _do(self, statement: str, *values: Any) -> psycopg.Cursor[Row]:
        return self._connection.execute(self._address.statement(statement), values or None)

    def _check_names(self) -> None:
        """Raise StoreError if an actor or a batch of the store exists here."""
        actors = {one.actor for one in self._contents.actors()} | {one.actor for one in self._contents.totals()}
        actors |= {pause.actor for pause in self._contents.pauses()}
        found = self._do(
            """
            select actor from agentq.actors where actor = any(%s) and (state is not null or session is not null)
            union select actor from agentq.queues where actor = any(%s)
            union select 'batch ' || name from agentq.batches where name = any(%s)
            order by 1
            """,
            list(actors),
            list(actors),
            list(self._batches),
        ).fetchall()
        if found:
            names = ", ".join(name for (name,) in found[:_SHOWN])
            more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
            raise StoreError(
                f"These names exist on {self._address.shown} already, so nothing was moved: {names}{more}. Move to a "
                "schema of its own, with ?schema=NAME in the address.",
                code="exists",
            )

    # --- messages -----------------------------------------------------------------------------------------------------

    def _copy_messages(self) -> None:
        statement = self._address.statement(f"copy agentq.messages ({_COLUMNS}) from stdin")
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for message in self._noted():
                copy.write_row(_columns(message))
        statement = self._address.statement("copy agentq.predecessors (message, number, predecessor) from stdin")
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for predecessor in self._predecessors:
                copy.write_row(predecessor)
        # New names: all settled messages of these actors are those that were just stored.
        self._do(
            """
            update agentq.messages m set settled = n.number
            from (
                select id, row_number() over (partition by actor, queue order by ended_at, place) as number
                from agentq.messages where actor = any(%s) and ended_at is not null
            ) n
            where n.id = m.id
            """,
            list(self._names),
        )

    def _noted(self) -> Iterator[MovedMessage]:
        """Yield the messages, and count them by kind."""
        for message in self._contents.messages():
            self._names.add(message.actor)
            if message.id in self._unsettled:
                self._departed.add(message.id)
            self._counts[_counted_as(message)] += 1
            self._predecessors += [(message.id, *one) for one in enumerate(_after(message))]
            if message.batch in self._rows:
                self._rows[message.batch][message.row] = (message.id, digest(message.body))
            yield message

    # --- actors, queues and batches -----------------------------------------------------------------------------------

    def _insert_actors(self) -> None:
        for one in self._contents.actors():
            self._do(
                """
                insert into agentq.actors (actor, name, state, created_at, state_at)
                values (%s, %s, %s, coalesce(%s, agentq.now()), %s)
                on conflict (actor) do update
                set state = excluded.state, created_at = excluded.created_at, state_at = excluded.state_at
                """,
                *(one.actor, actor_name(one.actor), one.state, one.created_at, one.state_at),
            )

    def _insert_queues(self) -> None:
        self._do(
            """
            insert into agentq.queues (actor, queue, name, live, bytes, settled)
            select actor, queue, split_part(actor, '/', 1), count(*) filter (where ended_at is null),
                coalesce(sum(size) filter (where ended_at is null), 0), coalesce(max(settled), 0)
            from agentq.messages where actor = any(%s)
            group by actor, queue
            """,
            list(self._names),
        )
        for total in self._contents.totals():
            self._do(
                """
                insert into agentq.queues (actor, queue, name, completed, handled, expired) values (%s, %s, %s, %s, %s, %s)
                on conflict (actor, queue) do update
                set completed = excluded.completed, handled = excluded.handled, expired = excluded.expired
                """,
                *(total.actor, total.queue, actor_name(total.actor)),
                *(total.completed, total.completed + total.failed, total.expired),
            )
        for pause in self._contents.pauses():
            self._do(
                """
                insert into agentq.queues (actor, queue, name, paused, paused_until, stopped)
                values (%s, %s, %s, true, %s, %s)
                on conflict (actor, queue) do update
                set paused = true, paused_until = excluded.paused_until, stopped = excluded.stopped
                """,
                *(pause.actor, pause.queue, actor_name(pause.actor), pause.until, pause.stopped),
            )

    def _insert_batches(self) -> None:
        for batch in sorted(self._batches.values(), key=lambda one: one.created_at):
            self._do(
                """
                insert into agentq.batches (name, actor, queue, created_at, facts, view, total)
                values (%s, %s, %s, %s, %s, %s::int[], %s)
                """,
                *(batch.name, batch.actor, batch.queue, batch.created_at),
                *(json.dumps(dict(batch.facts)), list(batch.view), batch.total),
            )
            rows = self._rows[batch.name]
            statement = self._address.statement(
                "copy agentq.batch_rows (batch, number, message, content, replaced) from stdin"
            )
            with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
                for number in range(batch.total):
                    message, content = rows.get(number, ("", b""))  # it was pruned
                    copy.write_row((batch.name, number, message, content, number in batch.replaced))


def _counted_as(message: MovedMessage) -> str:
    if message.ended_at is not None:
        return "dead" if message.status == "failed" else "results"
    return "scheduled" if message.queue.startswith("$") else "unsettled"


def _after(message: MovedMessage) -> Sequence[MessageId]:
    return message.options.get("after", ())


def _columns(message: MovedMessage) -> tuple[Any, ...]:
    key = message.options.get("idempotency_key")
    error = None if message.error is None else dict(message.error)
    return (
        message.id,
        message.actor,
        message.queue,
        message.status,
        message.priority,
        message.due,
        message.expires,
        message.created_at,
        message.body,
        json.dumps(dict(message.options)),
        len(message.body),
        None if key is None else key_hash(key),
        None if key is None else digest_of(message.body, _after(message)),
        schedule_name(message.options.get("schedule")),
        message.began_at,
        message.front,
        message.in_order,
        message.failures,
        message.crashes,
        message.ended,
        message.suspicion,
        message.attempts,
        None if message.problem is None else message.problem.replace("\0", ""),
        message.reply,
        None if error is None else json.dumps(error),
        None if error is None else searchable(error),
        message.ended_at,
        message.seconds,
        message.batch,
    )
