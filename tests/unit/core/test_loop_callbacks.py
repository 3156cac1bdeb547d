"""Calls from one thread's event loop to another's: what asyncio's own functions promise, with fewer wake-ups."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from agentq_nb._core.loop_callbacks import LoopCallbacks

said_by: ContextVar[str] = ContextVar("said_by")


class Wakes(asyncio.SelectorEventLoop):
    """An event loop that counts how often other threads wake it."""

    count = 0

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        self.count += 1
        return super().call_soon_threadsafe(callback, *args, context=context)


@contextmanager
def running() -> Iterator[Wakes]:
    """An event loop that runs in another thread."""
    loop = Wakes()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def blocked(loop: Wakes) -> Iterator[None]:
    """Nothing else runs on the loop meanwhile."""
    begun, over = threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        over.wait(30)

    loop.call_soon_threadsafe(block)
    begun.wait(30)
    try:
        yield
    finally:
        over.set()


def nothing() -> None: ...


def test_calls_while_the_loop_is_busy_wake_it_once_and_keep_their_order() -> None:
    with running() as loop:
        callbacks = LoopCallbacks(loop)
        called: list[int] = []
        last = threading.Event()
        with blocked(loop):
            before = loop.count
            for number in range(100):
                callbacks.call(called.append, number)
            callbacks.call(last.set)
            assert loop.count == before + 1
        assert last.wait(30)
        assert called == list(range(100))


def test_a_loop_that_has_made_its_calls_is_woken_again() -> None:
    with running() as loop:
        callbacks = LoopCallbacks(loop)
        for _ in range(1000):
            called = threading.Event()
            callbacks.call(called.set)
            assert called.wait(30)


def test_calls_from_many_threads_are_all_made() -> None:
    with running() as loop:
        callbacks = LoopCallbacks(loop)
        called: list[tuple[int, int]] = []

        def ask(thread: int) -> None:
            for number in range(2000):
                callbacks.call(called.append, (thread, number))

        threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        last = threading.Event()
        callbacks.call(last.set)
        assert last.wait(30)
        assert len(called) == 8000
        for thread in range(4):
            assert [number for whose, number in called if whose == thread] == list(range(2000))


def test_a_call_that_raises_keeps_no_other_from_being_made() -> None:
    with running() as loop:
        reported: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: reported.append(context))
        callbacks = LoopCallbacks(loop)
        called = threading.Event()
        with blocked(loop):
            callbacks.call([].pop)
            callbacks.call(called.set)
        assert called.wait(30)
        assert isinstance(reported[0]["exception"], IndexError)


def test_a_closed_loop_is_said_even_when_it_was_woken_before() -> None:
    loop = Wakes()
    callbacks = LoopCallbacks(loop)
    callbacks.call(nothing)  # the loop never makes this call
    loop.close()
    with pytest.raises(RuntimeError):
        callbacks.call(nothing)
    with pytest.raises(RuntimeError):
        LoopCallbacks(loop).call(nothing)


def test_a_coroutine_runs_in_the_context_of_its_caller() -> None:
    async def say() -> str:
        return said_by.get()

    with running() as loop:
        said_by.set("the caller")
        assert LoopCallbacks(loop).run(say()).result(30) == "the caller"


def test_an_error_comes_back_as_it_was_raised() -> None:
    error = ValueError("no")

    async def fail() -> None:
        raise error

    with running() as loop, pytest.raises(ValueError, match="no") as caught:
        LoopCallbacks(loop).run(fail()).result(30)
    assert caught.value is error


def test_cancelling_the_answer_cancels_the_task() -> None:
    begun, ended = threading.Event(), threading.Event()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    with running() as loop:
        answer = LoopCallbacks(loop).run(wait())
        assert begun.wait(30)
        assert answer.cancel()
        assert ended.wait(30)


def test_what_is_cancelled_before_its_turn_never_begins() -> None:
    begun: list[str] = []

    async def begin() -> None:
        begun.append("begun")

    with running() as loop:
        callbacks = LoopCallbacks(loop)
        with blocked(loop):
            answer = callbacks.run(begin())
            assert answer.cancel()
        last = callbacks.run(asyncio.sleep(0))
        last.result(30)
        assert begun == []


def test_a_task_that_is_cancelled_where_it_runs_cancels_its_answer() -> None:
    async def be_cancelled() -> None:
        raise asyncio.CancelledError

    with running() as loop, pytest.raises(CancelledError):
        LoopCallbacks(loop).run(be_cancelled()).result(30)


@pytest.mark.anyio
async def test_a_wrapped_answer_arrives_on_the_loop_of_its_waiter() -> None:
    here = LoopCallbacks(asyncio.get_running_loop())

    async def double(number: int) -> int:
        return 2 * number

    async def fail() -> None:
        raise ValueError("no")

    with running() as loop:
        there = LoopCallbacks(loop)
        answers = await asyncio.gather(*(here.wrap(there.run(double(number))) for number in range(100)))
        assert answers == [2 * number for number in range(100)]
        with pytest.raises(ValueError, match="no"):
            await here.wrap(there.run(fail()))


@pytest.mark.anyio
async def test_cancelling_the_waiter_cancels_what_it_waits_for() -> None:
    here = LoopCallbacks(asyncio.get_running_loop())
    ended = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    with running() as loop:
        answer = LoopCallbacks(loop).run(wait())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(here.wrap(answer), 0.05)
        assert answer.cancelled()
        assert ended.wait(30)
