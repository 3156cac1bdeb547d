from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from agentq_nb.store import EventLog, Row
from tests.unit.store.helpers import append, event, queued, with_log

OLD, LIMIT, NEW = 1_700_000_000.0, 1_750_000_000.0, 1_800_000_000.0


def settled(message: str, kind: str = "completed") -> list[Row]:
    return [queued(message), event("message.started", message, attempt=1), event(f"message.{kind}", message)]


def test_settled_history_goes_and_everything_that_is_needed_stays(path: Path) -> None:
    async def use(log: EventLog) -> None:
        old = [
            event("host.started", actor=None),
            event("actor.created", actor="worker/main", input=1),
            event("actor.state", actor="worker/main", state={"n": 1}),
            event("actor.state", actor="worker/main", state={"n": 2}),
            *settled("done"),
            *settled("cancelled", "cancelled"),
            *settled("expired", "expired"),
            *settled("dead", "failed"),
            *settled("again", "failed"),
            event("message.redelivered", "again"),
            queued("live"),
            *settled("settled lately")[:2],
            event("session.created", session="open", agent="pi"),
            event("session.event", session="open", index=1, type="prompt"),
            event("session.created", session="closed", agent="pi"),
            event("session.event", session="closed", index=1, type="prompt"),
            event("session.closed", session="closed"),
        ]
        await append(log, *old, time=OLD)
        await append(log, event("message.completed", "settled lately"), *settled("new"), time=NEW)
        live, dead, actors = log.live_rows(), log.dead_counts(), log.actor_rows()
        assert await log.prune(LIMIT) == 13
        assert (log.live_rows(), log.dead_counts(), log.actor_rows()) == (live, dead, actors)
        assert [row[0] for row in log.fetch("select message_id from messages order by 1")] == [
            "again",
            "dead",
            "live",
            "new",
            "settled lately",
        ]
        assert log.fetch("select session_id from sessions") == [("open",)]
        said = log.fetch("select data->>'before', (data->>'rows')::int from events where kind = 'store.pruned'")
        assert said == [(datetime.fromtimestamp(LIMIT, UTC).replace(tzinfo=None).isoformat(), 13)]
        assert await append(log, queued("after")) is None
        assert await log.prune(LIMIT) == 0

    with_log(path, use)
    log = EventLog.open(path)
    assert log.notices == []
    log.close()
    path.with_name(path.name + ".guard").unlink()
    log = EventLog.open(path)  # without a guard the rows are counted: the gap must not look like damage
    assert log.last_seq == 34
    log.close()


def test_of_the_pauses_of_a_queue_the_last_word_stays(path: Path) -> None:
    async def use(log: EventLog) -> None:
        said = [("paused", "tasks"), ("resumed", "tasks"), ("paused", "tasks"), ("paused", "done"), ("resumed", "done")]
        await append(log, *(event(f"queue.{kind}", queue=queue, until=None) for kind, queue in said), time=OLD)
        await append(log, event("queue.paused", actor="worker/other", queue="tasks", until=NEW), time=OLD)
        await append(log, event("queue.paused", queue="tasks", until=NEW), time=NEW)
        pauses = log.pauses()
        assert pauses == [("worker/other", "tasks", NEW), ("worker/main", "tasks", NEW)]
        assert await log.prune(LIMIT) == 4
        assert log.pauses() == pauses

    with_log(path, use)


def test_pruning_gives_the_space_back(path: Path) -> None:
    async def use(log: EventLog) -> None:
        for part in range(20):
            rows = [row for number in range(300) for row in settled(f"{part}-{number}")]
            noise = [event("x", f"n{part}-{number}", text=os.urandom(400).hex()) for number in range(300)]
            await append(log, *rows, *[row.replace("x", "message.completed", 1) for row in noise], time=OLD)
        await append(log, *(queued(f"live {number}") for number in range(100)))
        log.close()

    asyncio.run(use(EventLog.open(path)))
    before = path.stat().st_size

    async def prune(log: EventLog) -> int:
        return await log.prune(LIMIT)

    assert with_log(path, prune) == 20 * 300 * 4
    assert path.stat().st_size < before / 3
    assert before > 2_000_000


PRUNING = """
import asyncio, os, sys
from pathlib import Path
from agentq_nb.store import EventLog, Row, row

async def main():
    log = EventLog.open(Path(sys.argv[1]))
    while True:
        rows = []
        for number in range(3000):
            name = os.urandom(8).hex()
            rows += [row("message.queued", "a", name, None, '{"queue":"q","body":1}'), row("message.completed", "a", name, None)]
        log.append(rows, time=1_700_000_000.0)
        log.append([row("message.queued", "a", f"live{os.urandom(8).hex()}", None, '{"queue":"q","body":1}')], time=1_700_000_000.0)
        await log.flushed()
        os.write(1, b"+")
        await log.prune(1_750_000_000.0)
        os.write(1, b"-")

asyncio.run(main())
"""


def test_a_kill_while_pruning_leaves_all_that_should_stay(path: Path) -> None:
    choose = random.Random(3)
    acknowledged = 0
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", PRUNING, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            first = process.stdout.read(1)
            time.sleep(choose.uniform(0, 0.25))
            process.send_signal(signal.SIGKILL)
            acknowledged += (first + process.stdout.read()).count(b"+")
        log = EventLog.open(path)
        assert log.notices == []
        live = len(log.live_rows())
        assert live >= acknowledged
        acknowledged = live
        log.close()
    assert acknowledged >= 8


def test_whoever_stops_waiting_for_a_prune_or_an_export_does_not_stop_the_writer(path: Path) -> None:
    async def use(log: EventLog) -> None:
        await append(log, *settled("done"), time=OLD)
        for number in range(20):
            jobs = [
                asyncio.ensure_future(log.prune(LIMIT)),
                asyncio.ensure_future(log.export(path.parent / f"{number}.db")),
            ]
            await asyncio.sleep(0.001 * (number % 5))
            for job in jobs:
                job.cancel()
            await append(log, queued(f"sent {number}"))
        assert len(log.live_rows()) == 20

    with_log(path, use)
