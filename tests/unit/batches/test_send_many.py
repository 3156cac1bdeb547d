"""``send_many`` and the batch it returns: sent whole or not at all, settled, found again, and changed."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import create_client
from agentq_nb.errors import (
    BatchElsewhere,
    BatchPruned,
    BatchUnknown,
    MessageTooLarge,
    QueueFull,
    QueueUnknown,
    ValidationFailed,
    WaitWouldDeadlock,
)
from tests.unit.batches.words import Worker, hosted, until

pytestmark = pytest.mark.anyio


async def test_results_come_in_the_order_of_the_items_and_as_they_are_settled(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (_, worker):
        bodies = [{"reply": number, "priority": number} for number in range(5)]
        batch = await worker.send_many("tasks", bodies, name="five")
        assert sorted([result.row async for result in batch if result.ok]) == [0, 1, 2, 3, 4]
        assert [(result.row, result.unwrap()) for result in await batch.results()] == [(n, n) for n in range(5)]
        progress = batch.progress()
        assert (progress.total, progress.done, progress.finished) == (5, 5, True)
        assert await batch is batch


async def test_progress_counts_rows_by_status_and_may_be_awaited(tmp_path: Path) -> None:
    Worker.gates["held"] = asyncio.Event()
    async with hosted(tmp_path) as (_, worker):
        batch = await worker.send_many("tasks", [{}, {"error": "no"}, {"wait": "held"}, {}])
        seen = 0
        async for _ in batch:
            seen += 1
            if seen == 2:
                break
        await until(lambda: len(Worker.handled) == 3)
        progress = await batch.progress()
        assert (progress.done, progress.failed, progress.running, progress.waiting) == (1, 1, 1, 1)
        assert str(progress).startswith("1 of 4 done, 1 failed, 1 running, 1 waiting")
        Worker.gates["held"].set()
        await batch
        assert str(batch.progress()).startswith("3 of 4 done, 1 failed")


async def test_sending_to_a_name_again_sends_only_what_the_batch_lacks(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (registry, worker):
        first = await worker.send_many("tasks", ["a", "b", "b"], name="letters")
        await first
        again = await worker.send_many("tasks", ["b", "c", "a", "b", "b"], name="letters")
        assert (first.added, again.added) == (3, 2)
        assert [result.response for result in await again.results()] == ["b", "c", "a", "b", "b"]
        assert sorted(Worker.handled) == ["a", "b", "b", "b", "c"]
        whole = await registry.batch("letters")
        assert sorted(result.response for result in await whole.results()) == ["a", "b", "b", "b", "c"]


async def test_sending_exactly_the_same_again_writes_nothing(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (registry, worker):
        await (await worker.send_many("tasks", ["a", "b"], name="letters"))
        before = (await registry.sql("select max(seq) from events")).rows
        assert (await worker.send_many("tasks", ["a", "b"], name="letters")).added == 0
        assert (await registry.sql("select max(seq) from events")).rows == before


async def test_key_order_and_spaces_do_not_make_a_body_another_one(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (_, worker):
        await worker.send_many("tasks", [{"a": 1, "b": [1, 2]}], name="keys")
        assert (await worker.send_many("tasks", [{"b": (1, 2), "a": 1}], name="keys")).added == 0
        assert (await worker.send_many("tasks", [{"b": [2, 1], "a": 1}], name="keys")).added == 1


async def test_redo_sends_everything_once_more(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (_, worker):
        await (await worker.send_many("tasks", ["a", "b"], name="twice"))
        again = await worker.send_many("tasks", ["a", "b"], name="twice", redo=True)
        await again
        assert Worker.handled == ["a", "b", "a", "b"]
        assert (await worker.send_many("tasks", ["b", "a"], name="twice")).added == 0


async def test_failed_and_cancelled_rows_count_as_done_until_they_are_asked_for(tmp_path: Path) -> None:
    Worker.gates["held"] = asyncio.Event()
    async with hosted(tmp_path) as (_, worker):
        bodies = [{"error": "no"}, {"wait": "held"}, {"reply": 1}]
        batch = await worker.send_many("tasks", bodies, name="mixed")
        async for _ in batch:
            break
        assert await batch.cancel() == 2
        assert [result.status for result in await batch.results()] == ["failed", "cancelled", "cancelled"]
        assert (await worker.send_many("tasks", bodies, name="mixed")).added == 0
        assert await batch.retry_failed() == 1
        await batch
        assert [body for body in Worker.handled if "error" in body] == [{"error": "no"}] * 2
        assert batch.progress().failed == 1


@pytest.mark.parametrize(
    ("bodies", "error", "says"),
    [
        (["fine", object()], ValidationFailed, "Body 1 for queue 'tasks' of actor 'worker/w'"),
        (["fine", float("nan")], ValidationFailed, "Body 1"),
        (["fine", "x" * 2_000_000], MessageTooLarge, "too large"),
        ([], ValidationFailed, "no items were given"),
        ("text", ValidationFailed, "not a single str"),
        ({"a": 1}, ValidationFailed, "not a single dict"),
        (7, ValidationFailed, "not a single int"),
        (range(1001), QueueFull, "Limit is 1000"),
    ],
)
async def test_what_cannot_be_sent_is_refused_whole(
    tmp_path: Path, bodies: Any, error: type[Exception], says: str
) -> None:
    async with hosted(tmp_path) as (registry, worker):
        with pytest.raises(error, match=says):
            await worker.send_many("tasks", bodies, name="bad")
        await asyncio.sleep(0)
        assert Worker.handled == []
        with pytest.raises(BatchUnknown):
            await registry.batch("bad")
        assert (await worker.send_many("tasks", range(1000), name="bad")).added == 1000


async def test_a_generator_that_raises_sends_nothing(tmp_path: Path) -> None:
    def broken() -> Any:
        yield "fine"
        raise LookupError("the second is missing")

    async with hosted(tmp_path) as (registry, worker):
        with pytest.raises(LookupError, match="the second is missing"):
            await worker.send_many("tasks", broken(), name="bad")
        assert len(await registry.messages()) == 0


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 201, 7])
async def test_a_name_is_readable_text(tmp_path: Path, name: Any) -> None:
    async with hosted(tmp_path) as (_, worker):
        with pytest.raises(ValidationFailed, match="name of a batch"):
            await worker.send_many("tasks", ["a"], name=name)


async def test_other_wrong_calls_say_what_is_wrong(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (registry, worker):
        with pytest.raises(QueueUnknown):
            await worker.send_many("task", ["a"])
        with pytest.raises(TypeError, match="idempotency_key"):
            await worker.send_many("tasks", ["a"], idempotency_key="k")  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="priority"):
            await worker.send_many("tasks", ["a"], prioritty=1)  # type: ignore[call-arg]
        await worker.send_many("tasks", ["a"], name="reviews-v1")
        with pytest.raises(BatchElsewhere, match=r"'reviews-v1' belongs to queue 'tasks' of actor 'worker/w'"):
            await worker.send_many("others", ["a"], name="reviews-v1")
        with pytest.raises(BatchUnknown, match=r"Did you mean 'reviews-v1'\?"):
            await registry.batch("reviews-v2")


async def test_options_hold_for_every_row(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (registry, worker):
        await worker.pause("tasks")
        await worker.send("tasks", "plain")
        await worker.send_many("tasks", ["first", "second"], priority=1)
        await worker.send_many("tasks", ["later"], delay=timedelta(hours=1))
        await worker.resume("tasks")
        await until(lambda: len(Worker.handled) == 3)
        assert Worker.handled == ["first", "second", "plain"]
        assert list((await registry.messages(status="delayed"))["body"]) == ["later"]


async def test_a_batch_is_found_again_after_a_restart_and_goes_on(tmp_path: Path) -> None:
    bodies = [{"reply": 0}, {"error": "no"}, {"reply": 2}, {"reply": 3}]
    async with hosted(tmp_path) as (registry, worker):
        await (await worker.send_many("tasks", bodies[:2], name="night"))
        await worker.pause("tasks")
        assert (await worker.send_many("tasks", bodies, name="night")).added == 2
    async with hosted(tmp_path) as (registry, worker):
        batch = await registry.batch("night")
        progress = batch.progress()
        assert (progress.done, progress.failed, progress.waiting) == (1, 1, 2)
        await worker.resume("tasks")
        assert [(result.status, result.response) for result in await batch.results()] == [
            ("completed", 0),
            ("failed", None),
            ("completed", 2),
            ("completed", 3),
        ]
        assert Worker.handled == bodies[2:]
        assert (await worker.send_many("tasks", bodies, name="night")).added == 0
        table = await registry.batches()
        assert table[["batch", "rows", "done", "failed"]].values.tolist() == [["night", 4, 3, 1]]


async def test_a_batch_of_several_commits_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentq_nb._brokers.local.batch_enqueue._LARGEST_COMMIT", 1000)
    async with hosted(tmp_path) as (registry, worker):
        await worker.send_many("tasks", [f"old {number}" for number in range(7)], name="many")
        await worker.send_many("tasks", [*(f"new {number}" for number in range(30)), "old 3"], name="many")
        assert len(await (await registry.batch("many")).results()) == 37
    async with hosted(tmp_path) as (registry, worker):
        whole = await registry.batch("many")
        expected = [f"old {number}" for number in range(7)] + [f"new {number}" for number in range(30)]
        assert [result.response for result in await whole.results()] == expected
        assert Worker.handled == []


async def test_pruning_takes_a_whole_batch_or_nothing_and_its_name_says_so(tmp_path: Path) -> None:
    Worker.gates["held"] = asyncio.Event()
    async with hosted(tmp_path) as (registry, worker):
        batch = await worker.send_many("tasks", ["a", {"wait": "held"}], name="kept")
        async for _ in batch:
            break
        assert await registry.prune(time.time() + 1) == 0
        Worker.gates["held"].set()
        assert len(await batch.results()) == 2
        assert await registry.prune(time.time() + 1) > 0
        with pytest.raises(BatchPruned):
            await worker.send_many("tasks", ["a"], name="kept")
        with pytest.raises(BatchPruned):
            await (await registry.batch("kept")).results()
    async with hosted(tmp_path) as (registry, worker):
        with pytest.raises(BatchPruned, match="redo=True"):
            await worker.send_many("tasks", ["a"], name="kept")
        found = await registry.batch("kept")
        with pytest.raises(BatchPruned):
            await found.results()
        assert Worker.handled == []
        redone = await worker.send_many("tasks", ["a"], name="kept", redo=True)
        assert (len(await redone.results()), Worker.handled) == (1, ["a"])
    async with hosted(tmp_path) as (registry, worker):
        assert (await worker.send_many("tasks", ["a"], name="kept")).added == 0
        (result,) = await (await registry.batch("kept")).results()
        assert result.response == "a"


async def test_a_wait_that_ends_early_leaves_the_rest_at_work(tmp_path: Path) -> None:
    Worker.gates["held"] = asyncio.Event()
    async with hosted(tmp_path) as (_, worker):
        batch = await worker.send_many("tasks", ["a", {"wait": "held", "reply": "b"}])
        results = await batch.results(timeout=0.2)
        assert [result.status for result in results] == ["completed", "timed_out"]
        Worker.gates["held"].set()
        assert [result.response for result in await batch.results()] == ["a", "b"]


async def test_a_handler_that_waits_for_a_batch_of_its_own_queue_is_told(tmp_path: Path) -> None:
    caught: list[Exception] = []

    class Selfish(Worker):
        async def run(self) -> None:
            async for _ in self.tasks.iter():
                try:
                    batch = await create_client().selfish.get_or_create("s").send_many("tasks", ["b"])
                    await batch
                except WaitWouldDeadlock as error:
                    caught.append(error)
                return

    async with hosted(tmp_path) as (registry, _):
        await registry.deploy("selfish", Selfish)
        await create_client().selfish.get_or_create("s").send("tasks", "a")
        await until(lambda: bool(caught))
    assert [error.code for error in caught] == ["wait_would_deadlock"]


async def test_rows_expire_as_other_messages_do(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (registry, worker):
        await worker.pause("tasks")
        batch = await worker.send_many("tasks", ["a", "b"], name="short", ttl=0.05)
        assert [result.status for result in await batch.results()] == ["expired", "expired"]
        assert batch.progress().cancelled == 2
    async with hosted(tmp_path) as (registry, worker):
        assert [r.status for r in await (await registry.batch("short")).results()] == ["expired", "expired"]
