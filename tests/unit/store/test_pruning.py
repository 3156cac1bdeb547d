from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agentq_nb._store import EventLog, Row, compaction, prune
from agentq_nb._store.maintenance import Maintenance
from tests.unit.store.helpers import append, event, queued, with_log
from tests.unit.store.test_writing import in_small_disk

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
        live, dead, actors = log.live_rows(), log.dead_counts(), log.actor_states()
        assert await log.prune(LIMIT) == 13
        assert (log.live_rows(), log.dead_counts(), log.actor_states()) == (live, dead, actors)
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
        await append(log, event("queue.paused", queue="tasks", until=NEW, reason="ten failed"), time=NEW)
        pauses = log.pauses()
        assert pauses == [("worker/other", "tasks", NEW, None), ("worker/main", "tasks", NEW, "ten failed")]
        assert await log.prune(LIMIT) == 4
        assert log.pauses() == pauses

    with_log(path, use)


def test_pruning_gives_the_space_back(path: Path) -> None:
    async def use(log: EventLog) -> None:
        for part in range(20):
            rows = [row for number in range(300) for row in settled(f"{part}-{number}")]
            noise = [event("x", f"n{part}-{number}", text=os.urandom(1000).hex()) for number in range(300)]
            await append(log, *rows, *[row.replace("x", "message.completed", 1) for row in noise], time=OLD)
        await append(log, *(queued(f"live {number}") for number in range(100)))
        log.close()

    asyncio.run(use(EventLog.open(path)))
    before = path.stat().st_size

    async def prune(log: EventLog) -> int:
        return await log.prune(LIMIT)

    assert with_log(path, prune) == 20 * 300 * 4
    assert path.stat().st_size < before / 3
    assert before > 6_000_000


PRUNING = """
import asyncio, os, sys
from pathlib import Path
from agentq_nb._store import EventLog, Row, row

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


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from agentq_nb._store import EventLog, compaction, maintenance, prune

module, name, number, when = sys.argv[2:]
module = {"prune": prune, "compaction": compaction}[module]
real, calls = getattr(module, name), 0

def hooked(*args):
    global calls
    calls += 1
    if calls == int(number) and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*args)
    if calls == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(module, name, hooked)
compaction.SMALLEST_GAIN = 0
maintenance._MOST_ROWS = 500
compaction.CHECKPOINT_ROWS = 700

async def main():
    log = EventLog.open(Path(sys.argv[1]))
    await log.prune(1_750_000_000.0)

asyncio.run(main())
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("module", "name", "number"), [("prune", "drop", 1), ("prune", "drop", 4), ("compaction", "move", 2)]
)
def test_a_kill_in_a_slice_leaves_whole_messages_and_an_accounted_log(
    path: Path, module: str, name: str, number: int, when: str
) -> None:
    async def fill(log: EventLog) -> None:
        for part in range(5):
            rows = [row for n in range(300) for row in settled(f"{part}-{n}")]
            await append(
                log, *rows, *(event("noise", actor=None, text=os.urandom(700).hex()) for _ in range(100)), time=OLD
            )
            await append(log, *(queued(f"live {part} {n}", body=os.urandom(400).hex()) for n in range(300)), time=OLD)
        await append(log, *(row for n in range(5000) for row in settled(f"large {n}")), time=OLD)

    with_log(path, fill)
    command = [sys.executable, "-c", KILLED, str(path), module, name, str(number), when]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    log = EventLog.open(path)
    assert log.notices == []
    assert len(log.live_rows()) == 1500
    of_each = log.fetch(
        "select distinct count(*) from events where kind <> 'noise' and not starts_with(message_id, 'live') group by message_id"
    )
    assert of_each in ([(3,)], [])
    ((rows, pruned, last, different),) = log.fetch(
        "select count(*), (select pruned from store_facts), max(seq), count(distinct seq) from events"
    )
    assert (rows + pruned, rows) == (last, different)
    assert pruned % 3 == 0
    assert (pruned > 0) == ((number, when) != (1, "before"))
    log.close()


def test_a_message_that_comes_to_life_again_while_others_go_stays_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(log: EventLog) -> list[str]:
        await append(log, *settled("redelivered", "cancelled"), *settled("decided about"), *settled("gone"), time=OLD)
        held, found = threading.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        take = prune.Search.take

        def held_up(search: prune.Search, rows: int) -> prune.Part | None:
            loop.call_soon_threadsafe(found.set)
            held.wait(10)
            return take(search, rows)

        monkeypatch.setattr(prune.Search, "take", held_up)
        told: list[str] = []
        task = asyncio.ensure_future(log.prune(LIMIT, dropped=told.extend, spared=lambda: {"decided about"}))
        await found.wait()
        assert await append(log, event("message.redelivered", "redelivered")) is None
        held.set()
        assert await task == 3
        assert {row[4] for row in log.live_rows()} == {"redelivered"}
        assert log.fetch(
            "select message_id, count(*) from events where message_id is not null group by 1 order by 1"
        ) == [
            ("decided about", 3),
            ("redelivered", 4),
        ]
        return told

    assert with_log(path, use) == ["gone"]


def test_a_prune_that_is_cancelled_stops_after_its_slice_and_tells_what_went(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(log: EventLog) -> None:
        await append(log, *(row for number in range(2000) for row in settled(str(number))), time=OLD)
        held, begun = threading.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        drop = prune.drop
        calls: list[int] = []

        def held_up(*args: Any) -> Any:
            calls.append(1)
            loop.call_soon_threadsafe(begun.set)
            held.wait(10)
            return drop(*args)

        monkeypatch.setattr(prune, "drop", held_up)
        told: list[str] = []
        task = asyncio.ensure_future(log.prune(LIMIT, dropped=told.extend))
        await begun.wait()
        task.cancel()
        await asyncio.sleep(0)
        assert await asyncio.wait_for(append(log, queued("sent meanwhile")), 10) is None
        held.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await log.flushed()
        ((said,),) = log.fetch("select data from events where kind = 'store.pruned'")
        rows = json.loads(said)["rows"]
        assert (len(calls), rows, 0 < len(told) < 2000) == (1, 3 * len(told), True)
        assert log.fetch("select pruned from store_facts") == [(rows,)]

    with_log(path, use)


def test_each_prune_looks_whether_the_file_should_be_made_smaller(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    async def pays(_: Maintenance) -> bool:
        looked.append(len(looked))
        return False

    monkeypatch.setattr(Maintenance, "_pays", pays)

    async def use(log: EventLog) -> None:
        for number in (1, 2, 3):
            await append(log, *settled(f"m{number}"), time=OLD)
            assert await log.prune(LIMIT) == 3
            assert len(looked) == number

    with_log(path, use)


def test_two_prunes_at_once_drop_each_row_once(path: Path) -> None:
    async def use(log: EventLog) -> None:
        await append(log, *(row for number in range(3000) for row in settled(str(number))), time=OLD)
        assert sum(await asyncio.gather(log.prune(LIMIT), log.prune(LIMIT))) == 9000
        assert log.fetch("select pruned from store_facts") == [(9000,)]

    with_log(path, use)


def test_a_prune_of_few_rows_does_not_move_the_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(*_: Any) -> None:
        raise AssertionError("rows were moved")

    monkeypatch.setattr(compaction, "move", moved)
    monkeypatch.setattr(compaction, "SMALLEST_GAIN", 0)

    async def use(log: EventLog) -> None:
        await append(log, *settled("old"), time=OLD)
        await append(log, *(queued(str(number), body=os.urandom(900).hex()) for number in range(2000)))
        assert await log.prune(LIMIT) == 3

    with_log(path, use)


PRUNING_ON_A_FULL_DISK = """
import asyncio, sys
from pathlib import Path
from agentq_nb.errors import StoreError
from agentq_nb._store import EventLog, compaction, row

