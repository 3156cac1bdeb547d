"""The files are deleted or moved while a host uses them: it says so, a copy can be written, and stopping tells the loss."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from agentq_nb import Actor, Queue
from agentq_nb._store import filesystem
from tests.unit.runtime.world import World, until

pytestmark = pytest.mark.anyio


class Worker(Actor):
    tasks = Queue(str, reply=str)

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            await message.complete(message.body)


@pytest.fixture(autouse=True)
def look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "_LOOK_EVERY", 0.0)


async def working(world: World) -> None:
    await world.start(worker=Worker)
    await send(world, "one")
    assert (await world.registry.status()).trouble is None


async def send(world: World, body: str) -> None:
    handle = world.registry.host.client.worker.get_or_create("x")
    assert (await handle.send("tasks", body, wait=True, timeout=10)).response == body


async def copied(world: World, copy: Path) -> list[str]:
    await world.registry.export(copy)
    with duckdb.connect(str(copy)) as connection:
        return [body for (body,) in connection.execute("select body->>'$' from messages order by 1").fetchall()]


def beside(world: World) -> list[Path]:
    return sorted(world.store.parent.glob(world.store.name + "*"))


@pytest.mark.parametrize("all_files", [False, True], ids=["database", "all"])
async def test_a_deleted_database(world: World, tmp_path: Path, all_files: bool) -> None:
    await working(world)
    for file in beside(world) if all_files else [world.store]:
        file.unlink()
    trouble = (await world.registry.status()).trouble
    assert f"{world.store} was deleted" in (trouble or "")
    assert "%agentq export" in (trouble or "")
    await send(world, "two")
    assert await copied(world, tmp_path / "copy.duckdb") == ["one", "two"]
    await send(world, "three")
    assert await copied(world, tmp_path / "again.duckdb") == ["one", "three", "two"]
    await world.registry.stop()
    assert any("went with it" in notice for notice in world.registry.notices)


@pytest.mark.file_only
async def test_a_moved_database_holds_everything_after_a_stop(world: World, tmp_path: Path) -> None:
    await working(world)
    moved = tmp_path / "elsewhere.duckdb"
    world.store.rename(moved)
    assert f"moved to {moved}" in ((await world.registry.status()).trouble or "")
    await send(world, "two")
    assert await copied(world, tmp_path / "copy.duckdb") == ["one", "two"]
    await world.registry.stop()
    assert any(str(moved) in notice for notice in world.registry.notices)
    with duckdb.connect(str(moved)) as connection:
        assert connection.execute("select count(*) from messages").fetchall() == [(2,)]


@pytest.mark.file_only
@pytest.mark.parametrize("which", ["journal", "guard", "wal"])
async def test_another_file_is_deleted(world: World, tmp_path: Path, which: str) -> None:
    await working(world)
    gone = world.store.with_name(f"{world.store.name}.{which}")
    gone.unlink()
    if which != "wal":  # DuckDB's own comes and goes
        assert f"{gone.name} was deleted" in ((await world.registry.status()).trouble or "")
    await send(world, "two")
    if which == "wal":
        await world.registry.sql("select 1")  # what is acknowledged goes into the database, and with it all the rest
        await until(gone.exists)
    assert await copied(world, tmp_path / "copy.duckdb") == ["one", "two"]
    await world.restart()
    assert (await world.registry.status()).trouble is None
    await send(world, "three")
    assert (await world.registry.sql("select count(*) from messages")).rows == [(3,)]
