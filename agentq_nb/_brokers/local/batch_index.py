"""The batches in use, in memory: which messages are their rows, and which of those are settled. No I/O.

A batch is loaded when it is first used. Rows count as settled only once that is durable.
"""

from __future__ import annotations

import asyncio
import itertools
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentq_nb._brokers.batches import StoredBatch
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._core.message_status import FINAL, MessageStatus
from agentq_nb._core.rate import RateMeter

LIVE = 0
PRUNED = 1 + len(FINAL)
CODES: Mapping[MessageStatus, int] = {status: 1 + number for number, status in enumerate(FINAL)}
"""The code of each final status in ``BatchState.codes``."""

_states = itertools.count(1)


@dataclass(slots=True, eq=False)
class BatchState:
    """One batch."""

    name: str
    actor: ActorId
    queue: str
    created_at: float
    view: Sequence[range] = ()
    """The rows that it consists of, in their order."""
    replaced: Sequence[range] = ()
    """Rows that do not count any more: others took their place when the work was done again."""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    first: int = 0
    """The lowest sequence number at which its rows may be in the log."""
    number: int = field(default_factory=lambda: next(_states))
    ids: list[MessageId | None] = field(default_factory=list[MessageId | None])
    """The message of each row; None if it was pruned."""
    rows: dict[MessageId, int] = field(default_factory=dict[MessageId, int])
    codes: bytearray = field(default_factory=bytearray)
    """The status of each row: ``LIVE``, ``PRUNED``, or one of ``CODES``."""
    order: array[int] = field(default_factory=lambda: array("i"))
    """Rows in the order in which they were settled. One that was put back occurs again."""
    pace: RateMeter = field(default_factory=RateMeter)
    waiters: list[asyncio.Future[None]] = field(default_factory=list[asyncio.Future[None]])

    def add(self, message: MessageId | None, code: int = LIVE) -> None:
        """Add the next row."""
        if message is not None:
            self.rows[message] = len(self.ids)
        self.ids.append(message)
        self.codes.append(PRUNED if message is None else code)

    def settle(self, message: MessageId, code: int, now: float) -> None:
        row = self.rows.get(message)
        if row is not None:
            self.codes[row] = code
            self.order.append(row)
            self.pace.note(now)
            self.wake()

    def revive(self, message: MessageId, now: float) -> None:
        row = self.rows.get(message)
        if row is not None:
            if not self.count(LIVE, self.view):
                self.pace.begin(now)
            self.codes[row] = LIVE
            self.wake()

    @staticmethod
    def numbers(rows: Iterable[range]) -> Iterator[int]:
        """Yield the number of each row."""
        return (row for span in rows for row in span)

    def counting(self) -> list[int]:
        """Return the rows that were not replaced."""
        if not self.replaced:
            return list(range(len(self.ids)))
        replaced = bytearray(len(self.ids))
        for span in self.replaced:
            replaced[span.start : span.stop] = b"\1" * len(span)
        return [row for row, is_replaced in enumerate(replaced) if not is_replaced]

    def count(self, code: int, rows: Iterable[range]) -> int:
        """Return how many of the rows have the status."""
        return sum(self.codes.count(code, span.start, span.stop) for span in rows)

    def having(self, code: int, rows: Iterable[range]) -> list[MessageId]:
        """Return the messages of the rows that have the status, in the order of the rows."""
        codes = self.codes
        found = [self.ids[row] for span in rows for row in span if codes[row] == code]
        return [message for message in found if message is not None]

    def wake(self) -> None:
        """Wake all who wait for a change."""
        if self.waiters:
            waiters, self.waiters = self.waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def changed(self) -> None:
        """Return when a row was settled or put back, the batch was stopped, or the broker forgot it."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self.waiters:
                self.waiters.remove(waiter)

    def stored(
        self, view: Sequence[range] | None = None, *, added: int = 0, earlier: Mapping[str, Any] | None = None
    ) -> StoredBatch:
        """Return it with these rows; None: with all that it consists of."""
        rows = tuple(self.view if view is None else view)
        return StoredBatch(
            name=self.name,
            actor=self.actor,
            queue=self.queue,
            created_at=self.created_at,
            rows=rows,
            total=len(self.ids),
            pruned=self.count(PRUNED, rows),
            facts=self.facts,
            added=added,
            earlier=earlier,
        )


class BatchIndex:
    """The batches in use, by name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.states: dict[str, BatchState] = {}
        self._settled_while_loading: dict[str, dict[MessageId, int]] = {}

    def settled(self, name: str, message: MessageId, status: MessageStatus) -> None:
        """Note that a row is settled, durably."""
        state = self.states.get(name)
        if state is not None:
            state.settle(message, CODES[status], self._clock.monotonic())
        elif (settled := self._settled_while_loading.get(name)) is not None:
            settled[message] = CODES[status]

    def revived(self, name: str, message: MessageId) -> None:
        """Note that a row was put back into its queue, durably."""
        if (state := self.states.get(name)) is not None:
            state.revive(message, self._clock.monotonic())
        elif (settled := self._settled_while_loading.get(name)) is not None:
            settled.pop(message, None)

    def wake(self, actor: ActorId, queue: str) -> None:
        """Wake all who wait for a batch of this queue: it has stopped, or was resumed."""
        for state in self.states.values():
            if (state.actor, state.queue) == (actor, queue):
                state.wake()

    def begin_loading(self, name: str) -> None:
        self._settled_while_loading[name] = {}

    def end_loading(self, name: str) -> Mapping[MessageId, int]:
        """Return the status of the messages that were settled since :meth:`begin_loading`."""
        return self._settled_while_loading.pop(name, {})

    def forget_settled(self) -> None:
        """Forget the batches that may have been pruned: those with all rows settled."""
        for state in list(self.states.values()):
            if LIVE not in state.codes:
                del self.states[state.name]
                state.wake()

    def clear(self) -> None:
        """Forget all batches: they are loaded again when they are used."""
        states, self.states = self.states, {}
        for state in states.values():
            state.wake()
