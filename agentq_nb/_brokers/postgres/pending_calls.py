"""The calls of one broker that other hosts carry out: written together, and their answers read together.

A transaction for each would use up the connections when many actions are called at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentq_nb._brokers.exchange import Request
from agentq_nb._brokers.postgres import requests
from agentq_nb._brokers.postgres.connection import Database, Transaction
from agentq_nb._brokers.postgres.notifications import Notifications
from agentq_nb._core.clock import Clock
from agentq_nb._core.error_fields import error_of
from agentq_nb.errors import BodyTooLarge, InternalError, Unavailable

PATIENCE = 30.0
"""Seconds in which a host must begin with a request: a dead one is replaced in less."""

_MOST_BYTES = 256 * 1024 * 1024
_BYTES_AT_ONCE = 16 * 1024 * 1024


@dataclass
class _Pending:
    """A call. ``deadline``, on the monotonic clock: when it is taken back unless a host has begun it."""

    request: Request
    answer: asyncio.Future[bytes]
    deadline: float | None

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass
class _Round:
    """What one transaction writes and asks for: calls that are new, and those whose answers were read."""

    new: Sequence[Request]
    read: Sequence[str]
    waiting: Sequence[str]
    late: Sequence[Request]


class PendingCalls:
    """Sends requests and waits for their answers. See :meth:`agentq_nb._brokers.exchange.Exchange.ask`."""

    def __init__(self, database: Database, notifications: Notifications, clock: Clock, session: str) -> None:
        self._database = database
        self._notifications = notifications
        self._clock = clock
        self._session = session
        self._pending: dict[str, _Pending] = {}
        self._unsent: list[_Pending] = []
        self._read: list[str] = []
        """Requests whose answers have arrived, to be deleted."""
        self._wake = asyncio.Event()

    async def ask(self, request: Request) -> bytes:
        """Return the answer. Raises its error, Unavailable and BodyTooLarge."""
        if len(request.asked) > _MOST_BYTES:
            raise BodyTooLarge(_MOST_BYTES)
        self._database.check()
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        pending = _Pending(request, answer, self._clock.monotonic() + PATIENCE)
        self._pending[request.id] = pending
        self._unsent.append(pending)
        self._wake.set()
        self._notifications.ring(("answered", self._session))
        try:
            return await answer
        finally:
            del self._pending[request.id]

    async def work(self) -> None:
        """Send and read until cancelled."""
        with self._notifications.watch(("answered", self._session)) as watch:
            try:
                while True:
                    if not (self._pending or self._read):
                        self._wake.clear()
                        await self._wake.wait()
                    watch.clear()
                    sent, full = self._next()
                    if await self._round(sent) or full or not self._pending:
                        continue
                    deadlines = [each.deadline for each in self._pending.values() if each.deadline is not None]
                    await watch.wait(min(deadlines, default=None))
            finally:
                self._fail_all(
                    Unavailable("The connection to the queues was closed, so how far the call got is not known.")
                )

    def _next(self) -> tuple[list[_Pending], bool]:
        """Take what one transaction sends; return whether there is more."""
        taken: list[_Pending] = []
        size = 0
        while self._unsent and size < _BYTES_AT_ONCE:
            taken.append(self._unsent.pop(0))
            size += len(taken[-1].request.asked)
        return [each for each in taken if not each.answer.done()], bool(self._unsent)

    async def _round(self, sent: Sequence[_Pending]) -> bool:
        """Write and read once; return whether answers have come, whose rows are to be deleted."""
        now, unsent = self._clock.monotonic(), {each.request.id for each in self._unsent}
        waiting = [each for request, each in self._pending.items() if request not in unsent]
        late = [each.request for each in waiting if each.deadline is not None and each.deadline <= now]
        turn = _Round([each.request for each in sent], self._read, [each.request.id for each in waiting], late)
        try:
            rows, taken_back = await self._database.run(lambda tx: self._exchange(tx, turn), repeatable=True)
        except Unavailable as error:
            self._fail_all(error)
            return False
        self._read = [row[0] for row in rows if row[2]]
        found = {row[0]: row for row in rows}
        for each in waiting:
            if (reason := taken_back.get(each.request.id)) is not None:
                each.fail(Unavailable(reason))
            elif (row := found.get(each.request.id)) is None:
                each.fail(_forgotten(each.request))
            else:
                _note(each, *row[1:])
        return bool(self._read)

    async def _exchange(self, tx: Transaction, turn: _Round) -> tuple[list[tuple[Any, ...]], dict[str, str]]:
        if turn.read:
            await tx.ask("delete from agentq.requests where id = any(%(ids)s)", ids=list(turn.read))
        await requests.insert(tx, turn.new, self._session)
        taken_back = {
            request.id: reason for request in turn.late if (reason := await requests.take_back(tx, request)) is not None
        }
        rows = await tx.rows(
            """
            select id, session is not null, ended_at is not null, answer, error
            from agentq.requests
            where id = any(%(ids)s)
            """,
            ids=list(turn.waiting),
        )
        return rows, taken_back

    def _fail_all(self, error: Unavailable) -> None:
        for each in list(self._pending.values()):
            each.fail(Unavailable(error.message, metadata=error.metadata))
        self._unsent.clear()


def _note(pending: _Pending, begun: bool, ended: bool, answer: bytes | None, error: bytes | None) -> None:
    if begun or ended:
        pending.deadline = None
    if error is not None:
        actor = pending.request.actor
        pending.fail(error_of(error) or InternalError(f"The error of the call to actor '{actor}' cannot be read."))
    elif ended and not pending.answer.done():
        pending.answer.set_result(answer or b"null")


def _forgotten(request: Request) -> Unavailable:
    return Unavailable(
        f"The call to actor '{request.actor}' was deleted, because this process did not renew its session in time. Whether it "
        "was carried out is not known."
    )
