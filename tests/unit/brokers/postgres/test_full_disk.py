"""What happens to queues in PostgreSQL when the server's disk is full: nothing acknowledged is lost, and work goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from agentq_nb._brokers.messages import NewMessage
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb.errors import Unavailable
from tests.postgres_server import DURABLE, Server, required_server
from tests.requirements import missing
from tests.unit.brokers.conformance.words import ACTOR, HOST, drain, new_message, send

pytestmark = pytest.mark.anyio

_SIZE = "160m"
_HOW_TO_MOUNT = "The server needs a small disk of its own: run the tests as root, or allow sudo without a password."
# What is acknowledged is in the log file, which has its space before the disk is full.
_SETTINGS = {**DURABLE, "max_wal_size": "64MB", "min_wal_size": "64MB"}


class Disk:
    """A file system in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, left: int = 0) -> None:
        """Leave so many bytes free."""
        disk = os.statvfs(self.folder)
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - left)

    def free(self) -> None:
        """Take away what fills it."""
        self._filler.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    as_root = [] if os.getuid() == 0 else ["sudo", "-n"]
    folder = tmp_path / "disk"
    folder.mkdir()
    options = f"size={_SIZE},uid={os.getuid()},gid={os.getgid()}"
    mounted = subprocess.run([*as_root, "mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        missing(_HOW_TO_MOUNT)
    for parent in (tmp_path, *tmp_path.parents):
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o011)  # the server is another user's, if the tests are root's
    yield Disk(folder)
    subprocess.run([*as_root, "umount", "--lazy", folder], check=True)


@pytest.fixture
def server(disk: Disk) -> Iterator[Server]:
    folder = disk.folder / "server"
    folder.mkdir()
    with required_server(_SETTINGS, folder) as server:
        yield server


async def test_sends_are_refused_with_the_reason_and_go_on_once_there_is_room(server: Server, disk: Disk) -> None:
    broker = await PostgresBroker.open(server.url)
    await send(broker, "before")
    _reserve_log(server)
    disk.fill()
    broker.database.patience = 0.3
    bodies = [f"{number}" + "x" * 4000 for number in range(400)]
    messages = [new_message(body) for body in bodies]
    with pytest.raises(Unavailable, match="No space left on device"):
        await _enqueue_each(broker, messages)
    assert "No space left on device" in (broker.trouble or "")
    disk.free()
    broker.database.patience = 30.0
    await _enqueue_each(broker, messages)
    assert broker.trouble is None
    lease = await broker.acquire(ACTOR, HOST)
    assert lease is not None
    assert await drain(lease) == ["before", *bodies]
    await broker.close()


async def test_a_server_that_died_of_a_full_disk_has_everything_that_was_acknowledged(
    server: Server, disk: Disk
) -> None:
    """Without room for its log PostgreSQL ends at once; someone starts it again when there is some."""
    broker = await PostgresBroker.open(server.url)
    _use_up_log(server)
    broker.database.patience = 0.3
    disk.fill(left=10 << 20)
    acknowledged: list[str] = []
    repeated = None
    for number in range(2000):
        body = f"{number}" + os.urandom(6000).hex()
        message = new_message(body)
        with suppress(Unavailable):
            await broker.enqueue([message])
            acknowledged.append(body)
            continue
        repeated = message
        break
    assert repeated is not None, "the disk was never full"
    assert "PANIC" in server.log
    disk.free()
    server.revive()
    broker.database.patience = 60.0
    await broker.enqueue([repeated])
    lease = await broker.acquire(ACTOR, HOST)
    assert lease is not None
    assert (await drain(lease))[: len(acknowledged)] == acknowledged
    assert await drain(lease) == []
    await broker.close()


async def _enqueue_each(broker: PostgresBroker, messages: Sequence[NewMessage]) -> None:
    for message in messages:
        await broker.enqueue([message])


def _reserve_log(server: Server) -> None:
    """Have the server make its next log files now, so that tables are what does not find room."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("create table ballast as select repeat('x', 1000) as text from generate_series(1, 30000)")
        connection.execute("checkpoint")
        connection.execute("drop table ballast")
        connection.execute("checkpoint")


def _use_up_log(server: Server) -> None:
    """Leave six megabytes of the server's log file, and no other one that it could use next."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("select pg_create_physical_replication_slot('held', true)")
        while connection.execute(_MUCH_LEFT).fetchone() == (True,):
            connection.execute("select pg_logical_emit_message(false, 'ballast', repeat('x', 1000000))")


_MUCH_LEFT = """
select file_offset < 10 * 1024 * 1024 or exists (select from pg_ls_waldir() where name > file_name)
from pg_walfile_name_offset(pg_current_wal_insert_lsn())
"""
