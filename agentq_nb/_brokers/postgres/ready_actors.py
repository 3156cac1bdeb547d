"""Find actors with due messages that no host runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

from agentq_nb._brokers.postgres.connection import Database, Transaction
from agentq_nb._brokers.postgres.limits import PostgresLimits
from agentq_nb._brokers.postgres.notifications import ANY_WORK, Notifications, by_this_clock
from agentq_nb._brokers.postgres.sleeping_queues import READY, Sleeping, look_for_limited
from agentq_nb._brokers.statuses import Home
from agentq_nb._core.clock import Clock
from agentq_nb._core.ids import ActorId, actor_name

_NEXT = """
select agentq.now(), (
    select min(moment) from (
        select min(due) as moment from agentq.messages where status = 'queued' and due > 0 and due > agentq.now()
        union all
        select min(paused_until) from agentq.queues where live > 0 and paused and paused_until > agentq.now()
        union all
        select min(held_until) from agentq.queues where live > 0 and held_until > agentq.now()
    ) moments
)
"""

_READY = f"""
select q.actor, q.queue
{READY}
and q.held is null
and (q.name, q.queue) not in (select * from unnest(%(limited_names)s::text[], %(limited_queues)s::text[]))
"""

_SHARE = 5
_LONGEST_PAUSE = 1.0
"""Between two looks it waits for so many times as long as a look takes, but not for more seconds than this."""

Queues = Mapping[str, Collection[str] | None]


async def ready_actors(
    database: Database,
    notifications: Notifications,
    clock: Clock,
    queues: Queues,
    withheld: Collection[str],
    limits: PostgresLimits,
    home: Home,
) -> AsyncIterator[ActorId]:
    """See :meth:`agentq_nb._brokers.base.Broker.ready_actors`. It ends when the broker is closed."""
    with notifications.watch(ANY_WORK) as watch:
        while not database.closed:
            watch.clear()
            before, begun, heard = clock.time(), time.monotonic(), limits.line.now
            found, sleeping, now, moment = await database.look(lambda tx: _look(tx, queues, withheld, limits, home))
            limits.sleeping = sleeping.limits
            if limits.line.has_heard(sleeping.limits, heard):
                watch.ring()
            # Other hosts say of each message that it was sent: looking must not take all of the server's time.
            ended = time.monotonic()
            again = ended + min(_SHARE * (ended - begun), _LONGEST_PAUSE)
            for actor in found:
                yield actor
            if not database.closed:
                await watch.wait(None, by_this_clock(moment, now, before))
                await asyncio.sleep(max(0.0, again - time.monotonic()))


async def _look(
    tx: Transaction, queues: Queues, withheld: Collection[str], limits: PostgresLimits, home: Home
) -> tuple[Sequence[ActorId], Sleeping, float, float | None]:
    row = await tx.row(_NEXT)  # first, so that what falls due between the two is in one of them
    assert row is not None  # it has no condition
    now, moment = row
    limited = limits.register.queues(queues)
    rows = await tx.rows(
        _READY,
        names=list(queues),
        withheld=list(withheld),
        home=home.id,
        limited_names=[name for name, _ in limited],
        limited_queues=[queue for _, queue in limited],
    )
    sleeping = await look_for_limited(tx, limits.register, list(queues), limited, withheld, home, now)
    ready = [*((row[0], row[1]) for row in rows), *sleeping.ready]
    found = {actor: None for actor, queue in ready if _counts(queues[actor_name(actor)], queue)}
    moments = [one for one in (moment, sleeping.moment) if one is not None]
    return list(found), sleeping, now, min(moments, default=None)


def _counts(counting: Collection[str] | None, queue: str) -> bool:
    return counting is None or queue in counting
