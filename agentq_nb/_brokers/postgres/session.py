"""A broker's session, which is its lease of all actors that it runs: its renewal from a thread, and the end of dead sessions.

A session is alive until the time in its row. Its broker extends that time from a thread with a connection of its own, so that a
blocked event loop does not lose the session. Any other broker ends a dead session: its messages in flight are delivered again,
as after a crash.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import psycopg

from agentq_nb._brokers.postgres import events, requests
from agentq_nb._brokers.postgres.address import Address
from agentq_nb._brokers.postgres.connection import Database, Row, Transaction
from agentq_nb._brokers.postgres.dependents import save
from agentq_nb._brokers.postgres.homes import RUNS, check_home
from agentq_nb._brokers.postgres.limited_work import end_works
from agentq_nb._brokers.postgres.rows import lock_messages
from agentq_nb._brokers.statuses import Home
from agentq_nb._core.ids import ActorId, actor_name
from agentq_nb._core.threads import in_long_thread

LEASE = 15.0
"""Seconds after its last renewal after which a host has lost its actors."""
RENEWAL = 5.0
"""Seconds between two renewals."""
_RECONNECT = 1.0
"""Seconds after which the connection for renewals is opened again."""
STALLED = 15.0
"""Seconds without a statement after which a transaction is undone. Usual ones take milliseconds in all."""
_LOOKING = 3.0
"""How many of all hosts look for stalled transactions in each round, on average."""


async def begin(tx: Transaction, session: str, facts: Mapping[str, Any]) -> None:
    """Add the session's row, and announce it to the other brokers."""
    await tx.ask(
        """
        insert into agentq.sessions (session, facts, until)
        values (%(session)s, %(facts)s, agentq.now() + %(lease)s)
        on conflict do nothing
        """,
        session=session,
        facts=json.dumps(dict(facts)),
        lease=LEASE,
    )
    tx.announce(("joined", session))


async def add_facts(tx: Transaction, session: str, facts: Mapping[str, Any]) -> None:
    """Add to what a session says of itself."""
    await tx.ask(
        "update agentq.sessions set facts = (facts::jsonb || %(facts)s::jsonb)::text where session = %(session)s",
        session=session,
        facts=json.dumps(dict(facts)),
    )


async def has_others(tx: Transaction, session: str) -> bool:
    """Whether other brokers use the same queues."""
    row = await tx.row("select exists (select from agentq.sessions where session <> %(session)s)", session=session)
    return row is not None and row[0]


async def end(tx: Transaction, session: str, *, crashed: bool) -> None:
    """End a session and its leases. Messages in flight go back into their queues; if it ``crashed``, that counts as a crash."""
    row = await tx.row("select 1 from agentq.sessions where session = %(session)s for update", session=session)
    if row is None:
        return
    actors = await tx.rows(
        "select actor, epoch from agentq.actors where session = %(session)s order by actor for update", session=session
    )
    held = await lock_messages(
        tx, "epoch = any(%(epochs)s) and status = 'running'", epochs=[epoch for _, epoch in actors]
    )
    # With several messages in flight, the one that caused it is unknown.
    await save(tx, [row.put_back(crashed=crashed, alone=len(held) == 1) for row in held])
    await end_works(tx, session)
    await requests.end_session(tx, session)
    await events.end_session(tx, session)
    for statement in (
        "delete from agentq.limit_waits where session = %(session)s",
        "update agentq.actors set epoch = null, session = null, host = null where session = %(session)s",
        "delete from agentq.senders where session = %(session)s",
        "delete from agentq.sessions where session = %(session)s",
    ):
        await tx.ask(statement, session=session)
    tx.announce(*(("work", actor) for actor, _ in actors), ("left", session))


def end_now(address: Address, session: str) -> None:
    """Mark a session as over, for another broker to end it, without a crash. Blocks."""
    with suppress(psycopg.Error), psycopg.connect(address.conninfo, autocommit=True) as connection:
        connection.execute(
            address.statement("update agentq.sessions set until = 0, orderly = true where session = %(session)s"),
            {"session": session},
        )


async def end_predecessors(tx: Transaction, session: str, home: Home) -> None:
    """Mark earlier sessions of this home as dead: its file is open in one process at a time, so theirs have ended."""
    await tx.ask(
        """
        update agentq.sessions set until = 0
        where session <> %(session)s and facts::jsonb @> jsonb_build_object('home', %(home)s::text, 'place', %(place)s::text)
        """,
        session=session,
        home=home.id,
        place=home.name,
    )


async def end_dead(database: Database, session: str) -> None:
    """End every other session that was not renewed in time."""
    rows = await database.look(
        lambda tx: tx.rows(
            "select session from agentq.sessions where until < agentq.now() and session <> %(session)s", session=session
        )
    )
    for (dead,) in rows:
        await database.look(lambda tx, dead=dead: _end_if_dead(tx, dead))


