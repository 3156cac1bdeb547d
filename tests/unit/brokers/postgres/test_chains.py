"""Messages on PostgreSQL that wait for those of other hosts, while several connections end, send and cancel at once."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import psycopg
import pytest

from agentq_nb._brokers.base import Lease
from agentq_nb._brokers.batches import NewBatch
from agentq_nb._brokers.changes import Cancel, DeadLetters, Purge, Redeliver
from agentq_nb._brokers.messages import Commit, Delivery, Outcome, Settlement, Take
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._core.ids import MessageId
from agentq_nb.errors import PredecessorFailed, PredecessorUnknown
from tests.postgres_queues import ask
from tests.unit.brokers.conformance.words import ACTOR, OTHER, bodies, new_message, rest, send, settle, soon, take_one
from tests.unit.brokers.postgres.hosts import Join, lease_of
from tests.unit.brokers.postgres_setting import PostgresSetting

pytestmark = pytest.mark.anyio

PATIENT = "&options=-c%20deadlock_timeout%3D1min"
"""With this in its address the server leaves a host's deadlocks alone, so that they fail the test."""


def inconsistent(setting: PostgresSetting) -> list[tuple[object, ...]]:
    """Messages whose status does not follow from those that they were sent after."""
    return ask(
        setting.url,
        """
        select m.id, m.status, array_agg(p.status) from agentq.messages m
        join agentq.predecessors d on d.message = m.id
        left join agentq.messages p on p.id = d.predecessor
        group by m.id, m.status
        having case m.status
            when 'blocked' then not bool_or(p.status in ('queued', 'blocked', 'running'))
                or bool_or(coalesce(p.status, 'gone') in ('failed', 'cancelled', 'expired', 'gone'))
            when 'cancelled' then false
            else bool_or(p.status is distinct from 'completed')
        end
        """,
    )


def miscounted(setting: PostgresSetting) -> list[tuple[object, ...]]:
    """Queues whose counters are not those of their messages."""
    return ask(
        setting.url,
        """
        select q.actor, q.queue, q.live, q.bytes, m.live, m.bytes from agentq.queues q
        left join (
            select actor, queue, count(*) as live, sum(size) as bytes from agentq.messages
            where status in ('queued', 'blocked', 'running') group by actor, queue
        ) m on m.actor = q.actor and m.queue = q.queue
        where q.live <> coalesce(m.live, 0) or q.bytes <> coalesce(m.bytes, 0)
        """,
    )


# --- other hosts ------------------------------------------------------------------------------------------------------


async def test_what_waits_for_a_message_of_another_hosts_actor_wakes_its_own_host(
    setting: PostgresSetting, join: Join
) -> None:
    other = await join()
    first = await send(setting.broker, "first", actor=OTHER)
    lease, theirs = await lease_of(setting.broker, ACTOR), await lease_of(other, OTHER)
    delivery = await take_one(theirs)
    await send(setting.broker, "second", after=[first])
    receiving = asyncio.ensure_future(lease.turn(None, Take(None)))
    await rest()
    await settle(theirs, delivery, reply=b"7")
    (delivery,) = await soon(receiving)
    assert (bodies([delivery]), [one.reply for one in delivery.after]) == (["second"], [b"7"])


async def test_a_wait_ends_with_the_reason_when_another_hosts_message_fails(
    setting: PostgresSetting, join: Join
) -> None:
    other = await join()
    first = await send(setting.broker, "first", actor=OTHER)
    second = await send(setting.broker, "second", after=[first])
    waiting = asyncio.ensure_future(setting.broker.wait(second, None))
    theirs = await lease_of(other, OTHER)
    await settle(theirs, await take_one(theirs), "dead", error={"message": "no", "type": "str"})
    result = await soon(waiting)
    assert result.status == "cancelled"
    assert result.error is not None
    assert result.error["metadata"]["failed_first"] == first


async def test_what_a_dead_host_had_in_flight_still_frees_what_waits_for_it(
    setting: PostgresSetting, join: Join
) -> None:
    first = await send(setting.broker, "first", actor=OTHER)
    await send(setting.broker, "second", after=[first])
    await take_one(await lease_of(setting.broker, OTHER))
    await setting.crash()
    assert inconsistent(setting) == []
    theirs = await lease_of(setting.broker, OTHER)
    await settle(theirs, await take_one(theirs))
    assert bodies([await take_one(await lease_of(setting.broker, ACTOR))]) == ["second"]


# --- at once ----------------------------------------------------------------------------------------------------------


async def one_of_each(setting: PostgresSetting, brokers: Sequence[PostgresBroker]) -> dict[Lease, Delivery]:
    """A message in flight in each of some actors, which run in turn on these hosts."""
    held: dict[Lease, Delivery] = {}
    for number in range(12):
        actor = f"worker/{number}"
        await send(setting.broker, number, actor=actor)
        lease = await lease_of(brokers[number % len(brokers)], actor)
        held[lease] = await take_one(lease)
    return held


