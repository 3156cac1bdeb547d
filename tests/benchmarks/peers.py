"""Other queues that keep their messages on the same disk, each used in its documented, fastest durable way.

One producer and one consumer take turns in one thread: SQLite makes each commit by itself, so more of them gain nothing,
and no thread waits for a lock or polls. The body is the same JSON text of 200 bytes. A full cycle is put, taken and
settled, each durable before the next begins.
"""

from __future__ import annotations

import importlib.util
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.bare import BODY

PACKAGES = {"persistqueue": "persist-queue", "huey": "huey", "litequeue": "litequeue"}

Step = Callable[[], Any]


@dataclass(frozen=True)
class Peer:
    """A queue to compare with. ``open`` makes one in a folder: how to put a message, how to handle one, how to close."""

    name: str
    open: Callable[[Path], tuple[Step, Step, Step]]

    def rates(self, folder: Path, times: int = 500) -> tuple[float, float]:
        """Messages a second: put, and put, taken and settled."""
        place = folder / f"{self.name}-{time.time_ns()}"
        place.mkdir()
        put, handle, close = self.open(place)
        put()
        handle()
        begun = time.perf_counter()
        for _ in range(times):
            put()
        all_put = time.perf_counter()
        for _ in range(times):
            handle()
        ended = time.perf_counter()
        close()
        return times / (all_put - begun), times / (ended - begun)


class MissingPeers(Exception):
    """Raised before anything is measured: a comparison from which one is left out looks like one that was won."""

    def __init__(self, missing: list[str]) -> None:
        super().__init__(
            f"{', '.join(missing)} cannot be imported, and the queues are compared with it. "
            f"Install what the benchmarks need: pip install -e '.[benchmark]'"
        )


def check_installed() -> None:
    """Raise MissingPeers unless all can be imported."""
    missing = [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingPeers(missing)


def persist_queue(folder: Path) -> tuple[Step, Step, Step]:
    """SQLiteAckQueue as it comes: a write-ahead log, and SQLite's own default of synchronous=FULL."""
    from persistqueue import SQLiteAckQueue

    queue = SQLiteAckQueue(str(folder))

    def handle() -> None:
        message = queue.get(block=False, raw=True)
        assert message["data"] == BODY
        queue.ack(id=message["pqid"])

    return lambda: queue.put(BODY), handle, queue.close


def huey(folder: Path) -> tuple[Step, Step, Step]:
    """SqliteHuey with fsync=True, and the two calls that its worker makes for each task, without the worker's polling.

    It removes a task when it takes it, so a cycle is two commits, and a crash loses the task in hand.
    """
    from huey import SqliteHuey

    queue = SqliteHuey(filename=str(folder / "huey.db"), fsync=True, results=False)
    handled: list[str] = []
    task = queue.task()(handled.append)

    def handle() -> None:
        queue.execute(queue.dequeue())
        assert handled.pop() == BODY

    return lambda: task(BODY), handle, queue.storage.close


def sqlite_by_hand(folder: Path) -> tuple[Step, Step, Step]:
    """What one would write oneself: a table, a write-ahead log with synchronous=FULL, a commit for each step."""
    connection = sqlite3.connect(folder / "by-hand.db", isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute("create table queue (id integer primary key, body text, taken integer not null default 0)")

    def put() -> None:
        connection.execute("insert into queue (body) values (?)", (BODY,))

    def handle() -> None:
        ((number, body),) = connection.execute(
            "update queue set taken = 1 where id = (select min(id) from queue where taken = 0) returning id, body"
        ).fetchall()
        assert body == BODY
        connection.execute("delete from queue where id = ?", (number,))

    return put, handle, connection.close


def litequeue(folder: Path) -> tuple[Step, Step, Step]:
    """LiteQueue as it comes. It sets synchronous=NORMAL: after a power cut its last messages are gone."""
    from litequeue import LiteQueue

    queue = LiteQueue(folder / "lite.db")

    def handle() -> None:
        message = queue.pop()
        assert message.data == BODY
        queue.done(message.message_id)

    return lambda: queue.put(BODY), handle, queue.close


PERSIST_QUEUE = Peer("persist-queue (SQLiteAckQueue)", persist_queue)
HUEY = Peer("huey (SqliteHuey, fsync)", huey)
SQLITE = Peer("SQLite by hand (WAL, FULL)", sqlite_by_hand)
LITEQUEUE = Peer("litequeue (not safe against power loss)", litequeue)
PEERS = (PERSIST_QUEUE, HUEY, SQLITE, LITEQUEUE)
