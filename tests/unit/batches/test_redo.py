"""Doing rows of a batch once more: which, with what, and what the batch consists of then."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import pytest

import agentq_nb
from agentq_nb import Registry, Retry, setup
from agentq_nb.errors import BatchPruned, BatchStopped, BatchTooLarge, QueueFull
from tests.unit.batches.words import Worker, hosted, until

pytestmark = pytest.mark.anyio


async def test_every_settled_row_is_done_once_more_in_the_same_order(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (registry, worker):
        batch = await worker.send_many("tasks", ["a", {"error": "no"}, "a"], name="redone")
        before = [result.message_id for result in await batch.results()]
        assert await batch.redo() == 3
        results = await batch.results()
        assert [result.status for result in results] == ["completed", "failed", "completed"]
        assert not {result.message_id for result in results} & set(before)
        assert Worker.handled == ["a", {"error": "no"}, "a"] * 2
        assert (batch.progress().total, batch.progress().done, batch.progress().failed) == (3, 2, 1)
        found = await registry.batch("redone")
        assert [result.message_id for result in await found.results()] == [result.message_id for result in results]
        assert (await worker.send_many("tasks", ["a", "a", {"error": "no"}], name="redone")).added == 0
        assert await found.redo() == 3


async def test_rows_that_are_not_settled_are_left_to_be_done_once(tmp_path: Path) -> None:
    Worker.gates["held"] = asyncio.Event()
    bodies = ["first", {"wait": "held"}, "waits"]
    async with hosted(tmp_path) as (_, worker):
        batch = await worker.send_many("tasks", bodies, name="half")
        await until(lambda: len(Worker.handled) == 2)
        assert await batch.redo() == 1
        again = await worker.send_many("tasks", bodies, name="half", redo=True)
        assert again.added == 0, "all three wait or are at work now"
        Worker.gates["held"].set()
        assert [result.status for result in await batch.results()] == ["completed"] * 3
        assert Worker.handled == ["first", {"wait": "held"}, "waits", "first"]
        assert (await worker.send_many("tasks", bodies, name="half")).added == 0


async def test_redoing_some_bodies_leaves_the_other_rows_as_they_are(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (registry, worker):
        await (await worker.send_many("tasks", ["a", "b", "c"], name="some"))
        part = await worker.send_many("tasks", ["b"], name="some", redo=True)
        await part
        assert Worker.handled == ["a", "b", "c", "b"]
        whole = await registry.batch("some")
        assert [result.response for result in await whole.results()] == ["a", "b", "c"]
        assert (await worker.send_many("tasks", ["c", "b", "a"], name="some")).added == 0


async def test_rows_keep_the_options_that_they_were_sent_with(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (registry, worker):
        await worker.pause("tasks")
        await worker.send_many("tasks", ["late"], name="both")
        await worker.send_many("tasks", ["early"], name="both", priority=5)
        batch = await registry.batch("both")
        await worker.resume("tasks")
        await batch
        await worker.pause("tasks")
        assert await batch.redo() == 2
        await worker.resume("tasks")
        await batch
        assert Worker.handled == ["early", "late"] * 2


@pytest.mark.parametrize("redone", ["whole", "part"])
async def test_what_was_redone_is_known_after_a_restart(tmp_path: Path, redone: str) -> None:
    async with hosted(tmp_path) as (_, worker):
        batch = await worker.send_many("tasks", ["a", "b"], name="restarted")
        await batch
        await worker.pause("tasks")
        await (batch.redo() if redone == "whole" else worker.send_many("tasks", ["a"], name="restarted", redo=True))
    async with hosted(tmp_path) as (registry, worker):
        batch = await registry.batch("restarted")
        waiting = 2 if redone == "whole" else 1
        assert (batch.progress().total, batch.progress().waiting) == (2, waiting)
        await worker.resume("tasks")
        await batch
        assert len(Worker.handled) == waiting
        assert (await worker.send_many("tasks", ["b", "a"], name="restarted")).added == 0


async def test_a_batch_that_has_no_room_or_was_pruned_is_not_redone(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (registry, worker):
        batch = await worker.send_many("tasks", range(600), name="large")
        await batch
        await worker.pause("tasks")
        await worker.send_many("tasks", range(500), name="other")
        with pytest.raises(QueueFull, match="Limit is 1000"):
            await batch.redo()
        assert batch.progress().done == 600
        await worker.purge("tasks")
        await registry.prune(before=time.time() + 1)
        with pytest.raises(BatchPruned):
            await batch.redo()
        with pytest.raises(BatchPruned):
            await (await registry.batch("large")).redo()


async def test_map_redoes_only_what_is_done_and_goes_on_with_the_rest(tmp_path: Path) -> None:
    calls: list[tuple[str, int]] = []

    def broken(number: int) -> int:
        calls.append(("broken", number))
        if number < 2:
            return number
        raise KeyError("tex")

    def corrected(number: int) -> int:
        calls.append(("corrected", number))
        return -number

    registry: Registry = setup(store=tmp_path / "map.agentq.duckdb")
    batch = await agentq_nb.map(broken, range(9), name="nine", stop_after=3, retry=Retry(attempts=2, backoff=0.01))
    with pytest.raises(BatchStopped):
        await batch
    batch = await agentq_nb.map(corrected, range(9), name="nine", redo=True)
    assert [result.unwrap() for result in await batch.results()] == [-number for number in range(9)]
    assert sorted(number for who, number in calls if who == "corrected") == list(range(9))
    assert await batch.redo() == 9
    await batch
    assert len([1 for who, _ in calls if who == "corrected"]) == 18
    await registry.stop()


async def test_a_pruned_batch_that_map_has_redone_goes_on_as_usual(tmp_path: Path) -> None:
    calls: list[int] = []

    def work(number: int) -> int:
        calls.append(number)
        return -number

    registry: Registry = setup(store=tmp_path / "map.agentq.duckdb")
    await (await agentq_nb.map(work, [1, 2], name="pruned"))
    assert await registry.prune(before=time.time() + 1) > 0
    with pytest.raises(BatchPruned):
        await agentq_nb.map(work, [1, 2], name="pruned")
    await (await agentq_nb.map(work, [1, 2], name="pruned", redo=True))
    again = await agentq_nb.map(work, [2, 1, 3], name="pruned")
    assert [result.unwrap() for result in await again.results()] == [-2, -1, -3]
    assert sorted(calls) == [1, 1, 2, 2, 3]
    assert again.progress().total == 3
    await registry.stop()


async def test_it_can_be_redone_from_synchronous_code(tmp_path: Path) -> None:
    script = """
import json, sys
import agentq_nb
batch = agentq_nb.map_sync(lambda n: n + 1, [1, 2], name="sync", store=sys.argv[1])
batch.wait()
print(json.dumps([batch.redo(), [result.unwrap() for result in batch.results()]]))
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path / "sync.duckdb"), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert json.loads(out) == [2, [2, 3]]


async def test_a_batch_larger_than_its_queue_says_so(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (_, worker):
        with pytest.raises(
            BatchTooLarge, match=r"A batch of 1,001 messages does not fit into queue 'tasks'.*even while"
        ):
            await worker.send_many("tasks", range(1001), name="too large")
