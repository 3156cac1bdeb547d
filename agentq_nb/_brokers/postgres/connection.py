"""Connections to the database: a pool, and transactions that are repeated where this is safe."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.errors import DeadlockDetected, DiskFull, SerializationFailure
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from agentq_nb._brokers.postgres.address import CONNECT_TIMEOUT, Address
from agentq_nb.errors import Unavailable

# Without a handler of the program, warnings would be printed from the background. status() says what is wrong.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]
Key: TypeAlias = tuple[str, ...]
"""A change, as :mod:`notifications` announces it."""

PATIENCE = 10.0
"""Seconds in which a transaction that was not written is repeated."""
STATUS_PATIENCE = 1.0
"""The same for reading a status, which has to say soon what is wrong."""
_MOST_CONNECTIONS = 8
_WAIT = 2.0
"""Seconds to wait for a connection. After that the pool is asked again, since by itself it tries less and less often."""
_OPEN_AGAIN = 0.3
_LASTING = (
    "authentication failed",
    "does not exist",
    "no pg_hba.conf entry",
    "permission denied",
    "not permitted to log in",
)
"""Parts of errors that do not go away by themselves."""
_QUIET = 2 * _WAIT
"""Seconds without a transaction that succeeded, after which the server itself may be in trouble."""
_IDLE = 5.0
"""Seconds after which the pool closes a connection that it did not need; one at a time, so that an idle host soon has one."""
_TURN = 0.25
"""Seconds for which a look of the host's own waits for another one that is under way."""
_REPEATED = (DeadlockDetected, SerializationFailure)
"""The server has undone the transaction and asks for a repetition."""
_FAILED = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,
    psycopg.ProgrammingError,
    PoolTimeout,
)
# Whatever the default of the server is: a statement after a lock has to see what others committed before that.
_BEGIN = b"begin isolation level read committed"
_COMMIT = b"commit"
_UNNESTED = re.compile(r"unnest\(((?:\s*%\(\w+\)s::\w+\[\],?)+)\s*\)(\s+as\b)?")


@lru_cache(maxsize=100)
def _for_one_row(query: str) -> str:
    """Return the query with values in place of unnested arrays."""
    return _UNNESTED.sub(lambda found: f"(values ({found[1].replace('[]', '')})){found[2] or ' as one_row'}", query)


def untyped(value: Any) -> Any:
    """Leave a value's type to the query's casts: psycopg types a number by its size, and each type is a statement."""
    return value if value is None or isinstance(value, bytes) else str(value)


class Transaction:
    """One transaction. What it announces reaches others once it is committed.

    :ivar host: who works in it; see :attr:`Database.host`.
    :ivar committed: called once it is committed.
    """

    def __init__(self, connection: AsyncConnection[Row], address: Address, host: str = "") -> None:
        self._connection = connection
        self._address = address
        self.host = host
        self.announced: dict[Key, None] = {}
        self.committed: list[Callable[[], None]] = []

    async def ask(self, query: str, **parameters: Any) -> AsyncCursor[Row]:
        """Send a query without waiting for its rows."""
        return await self._connection.execute(self._address.statement(query), parameters)

    async def ask_with_rows(self, query: str, **columns: Sequence[Any]) -> AsyncCursor[Row]:
        """Send a query that unnests these columns, which are of one length, without waiting for its rows.

        A single row, the usual case, is sent as values: an array's length is unknown to the server, so it would plan
        the query each time.
        """
        if any(len(column) != 1 for column in columns.values()):
            return await self.ask(query, **columns)
        values = {name: column[0] for name, column in columns.items()}
        return await self.ask(_for_one_row(query), **{name: untyped(value) for name, value in values.items()})

    async def rows(self, query: str, **parameters: Any) -> list[Row]:
        """Return the rows of a query."""
        return await (await self.ask(query, **parameters)).fetchall()

    async def row(self, query: str, **parameters: Any) -> Row | None:
        """Return the first row of a query."""
        return await (await self.ask(query, **parameters)).fetchone()

    def announce(self, *keys: Key) -> None:
        """Tell others about it once this is committed."""
        self.announced.update(dict.fromkeys(keys))


