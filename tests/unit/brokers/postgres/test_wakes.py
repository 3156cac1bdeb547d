"""Which of those that wait are woken by which change, and how a statement over one row is sent. Without a server."""

from __future__ import annotations

import pytest

from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._brokers.postgres.connection import Database, Key, _for_one_row
from agentq_nb._brokers.postgres.notifications import ANY_WORK, Notifications, receivable
from tests.unit.fake_clock import FakeClock

pytestmark = pytest.mark.anyio

ACTOR = "worker/1"


@pytest.fixture
async def notifications() -> Notifications:
    return Notifications(Database(parse_address("postgresql://nowhere/test")), FakeClock(), "session")


@pytest.mark.parametrize(
    ("queues", "key", "rung"),
    [
        (None, ("sent", ACTOR, "tasks"), True),
        (None, ("sent", ACTOR, "$schedule"), False),
        (None, ("sent", "worker/2", "tasks"), False),
        (["tasks"], ("sent", ACTOR, "tasks"), True),
        (["tasks"], ("sent", ACTOR, "others"), False),
        (["$schedule"], ("sent", ACTOR, "tasks"), False),
        (["$schedule"], ("sent", ACTOR, "$schedule"), True),
        (["$schedule"], ("work", ACTOR), True),
    ],
)
async def test_a_receiver_is_woken_by_what_it_may_receive(
    notifications: Notifications, queues: list[str] | None, key: Key, rung: bool
) -> None:
    with notifications.watch(*receivable(ACTOR, queues)) as watch:
        notifications.ring(key)
        assert watch.rung() is rung


@pytest.mark.parametrize("awake", [True, False])
async def test_a_new_message_of_an_actor_that_is_awake_here_starts_no_search(
    notifications: Notifications, awake: bool
) -> None:
    notifications.is_awake = lambda actor: awake
    with notifications.watch(ANY_WORK) as watch:
        notifications.ring(("sent", ACTOR, "tasks"))
        assert watch.rung() is not awake


async def test_a_query_for_one_row_has_values_in_place_of_arrays() -> None:
    query = (
        "select * from unnest(%(a)s::text[], %(b)s::int[]) as r (a, b) where a in (select * from unnest(%(c)s::text[]))"
    )
    assert _for_one_row(query) == (
        "select * from (values (%(a)s::text, %(b)s::int)) as r (a, b) "
        "where a in (select * from (values (%(c)s::text)) as one_row)"
    )
