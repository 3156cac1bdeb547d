"""Synchronize one widget with its page: what is sent when, and how the page resynchronizes.

The page sends ``watch`` when it opens and every half minute, with the number of the last message it has. Before that
nothing is sent, so that nothing piles up in the server while no page is open. From then on

- a ``snapshot`` goes out when the page has another number than ours: it is new, was reloaded, or missed something;
- a ``patch`` goes out when something changed, at most ten times a second, numbered one by one;
- a ``heartbeat`` goes out each second in which nothing else did, so that the page knows a quiet kernel from a busy or
  dead one. The kernel sends these rather than answering pings: each ping would make the front end show the kernel as
  busy, and they would queue up behind a cell that blocks.

A page also gets a ``picture``, a static view of what it shows, and a newer one every ten seconds while something
changes. It replaces the widget in the notebook by that once the kernel is gone, which cannot do it any more: JupyterLab
forgets which output is which when a page is reloaded, and a restart begins before the kernel knows of it. After the end,
each ``watch`` is answered with the last picture and the last state, since the page was being loaded when they were sent.

Requests beyond fifty a second are dropped; a ``dropped`` says so, at most once a second.

All of that is activity, for which servers keep a kernel alive. So while nothing else keeps it alive (``kept_alive`` is
false, and messages have ``quiet``), a page that is not used stops asking, and a minute after its last ``watch`` nothing
is sent. The next message is sent when the kernel is kept alive again, and then the page asks again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import Context
from typing import Any, Protocol

from agentq_nb._core.clock import Clock, SystemClock
from agentq_nb._display.document import safe
from agentq_nb._host.background_tasks import Upkeep
from agentq_nb._notebook.dashboard.page_requests import RequestRateLimit
from agentq_nb._notebook.dashboard.patch import Sections, difference
from agentq_nb._policies.retry import backoff
from agentq_nb.errors import AgentqError

TICK = 0.1
_UNWATCHED_TICK = 1.0
_HEARTBEAT = 1.0
_UNWATCHED_LOOKS = 10.0
"""Seconds between two snapshots while no page is open: the static view that is left at the end is as old at most."""
_SELDOM = 4.0
"""A snapshot is taken after four times as long as the last one took: with 10,000 actors, a tenth of a second."""
_PICTURES = 10.0
"""Seconds between two pictures."""
WATCHED = 75.0
"""Seconds for which one ``watch`` counts: a hidden page may send the next one late."""
_WATCHED_QUIETLY = 60.0
"""The same while nothing keeps the kernel alive."""

Message = dict[str, Any]


class Subject(Protocol):
    """The content of a live view."""

    settled: bool
    """Whether it cannot change any more."""

    async def look(self, *, refresh: bool = False) -> Sections:
        """Return its current state, for speed with the same objects as before where nothing changed.

        ``refresh``: read also those parts again that are expensive, and may otherwise be some time old.
        """
        ...

    async def extras(self) -> Mapping[str, Any]:
        """Return data that a page needs once, with the whole state."""
        ...

    async def answer(self, asked: Message) -> Message:
        """Handle a page's request and return the answer. Raises AgentqError, which is shown as one line."""
        ...

    async def close(self) -> None:
        """End it: no page shows it any more."""
        ...


