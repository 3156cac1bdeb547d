"""Messages that wait for others (``after=``): due once those have completed, cancelled when one of them cannot any more.

A message that others wait for is settled first, durably; then comes what waits for it, a slice at a time, however much
that is. A crash between the two loses nothing: whether a message still waits is derived from the log (see
``predecessors``).
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import contextmanager

from agentq_nb._brokers.local.queues import LiveMessage
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._core.ids import MessageId

_AT_ONCE = 100
"""Messages that are released or cancelled per step, in about a millisecond of the loop."""


class Dependents:
    """The live messages that were sent after others.

    :param release: makes a message due that waits for nothing any more.
    :ivar cancel: settles messages as cancelled, each because of the result of one that it waited for; set by ``commit``.
    """

    def __init__(self, release: Callable[[LiveMessage], None]) -> None:
        self.cancel: Callable[[Sequence[tuple[LiveMessage, StoredResult]]], None] = lambda _: None
        self._release = release
        self._of: dict[MessageId, dict[MessageId, LiveMessage]] = {}
        self._pending: deque[tuple[StoredResult, list[LiveMessage]]] = deque()
        self._refused: dict[MessageId, StoredResult] = {}
        """By message: the result that causes it to be cancelled once it is durable itself."""
        self._stepping = False
        self._spared: Counter[MessageId] = Counter()

    def add(self, entry: LiveMessage, unmet: set[MessageId] | None) -> None:
        """Remember what a message was sent after, and that ``unmet`` of it has not completed yet."""
        entry.unmet = unmet
        for message in entry.after:
            self._of.setdefault(message, {})[entry.id] = entry

    def forget(self, entry: LiveMessage) -> None:
        """Forget a message that is settled, or was refused."""
        self._refused.pop(entry.id, None)
        entry.unmet = None
        for message in set(entry.after):
            dependents = self._of.get(message, {})
            if dependents.pop(entry.id, None) is not None and not dependents:
                del self._of[message]

    def clear(self) -> None:
        """Forget all messages."""
        self._of.clear()
        self._pending.clear()
        self._refused.clear()

    # --- the ends of what is waited for -------------------------------------------------------------------------------

    def settled(self, result: StoredResult) -> None:
        """Note that a message was settled, durably: soon, what waits for it is released or cancelled."""
        if (dependents := self._of.get(result.message)) is not None:
            self._expect(result, [one for one in dependents.values() if one.unmet and result.message in one.unmet])

    def arrived(self, entry: LiveMessage) -> None:
        """Note that a message that waits for others is durable."""
        if (result := self._refused.pop(entry.id, None)) is not None:
            self._expect(result, [entry])

    def _expect(self, result: StoredResult, entries: list[LiveMessage]) -> None:
        entries.reverse()
        self._pending.append((result, entries))
        self._go_on()

    def _go_on(self) -> None:
        if self._pending and not self._stepping:
            self._stepping = True
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        self._stepping = False
        cancelled: dict[MessageId, tuple[LiveMessage, StoredResult]] = {}
        for _ in range(_AT_ONCE):
            while self._pending and not self._pending[0][1]:
                self._pending.popleft()
            if not self._pending:
                break
            result, entries = self._pending[0]
            entry = entries.pop()
            if entry.gone or not entry.unmet or result.message not in entry.unmet:
                continue
            if result.status == "completed":
                entry.unmet.discard(result.message)
                if not entry.unmet:
                    self._release(entry)
            elif entry.id in entry.queue_state.blocked:
                cancelled.setdefault(entry.id, (entry, result))  # several that it waits for may have ended
            else:
                self._refused[entry.id] = result
        if cancelled:
            self.cancel(list(cancelled.values()))
        self._go_on()

    # --- pruning ------------------------------------------------------------------------------------------------------

    def needed(self) -> Collection[MessageId]:
        """Return the messages whose history must not be pruned. Can be called from any thread."""
        return set(self._of).union(set(self._spared))  # copied in one step each, while the loop may change them

    @contextmanager
    def sparing(self, messages: Iterable[MessageId]) -> Generator[None]:
        """Keep the history of these messages meanwhile."""
        spared = list(messages)
        self._spared.update(spared)
        try:
            yield
        finally:
            self._spared.subtract(spared)
            self._spared = +self._spared
