"""What one actor's messages cost does not depend on how many other actors there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agentq_nb._brokers.local.live_messages import LiveMessages
from agentq_nb._brokers.local.queue_status import statuses
from agentq_nb._brokers.local.queues import ActorQueues
from agentq_nb._brokers.messages import NewMessage
from agentq_nb._core.ids import ActorId, mint_id
from tests.unit.fake_clock import FakeClock


class QueuesOfActors(dict[ActorId, ActorQueues]):
    """Refuses to be looked through."""

    def __iter__(self) -> Iterator[ActorId]:
        raise AssertionError("every actor was looked at")

    def values(self) -> Any:
        return iter(self)

    def items(self) -> Any:
        return iter(self)


@pytest.fixture
async def live_messages() -> LiveMessages:
    live_messages = LiveMessages(FakeClock(), lambda _: None)
    for number in range(3):
        live_messages.arrive([live_messages.enter(NewMessage(mint_id(), f"worker/{number}", "tasks", b"1"))])
    return live_messages


@pytest.mark.anyio
async def test_the_status_of_one_actor_looks_at_no_other(live_messages: LiveMessages) -> None:
    assert len(statuses(live_messages, FakeClock())) == 3
    live_messages.actors = QueuesOfActors(live_messages.actors.copy())
    (status,) = statuses(live_messages, FakeClock(), "worker/1")
    assert (status.actor, status.ready) == ("worker/1", 1)
    assert statuses(live_messages, FakeClock(), "worker/unknown") == []


@pytest.mark.anyio
async def test_a_message_for_an_actor_that_nobody_runs_looks_at_no_other(live_messages: LiveMessages) -> None:
    hints = live_messages.subscribe({"other": None, "worker": ("$schedule",)})
    live_messages.actors = QueuesOfActors(live_messages.actors.copy())
    live_messages.arrive(
        [live_messages.enter(NewMessage(mint_id(), actor, "tasks", b"1")) for actor in ("worker/1", "other/1")]
    )
    assert await anext(hints) == "other/1"
