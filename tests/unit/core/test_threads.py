"""Threads of our own: how many there are, what they pass on, and what happens when nobody waits any longer."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from contextvars import ContextVar
from pathlib import Path

import anyio
import pytest

from agentq_nb._core.threads import Pool, in_thread, to_its_end
from tests.unit.runtime.world import until

pytestmark = pytest.mark.anyio


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
    monkeypatch.setattr("agentq_nb._core.threads._IDLE", 0.0)
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


FORKED = """
import asyncio, os
from agentq_nb._core.threads import Pool

async def main():
    pool = Pool("test", 1)
    await asyncio.wrap_future(pool.submit(int))
    child = os.fork()
    if child == 0:
        os._exit(pool.submit(int, 7).result(20))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

asyncio.run(main())
"""


def test_a_forked_child_has_threads_of_its_own() -> None:
    assert run_python("-W", "ignore", "-c", FORKED) == "7\n"  # Python warns of forks while threads run


def test_a_pool_at_rest_has_no_threads_and_makes_them_again() -> None:
    pool = Pool("resting")
    assert [pool.submit(int, number).result(20) for number in range(3)] == [0, 1, 2]
    gate, begun = threading.Event(), threading.Event()
    held = pool.submit(lambda: (begun.set(), gate.wait(20)))
    begun.wait(20)
    pool.rest()
    assert names("resting") == 1  # the one at work
    gate.set()
    held.result(20)
    pool.rest()
    until_none("resting")
    assert pool.submit(int, 5).result(20) == 5


RAN = """
import asyncio, os, sys, threading
from agentq_nb import setup

async def main():
    async with setup(store=sys.argv[1], background=sys.argv[2] == "background") as registry:
        await registry.sql("select 1")

asyncio.run(main())
print([thread.name for thread in threading.enumerate() if thread is not threading.main_thread()])
if os.fork() == 0:
    os._exit(0)
"""


@pytest.mark.parametrize("place", ["foreground", "background"])
def test_a_program_may_fork_without_a_warning_after_a_host_ran(place: str, tmp_path: Path) -> None:
    assert run_python("-W", "error::DeprecationWarning", "-c", RAN, str(tmp_path / "a.duckdb"), place) == "[]\n"


def run_python(*words: str) -> str:
    ended = subprocess.run([sys.executable, *words], text=True, capture_output=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def names(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def until_none(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(20)
    assert names(name) == 0
