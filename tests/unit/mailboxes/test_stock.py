"""What one actor's messages cost does not depend on how many other actors there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agentq_nb._brokers.base import Offer
from agentq_nb._brokers.local.live_messages import Stock
from agentq_nb._brokers.local.queues import Box
from agentq_nb._core.ids import ActorId, mint_id
from tests.unit.fake_clock import FakeClock


class Boxes(dict[ActorId, Box]):
    """Refuses to be looked through."""

    def __iter__(self) -> Iterator[ActorId]:
        raise AssertionError("every actor was looked at")

    def values(self) -> Any:
        return iter(self)

    def items(self) -> Any:
        return iter(self)


@pytest.fixture
async def stock() -> Stock:
    stock = Stock(FakeClock())
    for number in range(3):
        stock.arrive([stock.enter(Offer(mint_id(), f"worker/{number}", "tasks", b"1"))])
    return stock


@pytest.mark.anyio
async def test_the_status_of_one_actor_looks_at_no_other(stock: Stock) -> None:
    assert len(stock.status(None)) == 3
    stock.boxes = Boxes(stock.boxes.copy())
    (status,) = stock.status("worker/1")
    assert (status.actor, status.ready) == ("worker/1", 1)
    assert stock.status("worker/unknown") == []


@pytest.mark.anyio
async def test_a_message_for_an_actor_that_nobody_runs_looks_at_no_other(stock: Stock) -> None:
    hints = stock.subscribe({"other": None, "worker": ("$schedule",)})
    stock.boxes = Boxes(stock.boxes.copy())
    stock.arrive([stock.enter(Offer(mint_id(), actor, "tasks", b"1")) for actor in ("worker/1", "other/1")])
    assert await anext(hints) == "other/1"
