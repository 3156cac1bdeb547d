"""Handlers that never wait share the loop, 5 ms of work at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from agentq_nb._core.time_slice import TimeSlices

pytestmark = pytest.mark.anyio


class Work:
    """Work that takes as long as the test says, and the turns of the loop that it leaves to others."""

    def __init__(self) -> None:
        self.now = 100.0
        self.turn = 0
        self.held: dict[int, float] = {}
        """Seconds of work by the turn of the loop in which it was done."""
        self.slices = TimeSlices(lambda: self.now)

    async def count_turns(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)

    async def do(self, pieces: int, seconds: float, done: Callable[[], None] = lambda: None) -> None:
        for _ in range(pieces):
            if self.slices.over():
                await self.slices.next()
            self.now += seconds
            self.held[self.turn] = self.held.get(self.turn, 0.0) + seconds
            done()


@pytest.fixture
async def work() -> Work:
    return Work()


async def finished(work: Work, *workers: asyncio.Task[None]) -> None:
    counting = asyncio.create_task(work.count_turns())
    await asyncio.gather(*workers)
    counting.cancel()


@pytest.mark.parametrize(
    ("pieces", "seconds", "longest"), [(2000, 0.00001, 0.0051), (100, 0.001, 0.006), (9, 0.004, 0.0081)]
)
async def test_the_loop_gets_its_turn_after_5_ms_of_work(
    work: Work, pieces: int, seconds: float, longest: float
) -> None:
    await finished(work, asyncio.create_task(work.do(pieces, seconds)))
    assert max(work.held.values()) < longest
    assert sum(work.held.values()) == pytest.approx(pieces * seconds)


async def test_many_workers_hold_the_loop_no_longer_than_one(work: Work) -> None:
    done: list[int] = []
    workers = [
        asyncio.create_task(work.do(50, 0.001, lambda number=number: done.append(number))) for number in range(8)
    ]
    await finished(work, *workers)
    assert max(sorted(work.held.values())[:-1]) < 0.014, (
        "5 ms, and one piece of work of each that asks for the first time"
    )
    assert len(work.held) >= 8 * 50 / 6 - 1
    assert set(done[:100]) == set(range(8)), "they go on by turns"


async def test_work_that_waits_by_itself_is_not_held_up(work: Work) -> None:
    for _ in range(10):
        assert not work.slices.over()
        work.now += 0.02
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_one_that_was_cancelled_is_passed_over(work: Work) -> None:
    assert not work.slices.over()
    work.now += 1
    assert work.slices.over()
    waiting = [asyncio.create_task(work.slices.next()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait_for(asyncio.gather(*waiting[1:]), 5)
