"""What happened in queues that several hosts share, as far as this host is to send notifications of it.

The server keeps an event until the log of the host says that it was taken in, so that it is neither lost nor sent twice when
the host dies. While the server cannot be reached, what happens in the host itself is still sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agentq_nb._brokers.batches import Batches
from agentq_nb._host.notice_events import Row, finished_batches
from agentq_nb._policies.notices import Happened
from agentq_nb.errors import Unavailable

if TYPE_CHECKING:
    from agentq_nb._brokers.postgres.notable_events import NotableEvents

SHARED = "shared"
"""In a mark: the ids of the events that were taken in, and that the server may still have."""

_BATCH_DONE = "batch.done"


class SharedNotices:
    """Reads the events for one host. What fails because the server is away is done the next time."""

    def __init__(self, events: NotableEvents, batches: Batches) -> None:
        self.taken: list[str] = []
        """The ids of the events that were returned, and are still on the server."""
        self._events = events
        self._batches = batches
        self._begins = False

    def recall(self, mark: Mapping[str, Any]) -> None:
        """Continue after the last mark in the log; without one, begin with what happens from now on."""
        self._begins = "read" not in mark
        self.taken = list(mark.get(SHARED, ()))

    async def read(self, *, at_once: bool = False) -> tuple[list[Row], list[Happened]]:
        """Return what happened: events as the log would have them, and batches that are done."""
        rows: list[Row] = []
        done: list[Happened] = []
        with suppress(Unavailable):
            if self._begins:
                await self._events.begin()
                self._begins = False
            while found := await self._events.read(self.taken, at_once=at_once):
                names = [str(event.fields.get("batch")) for event in found if event.kind == _BATCH_DONE]
                # A batch with new rows since is none of them: there will be another event.
                finished = await finished_batches(self._batches, list(dict.fromkeys(names)))
                done += [happened for happened in finished.values() if happened is not None]
                rows += [Row.shared(*event[1:]) for event in found if event.kind != _BATCH_DONE]
                self.taken += [event.id for event in found]
        return rows, done

    async def delete_taken(self) -> None:
        """Delete what was returned: the log says so now."""
        if self.taken:
            with suppress(Unavailable):
                await self._events.delete(self.taken)
                self.taken = []

    async def end(self) -> None:
        """Leave the rest to other hosts."""
        self.taken = []
        with suppress(Unavailable):  # a later begin forgets it, too
            await self._events.end()
