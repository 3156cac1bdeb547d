"""Opening a file with a long history, and asking it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import duckdb

from agentq_nb._brokers.local.broker import LocalBroker
from agentq_nb._store import EventLog
from tests.benchmarks.bare import BODY

_FILL = """
insert into events
with m as (select range as n, printf('%010x', 700000000000 + range) || left(md5(range::varchar), 15) as id from range(?))
select row_number() over (order by n, step) + ?, timestamp '2026-01-01' + interval (n) millisecond,
    ['message.queued', 'message.started', 'message.completed'][step], 'runner/a', id, null,
    case step when 1 then '{"queue":"tasks","body":' || ? || '}' when 2 then '{"attempt":1}' else '{"reply":"done"}' end
from m, (select unnest([1, 2, 3]) as step) where step = 1 or n % 100 <> 0
order by n, step
"""


def make(path: Path, messages: int) -> int:
    """A store with so many messages, 1 % of them live. The number of its events."""
    log = EventLog.open(path)
    last = log.last_seq
    log.close()
    path.with_name(path.name + ".guard").unlink()
    connection = duckdb.connect(str(path))
    connection.execute(_FILL, [messages, last, BODY])
    ((events,),) = connection.execute("select count(*) from events").fetchall()
    connection.execute("checkpoint")
    connection.close()
    log = EventLog.open(path)
    log.close()
    return events


async def open_seconds(path: Path) -> tuple[float, int]:
    """Seconds until the queues can be used, and how many messages are live."""
    begun = time.perf_counter()
    log = await asyncio.to_thread(EventLog.open, path)
    broker = await LocalBroker.open(log)
    taken = time.perf_counter() - begun
    live = sum(queue.live for queue in await broker.status())
    await broker.close()
    return taken, live


async def view_seconds(path: Path) -> float:
    """Seconds to read a summary of every message from the ``messages`` view."""
    log = await asyncio.to_thread(EventLog.open, path)
    begun = time.perf_counter()
    table = await log.sql(
        "select status, count(*), avg(handled_seconds), max(length(body::varchar)) from messages group by all"
    )
    taken = time.perf_counter() - begun
    assert sum(row[1] for row in table.rows) > 0
    log.close()
    return taken
