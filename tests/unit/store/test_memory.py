"""Memory at opening follows what is live: a history of large bodies and states does not have to fit into it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from agentq_nb._store import EventLog, sql
from agentq_nb._store.inspect_store import examine
from tests.unit.store.helpers import event, with_log, write

ROOT = Path(__file__).parents[3]

WRITE = """
import asyncio, base64, json, os, random, sys
from pathlib import Path
from agentq_nb._store import EventLog, row
from tests.unit.store.helpers import append, event, queued

def large(number, random=random.Random(7)):
    return base64.b64encode(random.randbytes(150_000)).decode()

def states(number):
    return [event("actor.state", actor="a/1", state={"number": number, "text": large(number)})]

def messages(number):
    message = f"m{number}"
    end = "message.failed" if number % 100 == 7 else "message.completed"
    pause = [event("queue.paused", queue="tasks", until=None)] if number % 20 == 0 else []
    return [queued(message, body=large(number)), event(end, message), *pause]

async def main(path, history):
    log = EventLog.open(path)
    for first in range(0, 1000, 5):
        rows = [row for number in range(first, first + 5) for row in history(number)]
        assert await append(log, *rows) is None
    os._exit(0)

asyncio.run(main(Path(sys.argv[1]), globals()[sys.argv[2]]))
"""

MOST = 170e6
"""Bytes that opening may take. There are 200 MB of text in the log, and at most one state is live."""

OPEN = """
import asyncio, sys
from pathlib import Path
from agentq_nb._brokers.local.broker import LocalBroker
from agentq_nb._store import EventLog

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

async def main(path):
    before = peak()
    log = EventLog.open(path)
    broker = await LocalBroker.open(log)
    print(peak() - before)
    await broker.close()

asyncio.run(main(Path(sys.argv[1])))
"""


def run(program: str, *words: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program, *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("history", ["states", "messages"])
def test_opening_takes_less_memory_than_a_long_history_of_large_rows(path: Path, history: str) -> None:
    run(WRITE, str(path), history)
    assert int(run(OPEN, str(path))) < MOST, "after a crash"
    assert int(run(OPEN, str(path))) < MOST, "after a stop"


def test_what_does_not_fit_into_little_memory_is_read_all_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_LITTLE_MEMORY", (1 << 20,))
    write(path, *(event("actor.state", state={"text": f"{number}" * 100_000}) for number in range(10, 60)))

    async def use(log: EventLog) -> tuple[str, object]:
        before = log.fetch("select current_setting('memory_limit')")
        ((_, state),) = log.actor_states()
        assert log.fetch("select current_setting('memory_limit')") == before
        return str(state), before

    assert examine(path).rows == 50
    state, _ = with_log(path, use)
    assert state == '{"text":"' + "59" * 100_000 + '"}'


def test_little_memory_is_for_one_read_only() -> None:
    limits: list[object] = []
    with duckdb.connect() as connection:

        def limit() -> object:
            return connection.execute("select current_setting('memory_limit')").fetchall()[0][0]

        def read() -> None:
            limits.append(limit())
            if len(limits) < 3:
                raise duckdb.OutOfMemoryException
            raise KeyError

        before = limit()
        with pytest.raises(KeyError):
            sql.read_alone(connection, read)
        assert limit() == before
    assert limits == ["32.0 MiB", "64.0 MiB", "256.0 MiB"]


def test_long_rows_are_stored_so_that_one_can_be_read_without_its_neighbours(path: Path) -> None:
    write(path, *(event("actor.state", state={"text": os.urandom(30_000).hex()}) for number in range(40)))

    async def use(log: EventLog) -> list[str]:
        found = log.fetch("select distinct segment_type, compression from pragma_storage_info('events')")
        return [compression for kind, compression in found if kind == "JSON"]

    compressions = with_log(path, use)
    assert compressions
    assert "ZSTD" not in compressions