async def _configure(connection: AsyncConnection[Row]) -> None:
    """Recognise a pooler by the server process's number that it makes up."""
    row = await (await connection.execute("select pg_backend_pid()")).fetchone()
    if row is None or row[0] != connection.info.backend_pid:
        # There is a pooler in between: the next transaction may run in another process of the server, which does not know
        # the statements that were prepared in this one.
        connection.prepare_threshold = None


class Cancellation:
    """Notices that the current task was cancelled though nothing was raised in it.

    The pool waits for a connection with ``asyncio.wait_for``. Until Python 3.12 this returns what it waited for, and forgets
    the cancellation, if both come at once.
    """

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._before = 0 if self._task is None else self._task.cancelling()

    def check(self) -> None:
        """Raise CancelledError if the task was cancelled since this was made."""
        if self._task is not None and self._task.cancelling() > self._before:
            raise asyncio.CancelledError


class Database:
    """The connections of one broker.

    :ivar announce: called with what a committed transaction announced.
    :ivar host: the name of the host that this is of, the same after a restart; empty for other programs.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.announce: Callable[[Iterable[Key]], None] = lambda _: None
        self.host = ""
        self.trouble: str | None = None
        """Why the last transaction failed, until one succeeds."""
        self.patience = PATIENCE
        """Seconds in which a transaction is repeated."""
        self.closed = False
        self._looking = asyncio.Lock()
        self._succeeded = -math.inf
        """When a transaction last succeeded, on the monotonic clock."""
        self._reason: asyncio.Task[Exception | None] | None = None
        self._pool = AsyncConnectionPool[AsyncConnection[Row]](
            address.conninfo,
            min_size=1,
            max_size=_MOST_CONNECTIONS,
            open=False,
            timeout=_WAIT,
            reconnect_timeout=_WAIT / 2,
            max_idle=_IDLE,
            kwargs={"autocommit": True},
            configure=_configure,
            name="agentq",
        )

    async def open(self) -> None:
        """Open the first connection; wait a few seconds for a server that is not there yet. Raises Unavailable."""
        until = time.monotonic() + self.patience
        while True:
            try:
                await (await AsyncConnection.connect(self.address.conninfo)).close()
                await self._pool.open(wait=True, timeout=CONNECT_TIMEOUT)
                return
            except (psycopg.Error, PoolTimeout) as error:
                text = await self._text(error)
                if time.monotonic() >= until or any(said in text for said in _LASTING):
                    await self._pool.close()
                    raise self._unavailable(text) from None
            await asyncio.sleep(_OPEN_AGAIN)

    async def _text(self, error: Exception) -> str:
        """Return what went wrong, in a line. Of a missing connection the pool only says that it waited too long."""
        if isinstance(error, PoolTimeout):
            if self._reason is None or self._reason.done():
                self._reason = asyncio.create_task(self._why_not())
            error = await asyncio.shield(self._reason) or error
        return self.address.hide(" ".join(str(error).split())) or type(error).__name__

    async def _why_not(self) -> Exception | None:
        """Return why there is no connection; asked once for all that wait, for the server may have too many."""
        try:
            await (await AsyncConnection.connect(self.address.conninfo)).close()
        except psycopg.Error as reason:
            return reason
        return None

    def check(self) -> None:
        """Raise Unavailable once this is closed."""
        if self.closed:
            raise Unavailable("The connection to the queues was closed. Start the host again.")

    async def run(
        self,
        work: Callable[[Transaction], Awaitable[T]],
        *,
        repeatable: bool = False,
        one_statement: bool = False,
        patience: float | None = None,
    ) -> T:
        """Run a transaction, durable on return.

        :param repeatable: whether running it twice has the same effect as running it once.
        :param one_statement: whether it is a single statement, so that begin and commit need no messages of their own.
        :param patience: seconds in which it is repeated if it is repeatable, or if nothing was written for certain; None:
            :attr:`patience`.

        Raises Unavailable; then it is unknown whether it was written.
        """
        patience = self.patience if patience is None else patience
        until, tries = time.monotonic() + patience, 0
        while True:
            self.check()
            try:
                transaction, result = await self._once(work, one_statement)
            except _Failed as failed:
                if isinstance(failed.error, PoolTimeout):
                    # As long as the server answers, it is only that others of this host come first.
                    until = max(until, self._succeeded + patience)
                    if time.monotonic() < self._succeeded + _QUIET:
                        continue
                tries += 1
                self.trouble = await self._text(failed.error)
                again = (failed.unwritten or repeatable) and not isinstance(failed.error, psycopg.ProgrammingError)
                if not again or time.monotonic() >= until:
                    raise self._unavailable(self.trouble) from failed.error
                await asyncio.sleep(min(0.01 * 2**tries, 0.5) * (0.5 + random.random()))
                continue
            self.trouble, self._succeeded = None, time.monotonic()
            self.announce(transaction.announced)
            for call in transaction.committed:
                call()
            return result

    async def look(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run a repeatable transaction that a host begins by itself again and again. Raises Unavailable.

        They are made one after the other unless one takes long. Otherwise those of an idle host would often meet, and
        each time the pool would open one more connection, to close it much later.
        """
        alone = False
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_TURN):
                    alone = await self._looking.acquire()
            return await self.run(work, repeatable=True)
        finally:
            if alone:
                self._looking.release()

    async def _once(self, work: Callable[[Transaction], Awaitable[T]], one_statement: bool) -> tuple[Transaction, T]:
        worked, cancellation = one_statement, Cancellation()
        try:
            async with self._pool.connection() as connection:
                cancellation.check()
                transaction = Transaction(connection, self.address, self.host)
                if one_statement:
                    return transaction, await work(transaction)
                # As statements of the pipeline, since connection.transaction() waits for each of the two to be answered.
                async with connection.pipeline():
                    await connection.execute(_BEGIN, prepare=False)
                    result = await work(transaction)
                    worked = True
                    await connection.execute(_COMMIT, prepare=False)
        except _FAILED as error:
            cancellation.check()
            self.check()
            raise _Failed(error, unwritten=not worked or isinstance(error, (*_REPEATED, DiskFull))) from error
        return transaction, result

    async def run_statement(self, query: str, **parameters: Any) -> None:
        """Run one statement, once and without a transaction around it. Raises Unavailable."""
        self.check()
        cancellation = Cancellation()
        try:
            async with self._pool.connection() as connection:
                cancellation.check()
                await connection.execute(self.address.statement(query), parameters)
        except _FAILED as error:
            raise self._unavailable(await self._text(error)) from error

    def _unavailable(self, text: str) -> Unavailable:
        return Unavailable(
            f"The queues on PostgreSQL ({self.address.shown}) cannot be reached: {text}", metadata={"reason": text}
        )

    async def close(self) -> None:
        """Close all connections. Transactions that wait end with Unavailable."""
        self.closed = True
        connections = list(self._pool._pool)  # type: ignore[reportPrivateUsage]  # its own close may leave them open
        cancellation = Cancellation()
        try:
            await self._pool.close(timeout=2.0)
        except asyncio.CancelledError:
            # Other code has cancelled every task of the loop: the pool raises what its own tasks did.
            for connection in connections:
                await connection.close()
            cancellation.check()

    def drop(self) -> None:
        """Close all connections whose event loop has ended."""
        self.closed = True
        for connection in list(self._pool._pool):  # type: ignore[reportPrivateUsage]  # its own close needs the loop
            connection.pgconn.finish()


class _Failed(Exception):
    def __init__(self, error: Exception, *, unwritten: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.unwritten = unwritten
