"""``gather`` and ``as_completed`` over receipts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agentq_nb import as_completed, gather
from agentq_nb.errors import ValidationFailed
from tests.unit.batches.words import Worker, hosted

pytestmark = pytest.mark.anyio


async def test_gather_returns_results_in_the_order_of_the_receipts(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (_, worker):
        receipts = [await worker.send("tasks", body, priority=n) for n, body in enumerate(["a", {"error": "no"}, "c"])]
        results = await gather(receipts)
        assert [(result.status, result.response) for result in results] == [
            ("completed", "a"),
            ("failed", None),
            ("completed", "c"),
        ]
        assert [result.message_id for result in await gather(iter(receipts))] == [receipt.id for receipt in receipts]
        assert await gather([]) == []


async def test_gather_gives_up_waiting_in_time(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (_, worker):
        await worker.pause("tasks")
        (result,) = await gather([await worker.send("tasks", "a")], timeout=0.05)
        assert result.status == "timed_out"


async def test_as_completed_yields_each_result_when_it_is_there(tmp_path: Path) -> None:
    Worker.gates["late"] = asyncio.Event()
    async with hosted(tmp_path) as (_, worker):
        early = await worker.send("tasks", "early")
        late = await worker.send("tasks", {"wait": "late", "reply": "late"})
        seen = []
        async for result in as_completed([late, early]):
            seen.append((result.message_id, result.response))
            Worker.gates["late"].set()
        assert seen == [(early.id, "early"), (late.id, "late")]


async def test_anything_but_receipts_is_refused(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (_, worker):
        receipt = await worker.send("tasks", "a")
        for wrong in (receipt, [receipt, "id"], 7):
            with pytest.raises(ValidationFailed, match="take a list of receipts"):
                await gather(wrong)  # type: ignore[arg-type]