class PageSync:
    """Keeps one widget's pages up to date, in the loop in which it was started.

    Errors are reported to ``upkeep`` under ``name``, and it is retried.
    """

    def __init__(
        self,
        subject: Subject,
        send: Callable[[Message], None],
        clock: Clock | None = None,
        upkeep: Upkeep | None = None,
        name: str = "Keeping a view up to date",
        kept_alive: Callable[[], bool] = lambda: True,
        rate_limit: RequestRateLimit | None = None,
        picture: Callable[[], Awaitable[Mapping[str, Any]]] | None = None,
    ) -> None:
        self.latest: Sections = {}
        """The last snapshot, sent or not."""
        self.latest_at = (clock or SystemClock()).time()
        """When it was taken, in seconds since 1970."""
        self.subject = subject
        self._send = send
        self._clock = clock or SystemClock()
        self._upkeep = upkeep or Upkeep(self._clock)
        self._name = name
        self._failures = 0
        self._next_look = 0.0
        self._looked_at = -math.inf
        self._sent: Sections = {}
        self._number = 0
        self._sent_at = 0.0
        self._kept_alive = kept_alive
        self._watched_at = -math.inf
        self._left = False
        """A page was open when the kernel fell quiet, and may be open still."""
        self._snapshot_wanted = False
        self._rate_limit = rate_limit or RequestRateLimit()
        self._dropped = 0
        """Requests that were dropped and not reported to the page yet."""
        self._dropped_told_at = -math.inf
        self._last_picture: Mapping[str, Any] | None = None
        """The picture for pages that open after the end."""
        self._picture = picture
        self._pictured = 0
        """The number of the message after which the last picture was sent."""
        self._pictured_at = -math.inf
        self._awake = asyncio.Event()
        self._answers: set[asyncio.Task[None]] = set()

    @property
    def watched(self) -> bool:
        """Whether a page is open, as far as we know."""
        lasts = WATCHED if self._kept_alive() else _WATCHED_QUIETLY
        return self._clock.monotonic() < self._watched_at + lasts

    async def run(self) -> None:
        """Run until the subject is settled and its last state was sent."""
        try:
            while True:
                await self.step()
                if self.subject.settled:
                    return
                await self._clock.sleep(TICK)
                if not self.watched:
                    await self._rest()
        finally:
            self._upkeep.clear(self._name)
            await self.subject.close()

    async def _rest(self) -> None:
        """Pause longer while no page is open, but not after one opens."""
        self._awake.clear()
        sleeping = asyncio.ensure_future(self._clock.sleep(_UNWATCHED_TICK - TICK))
        opening = asyncio.ensure_future(self._awake.wait())
        try:
            await asyncio.wait([sleeping, opening], return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            opening.cancel()

    async def step(self) -> None:
        """Take one snapshot, and send what is due. Never raises: failures to send are reported as trouble."""
        began = self._clock.monotonic()
        self._notice_pages(began)
        looks = began >= self._next_look and (self.watched or began - self._looked_at >= _UNWATCHED_LOOKS)
        failed: Exception | None = None
        if looks:
            self._looked_at = began
            try:
                self._took(await self.subject.look())
            except Exception as error:
                failed = None if self.subject.settled else error
            ended = self._clock.monotonic()
            self._next_look = ended + _SELDOM * (ended - began)
        try:
            await self._send_changes()
        except Exception as error:
            self._snapshot_wanted = True  # nobody knows how much of it has reached the page
            failed = error
        if failed is not None:
            self._failed(failed)
        elif looks:
            self._failures = 0
            self._upkeep.clear(self._name)

    def _took(self, snapshot: Sections) -> None:
        self.latest, self.latest_at = snapshot, self._clock.time()

    def _notice_pages(self, now: float) -> None:
        """A page that fell quiet with the kernel may be open still: it counts as open when the kernel is kept alive again."""
        if not self._kept_alive():
            self._left = self._left or self.watched
        elif self._left:
            self._left = False
            self._watched_at = now

    def _failed(self, error: Exception) -> None:
        """Report an error and pause snapshots. Heartbeats continue, so that the page sees that the kernel is alive."""
        self._failures += 1
        self._next_look = self._clock.monotonic() + backoff(self._failures, first=TICK, longest=30.0)
        self._upkeep.note(self._name, error)

    async def _send_changes(self) -> None:
        now = self._clock.monotonic()
        if not self.watched:
            return
        if self._dropped and now - self._dropped_told_at >= _HEARTBEAT:
            self._dropped_told_at, dropped, self._dropped = now, self._dropped, 0
            self._tell("dropped", now, count=dropped)
        if self._snapshot_wanted:
            self._snapshot_wanted = False
            self._pictured_at = -math.inf
            self._number += 1
            self._sent = self.latest
            self._tell(
                "snapshot", now, sections=self.latest, settled=self.subject.settled, **await self.subject.extras()
            )
        elif changes := difference(self._sent, self.latest):
            self._number += 1
            self._sent = self.latest
            self._tell("patch", now, settled=self.subject.settled, **changes)
        elif now - self._sent_at >= _HEARTBEAT or self.subject.settled:
            self._tell("heartbeat", now, **({"settled": True} if self.subject.settled else {}))
        if self._picture and self._pictured != self._number and now - self._pictured_at >= _PICTURES:
            self._pictured, self._pictured_at = self._number, now
            try:
                drawn = await self._picture()
            except Exception as error:  # must not end the other messages
                self._failed(error)
            else:
                self._tell("picture", now, **drawn)

    def _tell(self, type: str, now: float, **more: Any) -> None:
        self._sent_at = now
        times = {"time": round(self._clock.time(), 3), "elapsed": round(now, 3)}
        quiet = {} if self._kept_alive() else {"quiet": True}
        self._send({"type": type, "number": self._number, **times, **quiet, **more})

    # --- messages of pages --------------------------------------------------------------------------------------------

    def heard(self, message: Message) -> None:
        """Handle a page's message. Must be called in this object's loop."""
        if message.get("type") == "watch":
            self._watched_at = self._clock.monotonic()
            if self._last_picture is not None:
                self._tell("picture", self._watched_at, **self._last_picture)
                self._tell("snapshot", self._watched_at, sections=self.latest, settled=True)
                return
            new = message.get("have") in (0, None) or message["have"] != self._number
            self._snapshot_wanted = self._snapshot_wanted or new
            self._awake.set()
            return
        if not self._rate_limit.admits(self._clock.monotonic()):
            self._dropped += 1
            return
        task = asyncio.get_running_loop().create_task(self._answer(message), context=Context())
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _answer(self, message: Message) -> None:
        answer: Message = {}
        try:
            answer = await self.subject.answer(message)
        except AgentqError as error:
            answer = {"error": one_line(error.message)}
        except Exception as error:
            answer = {"error": one_line(f"{type(error).__name__}: {error}")}
        request = message.get("request")
        try:
            self._send({"type": "answer", "request": request if isinstance(request, int) else None, **answer})
        except Exception as error:
            self._failed(error)

    async def refresh(self) -> None:
        """Read everything again, since it may be the last time. After an error the previous state is kept."""
        with suppress(Exception):
            self._took(await self.subject.look(refresh=True))

    def last_word(self, picture: Mapping[str, Any]) -> None:
        """Tell pages that the subject has ended, and send the picture that replaces the widget.

        A page that opens later is sent both, in :meth:`heard`: it may have been saved or reloaded with the widget.
        """
        self._last_picture = picture
        if self.watched:
            now = self._clock.monotonic()
            self._tell("picture", now, **picture)
            self._tell("heartbeat", now, settled=True)


def one_line(text: str) -> str:
    """Return an error's text on one line, for the widget."""
    return " ".join(safe(text).split())