path = Path(sys.argv[1])
compaction.SMALLEST_GAIN = 0

async def write(log, rows):
    log.append(rows, time=1_700_000_000.0)
    await log.flushed()

async def fill(log):
    for part in range(5):
        rows = []
        for number in range(500):
            name = f"{part}-{number}"
            rows += [row(kind, "a", name, None, '{"queue":"q","body":1}') for kind in ("message.queued", "message.completed")]
        await write(log, rows + [row("message.queued", "a", f"live-{part}", None, '{"queue":"q","body":1}')])

def accounted(log):
    of_each = log.fetch("select distinct count(*) from events where kind <> 'store.pruned' and not starts_with(message_id, 'live') group by message_id")
    assert of_each in ([(2,)], []), of_each
    ((rows, pruned, last),) = log.fetch("select count(*), (select pruned from store_facts), max(seq) from events")
    assert rows + pruned == last, (rows, pruned, last)
    assert len(log.live_rows()) == 5
    return pruned

def opened():
    log = EventLog.open(path)
    assert log.notices == [], log.notices
    return log

async def prune(log):
    try:
        return await log.prune(1_750_000_000.0), None
    except StoreError as error:
        return 0, error

log = opened()
asyncio.run(fill(log))
log.close()
log = opened()
filler = path.parent / "filler"
with filler.open("wb", buffering=0) as file:
    try:
        while True:
            file.write(b"x" * 4096)
    except OSError:
        pass
_, error = asyncio.run(prune(log))
assert error is not None and "Stopped dropping old history" in str(error), error
log.close()
filler.unlink()
log = opened()
accounted(log)
asyncio.run(prune(log))
assert accounted(log) == 5000
log.close()
print("done")
"""


def test_a_full_disk_ends_a_prune_with_a_clear_error_and_the_next_one_does_the_rest(path: Path) -> None:
    copy = path.parent / "copy"
    copy.mkdir()
    child = [sys.executable, "-c", PRUNING_ON_A_FULL_DISK, str(path)]
    done = subprocess.run(
        in_small_disk(path.parent, child, copy, 24), capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    log = EventLog.open(copy / path.name)
    assert (log.notices, len(log.live_rows())) == ([], 5)
    log.close()
