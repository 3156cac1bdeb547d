"""Threads of our own: how many there are, what they pass on, and what happens when nobody waits any longer."""

from __future__ import annotations

import asyncio
import os
import threading
from contextvars import ContextVar

import anyio
import pytest

from agentq_nb.threads import Pool, in_thread, to_its_end
from tests.unit.behaviour.world import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_full_pool_does_what_waits_in_order_with_no_more_threads() -> None:
    gate, pool, seen = threading.Event(), Pool("test", 2), list[int]()
    blocked = [pool.submit(gate.wait) for _ in range(2)]
    waiting = [pool.submit(seen.append, number) for number in range(5)]
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("test") == 2
    assert not seen
    gate.set()
    await asyncio.gather(*map(asyncio.wrap_future, [*blocked, *waiting]))
    assert sorted(seen) == list(range(5))


async def test_a_thread_without_work_is_used_again() -> None:
    pool = Pool("test")
    first = await asyncio.wrap_future(pool.submit(threading.get_ident))
    await until(lambda: pool._idle)
    assert await asyncio.wrap_future(pool.submit(threading.get_ident)) == first


async def test_threads_end_when_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentq_nb.threads._IDLE", 0.0)
    pool = Pool("test", 1)
    for number in range(50):  # one is given work in the moment in which it ends, now and then
        assert await asyncio.wrap_future(pool.submit(int, number)) == number
    await until(lambda: not pool._threads)


async def test_the_callers_context_is_there() -> None:
    name: ContextVar[str] = ContextVar("name")
    name.set("caller")
    assert await in_thread(name.get) == "caller"


@pytest.mark.parametrize("error", [ValueError, SystemExit, GeneratorExit, KeyboardInterrupt, StopIteration])
async def test_whatever_is_raised_reaches_the_caller(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error("no")

    future = asyncio.ensure_future(asyncio.wrap_future(Pool("test").submit(fail)))
    await asyncio.wait([future])
    raised = future.exception()
    assert type(raised) is (RuntimeError if error is StopIteration else error)


@pytest.mark.parametrize("how", ["asyncio", "anyio"])
async def test_to_its_end_waits_for_the_thread_when_it_is_cancelled(how: str) -> None:
    gate, begun, ended = threading.Event(), threading.Event(), list[bool]()

    def work() -> None:
        begun.set()
        gate.wait()
        ended.append(True)

    scope = anyio.CancelScope()

    async def caller() -> None:
        with scope:
            await to_its_end(work)

    task = asyncio.create_task(caller())
    await until(begun.is_set)
    for _ in range(2):
        _ = task.cancel() if how == "asyncio" else scope.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    gate.set()
    await asyncio.wait([task])
    assert ended
    assert task.cancelled() is (how == "asyncio")


async def test_a_forked_child_has_threads_of_its_own() -> None:
    pool = Pool("test", 1)
    await asyncio.wrap_future(pool.submit(int))
    child = os.fork()
    if child == 0:
        os._exit(pool.submit(int, 7).result(20))
    _, status = await in_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
