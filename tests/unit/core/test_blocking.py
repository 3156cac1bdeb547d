"""Waiting for a coroutine from synchronous code, in a thread beside."""

from __future__ import annotations

import asyncio
import threading

from agentq_nb._core.blocking import block_on


def beside() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "agentq blocking call"]


async def answer(pause: float) -> str:
    if pause:
        await asyncio.sleep(pause)
    return "done"


async def leave(running: list[tuple[asyncio.Task[bool], asyncio.Event]]) -> str:
    ended = asyncio.Event()
    running.append((asyncio.ensure_future(ended.wait()), ended))
    return "left"


def test_no_thread_is_left_after_a_wait_so_that_a_fork_meets_none() -> None:
    for number in range(50):
        assert block_on(answer(0.001 * (number % 2))) == "done"
        assert not beside()


def test_a_task_that_the_work_left_running_goes_on_and_holds_up_nobody() -> None:
    running: list[tuple[asyncio.Task[bool], asyncio.Event]] = []
    assert block_on(leave(running)) == "left"
    (thread,), ((task, ended),) = beside(), running
    assert not task.done()
    task.get_loop().call_soon_threadsafe(ended.set)
    thread.join(5)
    assert not beside()
    assert task.done()