@pytest.mark.parametrize("seed", range(3))
async def test_hosts_that_end_what_the_same_messages_wait_for_at_once_meet_no_deadlock(
    setting: PostgresSetting, join: Join, seed: int
) -> None:
    chance = random.Random(seed)
    held = await one_of_each(
        setting, [await join(options=PATIENT), await join(options=PATIENT), await join(options=PATIENT)]
    )
    ids = [delivery.id for delivery in held.values()]
    waiting: list[MessageId] = []
    for number in range(40):
        after = chance.sample([*ids, *waiting[-5:]], 3)
        waiting.append(await send(setting.broker, actor=f"worker/{number % 12}", after=after))
    outcomes: list[Outcome] = chance.choices(["completed", "dead"], [9, 1], k=len(held))
    leases = list(held)
    chance.shuffle(leases)
    async with asyncio.timeout(30):
        await asyncio.gather(
            *(
                settle(lease, held[lease], outcome, error=None if outcome == "completed" else {"message": "no"})
                for lease, outcome in zip(leases, outcomes, strict=True)
            )
        )
    assert inconsistent(setting) == []
    assert miscounted(setting) == []


async def test_the_last_of_several_that_end_at_once_frees_what_waits_for_all(
    setting: PostgresSetting, join: Join
) -> None:
    held = await one_of_each(setting, [setting.broker, await join()])
    sent = await setting.broker.enqueue(
        [new_message(n, actor=f"worker/{n % 12}", after=[one.id for one in held.values()]) for n in range(24)]
    )
    await asyncio.gather(*(settle(lease, delivery) for lease, delivery in held.items()))
    statuses = {(await setting.broker.wait(one.id, 0)).status for one in sent}
    assert statuses == {"queued"}


@pytest.mark.parametrize("outcome", ["completed", "dead"])
async def test_what_is_sent_after_a_message_while_it_ends_is_never_left_waiting(
    setting: PostgresSetting, join: Join, outcome: Outcome
) -> None:
    other = await join()
    for number in range(25):
        first = await send(setting.broker, actor=OTHER, queue=f"q{number}")
        lease = await lease_of(other, OTHER)
        delivery = await take_one(lease)
        sending = [asyncio.ensure_future(send(setting.broker, n, after=[first])) for n in range(3)]
        await asyncio.sleep(number / 5000)
        await settle(lease, delivery, outcome, error=None if outcome == "completed" else {"message": "no"})
        sent = await asyncio.gather(*sending, return_exceptions=True)
        assert all(isinstance(one, (str, PredecessorFailed)) for one in sent)
        await lease.release()
    assert inconsistent(setting) == []
    assert ask(setting.url, "select 1 from agentq.messages where status = 'blocked'") == []


async def test_senders_do_not_block_the_actor_that_works_through_what_they_wait_for(
    setting: PostgresSetting, join: Join
) -> None:
    sender = await join(options=PATIENT)
    lease = await lease_of(await join(options=PATIENT), ACTOR)

    async def send_chain() -> None:
        last = await send(sender)
        for _ in range(60):
            last = await send(sender, after=[last])

    sending = asyncio.gather(*(send_chain() for _ in range(3)))
    done, commit = 0, None
    while done < 183:
        found = await soon(lease.turn(commit, Take(None, 2)))
        commit = Commit([Settlement(one, "completed") for one in found])
        done += len(found)
    await sending
    await lease.commit(commit or Commit())
    assert ask(setting.url, "select distinct status from agentq.messages") == [("completed",)]


@pytest.mark.parametrize("seed", range(4))
async def test_anything_at_once_leaves_every_message_as_those_before_it_say(
    setting: PostgresSetting, join: Join, seed: int
) -> None:
    chance = random.Random(seed)
    brokers = [setting.broker, await join(), await join()]
    known: list[MessageId] = [await send(setting.broker, actor=f"worker/{n % 4}") for n in range(8)]
    leases = [await lease_of(brokers[number % 3], f"worker/{number}") for number in range(4)]

    async def work(lease: Lease) -> None:
        for _ in range(25):
            for delivery in await lease.turn(None, Take(None, 2, 0)):
                assert all(one.status == "completed" for one in delivery.after)
                outcomes: list[Outcome] = ["completed", "dead", "again", "released"]
                outcome = chance.choices(outcomes, [6, 1, 1, 1])[0]
                lease.commit_soon(Commit([Settlement(delivery, outcome, error={"message": "no"})]))

    async def send_more(broker: PostgresBroker) -> None:
        for _ in range(20):
            after, actor = chance.sample(known[-12:], chance.randint(1, 3)), f"worker/{chance.randint(0, 3)}"
            try:
                known.append(await send(broker, actor=actor, after=after))
            except (PredecessorFailed, PredecessorUnknown):
                known.append(await send(broker, actor=actor))

    async def change(broker: PostgresBroker) -> None:
        for _ in range(12):
            message, actor = chance.choice(known), f"worker/{chance.randint(0, 3)}"
            changes = [Cancel(message), Redeliver(message), Redeliver(message), Purge("tasks")]
            with suppress(PredecessorFailed):
                await broker.change(actor, chance.choices(changes, [3, 3, 3, 1])[0])
            if chance.random() < 0.2:
                await broker.redeliver(DeadLetters())

    async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
        for one in (*map(work, leases), *map(send_more, brokers), *map(change, brokers)):
            tasks.create_task(one)
    async with asyncio.timeout(60):
        for lease in leases:
            await lease.commit(Commit())
    assert inconsistent(setting) == []
    assert miscounted(setting) == []


