"""Send notifications about what happens in a host. Nothing waits for them.

The notifier reads the log every second, if a channel is set; what happens to queues that several hosts share it reads from
their server (see ``shared_notices``). A row of the log records how far it has read and which notices were still to be sent. So
the next host reports what happened while this one died, and no notice is sent twice, except one that was sent just before a
crash.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from agentq_nb._brokers.base import Broker
from agentq_nb._brokers.history import HostLog
from agentq_nb._core.clock import Clock
from agentq_nb._core.loop_portal import LoopPortal
from agentq_nb._core.redaction import without_secrets
from agentq_nb._core.safe_text import LONGEST_TEXT, safe
from agentq_nb._host.background_tasks import reason
from agentq_nb._host.notice_channels import Channel
from agentq_nb._host.notice_events import (
    AT_ONCE,
    MARK,
    Row,
    finished_batches,
    happened,
    is_new_pause,
    last_mark,
    rows_after,
    unfinished_batches,
)
from agentq_nb._host.shared_notices import SHARED, SharedNotices
from agentq_nb._policies.notices import Grouping, Notice
from agentq_nb._policies.retry import backoff
from agentq_nb.errors import AgentqError

if TYPE_CHECKING:
    from agentq_nb._brokers.postgres.broker import PostgresBroker

LOOK_AGAIN = 1.0
"""Seconds between two looks at the log."""
ATTEMPTS = 12
"""How often a notice is tried at one channel, with growing pauses; then it is dropped."""
_LONGEST_PAUSE = 300.0
_MOST_WAITING = 100
"""Notices that wait for one channel. Of more, the oldest is dropped."""
_AT_STOP = 3.0
"""Seconds in which a host that stops sends what is still to be said."""


class NotifySettings:
    """Where notices are sent. Can be changed at any time, from any thread."""

    def __init__(self) -> None:
        self._channels: tuple[Channel, ...] = ()
        self.changed: Callable[[], None] | None = None

    @property
    def channels(self) -> tuple[Channel, ...]:
        return self._channels

    @channels.setter
    def channels(self, channels: Sequence[Channel]) -> None:
        self._channels = tuple(channels)
        if self.changed is not None:
            self.changed()


class Notified(Protocol):
    """The part of the host that this uses."""

    clock: Clock
    broker: Broker
    log: HostLog
    portal: LoopPortal

    @property
    def spawn(self) -> Callable[..., None]:
        """Starts a task of the host."""
        ...


class Outbox:
    """The notices that wait for one channel. They are sent one after the other, each until it is taken or dropped."""

    def __init__(self, channel: Channel, clock: Clock, done: Callable[[], None]) -> None:
        self.channel = channel
        self.dropped = 0
        self.waiting: deque[Notice] = deque()
        self.failure: str | None = None
        """Why the last attempt failed; None if it did not."""
        self.sending = False
        self._clock = clock
        self._done = done

    def add(self, notice: Notice) -> None:
        self.waiting.append(notice)
        if len(self.waiting) > _MOST_WAITING:
            del self.waiting[1 if self.sending else 0]
            self.dropped += 1

    async def send(self) -> None:
        """Send all that waits."""
        self.sending = True
        try:
            while self.waiting:
                await self._send(self.waiting[0])
                self.waiting.popleft()
                self._done()
        finally:
            self.sending = False

    async def _send(self, notice: Notice) -> None:
        for failures in range(1, ATTEMPTS + 1):
            if await self.attempt(notice):
                return
            if failures < ATTEMPTS:
                await self._clock.sleep(backoff(failures, longest=_LONGEST_PAUSE))
        self.dropped += 1

    async def attempt(self, notice: Notice) -> bool:
        """Try once. Returns whether it was taken."""
        try:
            await self.channel.send(notice)
        except Exception as error:  # a user's function may raise anything
            self.failure = without_secrets(reason(error))
            return False
        self.failure = None
        return True

    @property
    def trouble(self) -> str | None:
        """What could not be sent, in sentences; None if all could."""
        if not self.dropped and self.failure is None:
            return None
        why = f" The last attempt failed: {self.failure}" if self.failure else ""
        return (
            f"Not all notifications to {self.channel.shown} could be sent: {self.dropped:,} dropped, {len(self.waiting):,} "
            f"to be tried again.{why}"
        )


class Notifier:
    """Reads what happens in a host, and sends it to the channels of its settings.

    :param shared: the broker of queues that several hosts share; None: the host's log has all that happens.
    """

    def __init__(self, host: Notified, settings: NotifySettings, shared: PostgresBroker | None = None) -> None:
        self._host = host
        self._settings = settings
        self._shared = None if shared is None else SharedNotices(shared.notable_events, shared.batches)
        self._log = host.log.of("")
        self._wanted = asyncio.Event()
        self._outboxes: dict[Channel, Outbox] = {}
        self._grouping: Grouping | None = None
        """None until the log was read first."""
        self._read = 0
        """The number of the last row that was read."""
        self._open: set[str] = set()
        """The batches that are not done."""
        self._limits: dict[str, str] = {}
        self._marked = ""
        self._looking = asyncio.Lock()
        self._began_after = host.log.last_event
        """The number of the last row of the host before."""
        settings.changed = self._wake
        if settings.channels:
            self._wanted.set()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # its loop has ended
            self._host.portal.loop.call_soon_threadsafe(self._wanted.set)

    @property
    def troubles(self) -> list[str]:
        """What could not be sent, in sentences."""
        return [box.trouble for box in list(self._outboxes.values()) if box.trouble is not None]

    async def work(self) -> None:
        """Wait until there is a channel, then look at the log again and again."""
        await self._wanted.wait()
        while self._settings.channels:
            await self._look()
            await self._host.clock.sleep(LOOK_AGAIN)
        self._wanted.clear()
        if self._settings.channels:
            self._wanted.set()
        elif self._grouping is not None:
            # It was switched off: what happens from now on is never sent.
            self._grouping = None
            self._outboxes.clear()
            await self._log.append(MARK, {"off": True})
            if self._shared is not None:
                await self._shared.end()

    async def test(self) -> list[str]:
        """Send a notice to every channel once. Returns why it could not be sent, for each where it could not."""
        notice = Notice("test", "agentq can reach you", f"Notifications of {self._host.log.path.name} come here.")
        boxes = [Outbox(channel, self._host.clock, lambda: None) for channel in self._settings.channels]
        sent = await asyncio.gather(*(box.attempt(notice) for box in boxes))
        return [f"{box.channel.shown}: {box.failure}" for box, taken in zip(boxes, sent, strict=True) if not taken]

    async def finish(self) -> None:
        """Send what is still to be said, each notice once, before the host stops. What is not taken is for the next host."""
        if self._grouping is None or not self._settings.channels:
            return
        try:
            with anyio.move_on_after(_AT_STOP):
                await self._look(all=True)
                boxes = [box for box in self._outboxes.values() if not box.sending]
                for box in boxes:
                    box.sending = True  # so that nothing else sends its notices as well
                await asyncio.gather(*(self._send_once(box) for box in boxes))
                await self._mark()
        except AgentqError as error:  # it must not keep the host from being stopped
            logging.getLogger("agentq").warning("The last notifications were not sent: %s", error.message)

    async def _send_once(self, box: Outbox) -> None:
        try:
            while box.waiting and await box.attempt(box.waiting[0]):
                box.waiting.popleft()
        finally:
            box.sending = False

    async def _look(self, *, all: bool = False) -> None:
        """Read what is new, and hand the notices that are due to the channels."""
        async with self._looking:  # a host may stop meanwhile, and no row counts twice
            if self._grouping is None:
                await self._recall()
            assert self._grouping is not None
            await self._take_in(self._grouping)
            if self._shared is not None:
                rows, done = await self._shared.read(at_once=all)
                for row in rows:
                    self._take(row, self._grouping)
                for event in done:
                    self._grouping.add(event, self._host.clock.time())
            notices = self._grouping.due(self._host.clock.time(), all=all)
            self._hand_over([self._signed(notice) for notice in notices])
            await self._mark()
            if not all:
                self._start()

    async def _take_in(self, grouping: Grouping) -> None:
        """Read the rows that are new. Where there are none, no batch can have been done either."""
        if self._host.log.last_event <= self._read:
            return
        while (last := self._host.log.last_event) > self._read:
            rows = await rows_after(self._log, self._read)
            for row in rows:
                self._take(row, grouping)
            if any(row.kind == "message.redelivered" for row in rows):  # perhaps rows of a batch that was done
                self._open |= await unfinished_batches(self._host.broker.batches)
            self._read = rows[-1].number if len(rows) == AT_ONCE else max([last, *(row.number for row in rows)])
        for name, event in (await finished_batches(self._host.broker.batches, sorted(self._open))).items():
            self._open.discard(name)
            if event is not None:
                grouping.add(event, self._host.clock.time())

    def _take(self, row: Row, grouping: Grouping) -> None:
        if row.kind == "permission_answer":
            grouping.answered(row.fields["request_id"] or "")
        elif row.kind == "batch.sent":
            self._open.add(row.fields["batch"] or "")
        elif row.kind == "limit.paused" and not is_new_pause(row, self._limits):
            return
        elif (event := happened(row, self._began_after)) is not None:
            grouping.add(event, self._host.clock.time())

    def _signed(self, notice: Notice) -> Notice:
        """Return the notice with the file's name, without secrets, and safe to show in a terminal."""
        title = safe(without_secrets(f"agentq: {notice.title}"))
        text = safe(without_secrets(f"{notice.text}\n{self._host.log.path.name}"), LONGEST_TEXT)
        return Notice(notice.kind, title, text, notice.count)

    def _hand_over(self, notices: Sequence[Notice]) -> None:
        """Put the notices into the outbox of each channel; forget channels that were taken away."""
        channels = self._settings.channels
        for gone in [channel for channel in self._outboxes if channel not in channels]:
            del self._outboxes[gone]
        for channel in channels:
            box = self._outboxes.get(channel)
            if box is None:
                box = self._outboxes[channel] = Outbox(channel, self._host.clock, self._wake)
            for notice in notices:
                box.add(notice)

    def _start(self) -> None:
        for box in self._outboxes.values():
            if box.waiting and not box.sending:
                box.sending = True
                self._host.spawn(box.send)

    # --- the mark in the log ------------------------------------------------------------------------------------------

    async def _recall(self) -> None:
        """Continue where the last host stopped; without one, begin with what happens from now on."""
        last = self._host.log.last_event
        found = await last_mark(self._log)
        mark: dict[str, Any] = {} if found is None else json.loads(found)
        if self._shared is not None:
            self._shared.recall(mark)
        if "read" not in mark:
            self._grouping, self._read = Grouping(), last
            if self._shared is None:
                self._open = await unfinished_batches(self._host.broker.batches)
            return
        self._grouping = Grouping(mark["grouping"])
        self._read = min(mark["read"], last)  # a damaged file may have lost its last rows
        self._open, self._limits = set(mark["open"] if self._shared is None else ()), mark["limits"]
        self._hand_over([Notice(**notice) for notice in mark["unsent"]])

    async def _mark(self) -> None:
        """Write what the next host needs, if it has changed. The place in the log alone is no change."""
        assert self._grouping is not None
        unsent: dict[Notice, None] = {}
        for box in self._outboxes.values():
            unsent |= dict.fromkeys(box.waiting)
        facts = {
            "grouping": self._grouping.stored(),
            "open": sorted(self._open),
            "limits": self._limits,
            "unsent": [asdict(notice) for notice in unsent],
        }
        shared = [] if self._shared is None else self._shared.taken
        written = json.dumps(facts)
        if written != self._marked or shared:
            await self._log.append(MARK, {"read": self._read, **facts, SHARED: shared})
            self._marked = written
        if self._shared is not None:
            await self._shared.delete_taken()
