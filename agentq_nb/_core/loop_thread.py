"""An event loop in a thread of its own, for a host that must keep running while a cell blocks."""

from __future__ import annotations

import asyncio
import atexit
import importlib
import logging
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from agentq_nb._core.loop_portal import LoopPortal

_END_TIMEOUT = 2.0
"""Seconds that leftover tasks get to end when the thread does."""

_TURN = 1.0
"""Seconds that a busy loop gets to reach its last iteration at process exit. The kernel itself is given 2.5."""


class LoopThread:
    """Runs an event loop until its portal is closed. The thread is a daemon: it keeps no process alive.

    A task that raises SystemExit or stops the loop ends only itself, as in the kernel's own loop.

    :ivar gone: done when the thread's work has ended, for whatever reason; ``portal.failure`` has an unexpected one.
        The thread itself ends a moment later: ``join`` waits for that.
    :ivar at_exit: called at an orderly process exit while the loop still runs. It blocks.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.portal = LoopPortal(self.loop, apart=True)
        self.gone: Future[None] = Future()
        self.at_exit: Callable[[], None] | None = None
        self._stopped = False
        self._process = os.getpid()
        _running.add(self)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread's end, soon after ``gone`` is done, so that a later fork does not meet it. Blocks."""
        self._thread.join(_TURN)

    def _run(self) -> None:
        self.portal.thread = threading.get_ident()
        asyncio.set_event_loop(self.loop)
        try:
            self._turn()
            if not self._stopped:
                self._end_tasks()
                self.loop.close()
        except BaseException as error:  # the top of the thread: no caller would see it
            self.portal.fall(
                f"Its thread ended with {type(error).__name__}: {error}. Start it again: %agentq start, or await "
                "registry.start()"
            )
            logging.getLogger("agentq").exception("the thread of the host ended")
        finally:
            _running.discard(self)
            self.gone.set_result(None)

    def _turn(self) -> None:
        emptied = self._when_emptied()
        while not self._stopped:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                logging.getLogger("agentq").error("a task ended with %r", error)
            if emptied.done():
                if not emptied.cancelled():
                    emptied.result()
                    return
                emptied = self._when_emptied()  # cancelled by code that cancels every task it finds

    def _when_emptied(self) -> asyncio.Task[None]:
        emptied = self.loop.create_task(self.portal.emptied())
        emptied.add_done_callback(lambda _: self.loop.stop())
        return emptied

    def _end_tasks(self) -> None:
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.wait(left, timeout=_END_TIMEOUT))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())

    def end_with(self, last: Callable[[], None]) -> None:
        """Run ``last`` in the loop's final iteration at process exit, then stop the loop. Blocks.

        When an actor's code blocks the loop, ``last`` runs in this thread: the loop's thread does nothing else then.
        """
        if self._process != os.getpid():
            return
        begun, done = threading.Lock(), threading.Event()

        def once() -> None:
            if begun.acquire(blocking=False):
                try:
                    last()
                finally:
                    done.set()

        def in_turn() -> None:
            self._stopped = True
            self.loop.stop()
            once()

        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(in_turn)
            done.wait(_TURN)
        once()
        done.wait()


_running: weakref.WeakSet[LoopThread] = weakref.WeakSet()


def _end_all() -> None:
    for thread in list(_running):
        if thread.at_exit is not None:
            thread.at_exit()


# At process exit Python ends its worker threads before it calls atexit functions. A loop that ran in between would fail
# its actors' work. Functions registered here later are called earlier.
importlib.import_module("concurrent.futures.thread")
getattr(threading, "_register_atexit", atexit.register)(_end_all)