async def _end_if_dead(tx: Transaction, session: str) -> None:
    row = await tx.row(
        """
        select orderly from agentq.sessions
        where session = %(session)s and until < agentq.now()
        for update skip locked
        """,
        session=session,
    )
    if row is not None:
        await end(tx, session, crashed=not row[0])


async def end_stalled(tx: Transaction) -> None:
    """Undo transactions of hosts that have stalled or disappeared: other hosts wait for the rows that they have locked.

    The server's own timeouts do not apply to them: within a pipeline a connection counts as active while the server waits for
    its client. Exports and moves wait for their programs much longer, on connections with another name.
    """
    await tx.ask(_END_STALLED, looking=_LOOKING, stalled=STALLED)


_END_STALLED = """
select pg_terminate_backend(pid) from pg_stat_activity
where (select random() < %(looking)s / greatest(count(*), 1) from agentq.sessions)
  and application_name = 'agentq' and datname = current_database() and usename = current_user
  and state in ('active', 'idle in transaction') and wait_event = 'ClientRead'
  and clock_timestamp() - query_start > make_interval(secs => %(stalled)s)
"""


async def leases(tx: Transaction, session: str) -> list[tuple[ActorId, int]]:
    """Return the leases of a session: the actors, each with the number of its lease."""
    rows = await tx.rows("select actor, epoch from agentq.actors where session = %(session)s", session=session)
    return [(actor, epoch) for actor, epoch in rows]


class Acquired(NamedTuple):
    """A lease's number, the state, and whether another host had the actor's files before."""

    epoch: int
    state: bytes | None
    moved: bool


async def acquire(tx: Transaction, actor: ActorId, host: str, session: str, home: Home | None) -> Acquired | str | None:
    """Acquire the lease of an actor, and with ``home`` become the home of its files. Raises ActorElsewhere.

    Returns None if another host runs the actor, and a str, the session's id, if a dead session has it.
    """
    await tx.ask(
        "insert into agentq.actors (actor, name) values (%(actor)s, %(name)s) on conflict do nothing",
        actor=actor,
        name=actor_name(actor),
    )
    row = await tx.row(
        f"""
        select a.epoch, a.session, a.host, s.until is null or s.until < agentq.now(),
               a.home, a.home_name, a.given_up, {RUNS}
        from agentq.actors a left join agentq.sessions s on s.session = a.session
        where a.actor = %(actor)s
        for update of a
        """,
        actor=actor,
    )
    assert row is not None  # it was inserted
    epoch, owner, owner_host, dead, *kept = row
    if home is not None:
        check_home(actor, home, *kept)
    if epoch is not None and owner != session:
        return owner if dead else None
    if epoch is not None:
        if owner_host != host:
            return None
        # This host has acquired it before, and the answer got lost.
        held = await lock_messages(tx, "epoch = %(epoch)s and status = 'running'", epoch=epoch)
        await save(tx, [message.put_back() for message in held])
    taken = await tx.row(
        """
        update agentq.actors
        set epoch = nextval('agentq.epochs'), session = %(session)s, host = %(host)s,
            home = coalesce(%(home)s, home), home_name = coalesce(%(home_name)s, home_name),
            given_up = given_up and %(home)s::text is null
        where actor = %(actor)s
          and exists (select from agentq.sessions where session = %(session)s for key share)
        returning epoch, state
        """,
        actor=actor,
        session=session,
        host=host,
        home=home and home.id,
        home_name=home and home.name,
    )
    return None if taken is None else Acquired(taken[0], taken[1], home is not None and kept[2])


class Renewal:
    """The thread that keeps the session alive.

    :param lost: called on the event loop when others have ended the session.
    """

    def __init__(self, address: Address, session: str, lost: Callable[[], None]) -> None:
        self._address = address
        self._session = session
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="agentq lease", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        pause = RENEWAL
        while not self._ended.is_set():
            with suppress(psycopg.Error), self._connect() as connection:
                while not self._ended.wait(pause):
                    pause = RENEWAL
                    if not self._renewed(connection):
                        self._tell_lost()
                        return
            pause = 0.0  # the connection broke, so little may be left of the lease
            self._ended.wait(_RECONNECT)

    def _connect(self) -> psycopg.Connection[Row]:
        # Behind a pooler, prepared statements would be shared with other clients.
        return psycopg.connect(self._address.conninfo, autocommit=True, prepare_threshold=None)

    def _renewed(self, connection: psycopg.Connection[Row]) -> bool:
        renewed = connection.execute(
            self._address.statement(
                "update agentq.sessions set until = agentq.now() + %(lease)s where session = %(session)s"
            ),
            {"lease": LEASE, "session": self._session},
        )
        return renewed.rowcount == 1

    def _tell_lost(self) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._lost)

    async def end(self) -> None:
        """Stop renewing."""
        self._ended.set()
        await in_long_thread(self._thread.join, 2 * RENEWAL)
