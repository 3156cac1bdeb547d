"""Detect that the event loop is blocked, and by which line of code."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from agentq_nb._core.programs import cell_of

_LOOK_EVERY = 0.25
STALL = 1.0
"""Seconds of blocking that are reported."""
_SUSPENDED = "the whole process was suspended: the machine slept or was overloaded, or a signal stopped the kernel"
_CLOCK_WITH_SLEEP = getattr(time, "CLOCK_BOOTTIME", None) or time.CLOCK_MONOTONIC_RAW
"""A clock that includes time the machine sleeps: Linux has the first, on macOS the second does."""


@dataclass(frozen=True)
class Stall:
    """One time the loop was blocked: for how many ``seconds``, when it ``began`` (since 1970), and by which line.

    :ivar suspended: no code is to blame: the whole process did not run.
    """

    seconds: float
    began: float
    place: str
    suspended: bool = False


class Suspensions:
    """Detects that the process was suspended, not its loop blocked: all threads are late, and none used the CPU."""

    def __init__(
        self,
        clock: Callable[[], float] = lambda: time.clock_gettime(_CLOCK_WITH_SLEEP),
        computed: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock = clock
        self._computed = computed
        self._before = clock(), computed()

    def since_last(self, expected: float) -> float:
        """Return for how many seconds this process did not run since the last call, ``expected`` seconds ago.

        A thread is also late while another holds the interpreter's lock; then the process used the CPU.
        """
        (then, had_computed), now, computed = self._before, self._clock(), self._computed()
        self._before = now, computed
        late = now - then - expected
        return late if late > STALL and computed - had_computed < late / 2 else 0.0


def advice(stall: Stall, background: bool) -> str:
    """Return what to do about a blocked loop. ``background``: the host has a thread of its own."""
    if stall.suspended:
        return "Work resumes by itself once the process runs again."
    if background:
        return "An actor's code blocks all actors: await in it, or put what takes long into self.in_thread(...)."
    return "Cells that block stop all actors, unless the host has a thread of its own: %agentq start --background"


class StallWatch:
    """Detects a blocked event loop from a thread of its own and records the latest stall."""

    def __init__(self) -> None:
        self.last: Stall | None = None
        """The latest stall; None when there was none."""
        self._turned = time.monotonic()
        self._ended = threading.Event()
        self._loop_thread = threading.get_ident()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    async def watch(self) -> None:
        """Watch until cancelled or closed. Raises the error that ended the thread, if any."""
        gone: asyncio.Future[BaseException | None] = self._loop.create_future()
        ended = self._ended = threading.Event()
        self._turn()
        try:
            threading.Thread(target=self._look, args=(ended, gone), name="agentq-stall-watch", daemon=True).start()
            error = await gone
        finally:
            ended.set()
            self._stop_turning()
        if error is not None:
            raise error

    def _turn(self) -> None:
        self._turned = time.monotonic()
        self._timer = self._loop.call_later(_LOOK_EVERY, self._turn)

    def _stop_turning(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, ended: threading.Event, gone: asyncio.Future[BaseException | None]) -> None:
        failed: BaseException | None = None
        try:
            self._look_until(ended)
        except BaseException as error:  # a thread of our own: no caller would see it
            failed = error
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(lambda: None if gone.done() else gone.set_result(failed))

    def _look_until(self, ended: threading.Event) -> None:
        place = ""
        began = 0.0
        suspensions = Suspensions()
        while not ended.wait(_LOOK_EVERY):
            if suspended := suspensions.since_last(_LOOK_EVERY):
                self.last = Stall(suspended, time.time() - suspended, _SUSPENDED, suspended=True)
                self._turned, place = time.monotonic(), ""  # the loop could not run either
                continue
            still = time.monotonic() - self._turned
            if still > STALL:
                if not place:
                    place, began = self._where(), time.time() - still
                self.last = Stall(still, began, place)
            elif place and self.last is not None:
                place = ""

    def _where(self) -> str:
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]  # there is no other way to another thread's stack
        frame = frames.get(self._loop_thread)
        if frame is None:
            return "unknown"
        stack = traceback.extract_stack(frame)
        # The innermost line of a cell, or else of anything outside the standard library, says most.
        for line in reversed(stack):
            if cell := cell_of(line.filename):
                return f"{cell}, line {line.lineno}: {line.line or line.name}"
        for line in reversed(stack):
            if "site-packages" not in line.filename and "/lib/python" not in line.filename:
                return f"{line.filename}:{line.lineno} in {line.name}"
        return f"{stack[-1].filename}:{stack[-1].lineno} in {stack[-1].name}"

    def close(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._stop_turning()