async def test_a_redelivery_waits_for_another_before_it_locks_anything(
    setting: PostgresSetting, join: Join, postgres_url: str
) -> None:
    """Else one that has the turn, and needs what has expired, would wait for this one in turn."""
    other = await join(options=PATIENT)
    first = await send(setting.broker, "first")
    await other.change(ACTOR, Cancel(first))
    await send(setting.broker, "expires", ttl=1)
    setting.clock.advance(2)
    schema = setting.broker.database.address.schema
    with psycopg.connect(postgres_url) as connection:
        connection.execute(f"lock table {schema}.version in share row exclusive mode".encode())
        redelivering = asyncio.ensure_future(other.change(ACTOR, Redeliver(first)))
        waiting = "select 1 from pg_stat_activity where pg_backend_pid() = any(pg_blocking_pids(pid))"
        async with asyncio.timeout(20):
            while connection.execute(waiting).fetchone() is None:
                connection.execute("select pg_stat_clear_snapshot()")
                await asyncio.sleep(0.01)
        free = f"select count(*) from (select from {schema}.messages for update skip locked) free"
        assert connection.execute(free.encode()).fetchone() == (2,)
    assert await soon(redelivering) == 1


# --- history ----------------------------------------------------------------------------------------------------------


async def test_pruning_while_messages_are_sent_takes_nothing_from_those_that_were_accepted(
    setting: PostgresSetting, join: Join
) -> None:
    other = await join()
    lease = await lease_of(other, OTHER)
    outcomes: Counter[str] = Counter()
    for number in range(15):
        first = await send(setting.broker, actor=OTHER)
        await settle(lease, await take_one(lease), reply=b"1")
        sending = asyncio.ensure_future(send(setting.broker, after=[first]))
        await asyncio.sleep(number / 5000)
        await other.prune(setting.clock.time() + 1)
        try:
            second = await sending
        except PredecessorUnknown:
            outcomes["refused"] += 1
            continue
        outcomes["sent"] += 1
        assert (await setting.broker.wait(second, 0)).status == "queued"
    receiver = await lease_of(setting.broker, ACTOR)
    delivered = await receiver.turn(None, Take(None, 100, 0))
    assert [[one.reply for one in delivery.after] for delivery in delivered] == [[b"1"]] * outcomes["sent"]


async def test_the_history_says_what_a_message_waits_for(setting: PostgresSetting) -> None:
    first = await send(setting.broker, "first")
    second = await send(setting.broker, "second", after=[first, first])
    table = await setting.broker.history.messages(None, None, "blocked", None)
    columns = {name: list(values) for name, _, values in table.typed()}
    assert (columns["message_id"], columns["after"]) == ([second], [[first, first]])


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["completed", "dead"])
async def test_the_rows_of_a_batch_wait_for_what_they_were_sent_after(setting: PostgresSetting, ends: Outcome) -> None:
    first = await send(setting.broker, "first", queue="a")
    batches = setting.broker.batches
    await batches.send(
        NewBatch("rows", ACTOR, "tasks", [json.dumps(n).encode() for n in range(50)], {"after": [first]})
    )
    assert (await batches.counts("rows", [range(50)])).waiting == 50
    lease = await lease_of(setting.broker, ACTOR)
    await settle(lease, await take_one(lease), ends, reply=b"5", error={"message": "no"})
    counts = await batches.counts("rows", [range(50)])
    if ends == "completed":
        delivery = await take_one(lease)
        assert (delivery.batch, [one.reply for one in delivery.after]) == ("rows", [b"5"])
        return
    assert (counts.cancelled, counts.waiting) == (50, 0)
    assert await setting.broker.change(ACTOR, Redeliver(first)) == 1
    assert (await batches.counts("rows", [range(50)])).waiting == 50
