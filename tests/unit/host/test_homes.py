"""A VM is woken only by the host that has its workspace, until that is given up; with two hosts in two processes."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentq_nb import Registry, create_client, setup
from agentq_nb._client.handle import ActorHandle
from agentq_nb.errors import ActorElsewhere, ValidationFailed
from tests.postgres_queues import own_queues
from tests.unit.host.pinned_host import Box

pytestmark = pytest.mark.anyio

CHECKOUT = Path(__file__).parents[3]
BOX = "box/main"


@pytest.fixture
def store(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address with a schema of its own. The test's own host has its files in the folder ``here``."""
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with own_queues(postgres_url) as address:
        yield address


class OtherHost:
    """A host in a process of its own, whose files are in the folder ``there``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, store: str, folder: Path, *words: str, **variables: str) -> OtherHost:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.unit.host.pinned_host", store, *words),
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), **variables},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return cls(process)

    async def says(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), 60)).decode().strip()

    async def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert await asyncio.wait_for(self.process.wait(), 60) == 0

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def hosted(store: str) -> AsyncIterator[tuple[Registry, ActorHandle]]:
    async with setup(use={"box": Box}, store=store) as registry:
        yield registry, create_client().box.get_or_create("main")


async def test_work_for_a_vm_waits_for_the_host_that_has_its_workspace_and_says_so(store: str, tmp_path: Path) -> None:
    there = tmp_path / "there"
    other = await OtherHost.start(store, there, "one")
    assert [await other.says(), await other.says()] == ["['one']", "ready"]
    async with hosted(store) as (_, box):
        home = (await box.status()).home
        assert home is not None
        assert (home.name.endswith(str(there / "agentq.agentq")), home.here, home.running) == (True, False, True)
        assert (await box.send("jobs", "two", wait=True, timeout=60)).response == ["one", "two"]
        await box.write_file("/home/user/from_afar.txt", "sent to the host that has the workspace")
        assert list(there.rglob("from_afar.txt"))
        await other.stop()
        waiting = await box.send("jobs", "three", wait=True, timeout=1.0)
        assert waiting.status == "timed_out"
        assert f"its files are on host {home.name}, which does not run" in str(waiting.reason)
        assert "%agentq move box/main" in str(waiting.reason)
        with pytest.raises(ActorElsewhere, match=re.escape(str(there))):
            await box.exec("true")
        other = await OtherHost.start(store, there)
        result = await create_client().receipt(waiting.message_id).result(timeout=60)
        assert result.response == ["one", "two", "three"]
        await other.stop()


async def test_a_move_gives_up_the_files_of_a_dead_host_and_tells_before(store: str, tmp_path: Path) -> None:
    other = await OtherHost.start(store, tmp_path / "there", "one")
    assert await other.says() == "['one']"
    await other.kill()
    async with hosted(store) as (registry, box):
        receipt = await box.send("jobs", "two")
        with pytest.raises(ValidationFailed, match=r"A move copies nothing.*stay behind.*accept_loss=True"):
            await registry.move(BOX)
        assert await receipt.status() == "queued"
        assert "given up" in await registry.move(BOX, accept_loss=True)
        assert (await receipt.result(timeout=60)).response == ["two"]
        home = await registry.home_of(BOX)
        assert home is not None
        assert home.here
    # Its files are on this host now: the one that had them before starts nothing.
    other = await OtherHost.start(store, tmp_path / "there")
    assert await other.says() == "ready"
    async with hosted(store) as (_, box):
        assert (await box.send("jobs", "three", wait=True, timeout=60)).response == ["two", "three"]
    await other.stop()


async def test_a_vm_that_is_moved_while_it_works_ends_and_is_handled_uncounted_on_the_other_host(
    store: str, tmp_path: Path
) -> None:
    other = await OtherHost.start(store, tmp_path / "there", "one", "wait", WAITS="yes")
    assert [await other.says(), await other.says()] == ["['one']", "waiting"]
    async with hosted(store) as (registry, box):
        (running,) = (await box.status()).queues
        (message,) = running.running_ids
        await registry.move(BOX, accept_loss=True)
        result = await create_client().receipt(message).result(timeout=60)
        assert (result.response, result.attempts) == (["wait"], 1)
    await other.kill()


async def test_a_move_can_be_taken_back_until_another_host_has_started_the_vm(store: str) -> None:
    async with hosted(store) as (registry, box):
        assert (await box.send("jobs", "one", wait=True, timeout=60)).response == ["one"]
        await registry.move(BOX, accept_loss=True)
        waiting = await box.send("jobs", "two", wait=True, timeout=1.0)
        assert "another host has to start it" in str(waiting.reason)
        assert "stays on" in await registry.move(BOX, back=True)
        result = await create_client().receipt(waiting.message_id).result(timeout=60)
        assert result.response == ["one", "two"]


async def test_a_vm_that_comes_back_starts_empty_and_what_was_left_is_kept_aside(store: str, tmp_path: Path) -> None:
    async with hosted(store) as (registry, box):
        assert (await box.send("jobs", "one", wait=True, timeout=60)).response == ["one"]
        await registry.move(BOX, accept_loss=True)
        other = await OtherHost.start(store, tmp_path / "there", "two")
        assert await other.says() == "['two']"
        await registry.move(BOX, accept_loss=True)
        assert (await box.send("jobs", "three", wait=True, timeout=60)).response == ["three"]
        await other.stop()
    (kept,) = (tmp_path / "here" / "agentq.agentq" / "box").glob("*.moved-*")
    assert (kept / "done.txt").read_text() == "one"


async def test_the_shell_moves_a_vm_and_needs_a_yes(store: str, tmp_path: Path) -> None:
    other = await OtherHost.start(store, tmp_path / "there", "one")
    assert await other.says() == "['one']"
    await other.kill()

    async def agentq(*words: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "agentq_nb.cli", *words],
            cwd=tmp_path / "here",
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    async with hosted(store) as (_, box):
        receipt = await box.send("jobs", "two")
        warned = await agentq("move", BOX)
        assert "A move copies nothing" in warned.stderr
        assert f"agentq move {BOX} --yes" in warned.stderr
        assert warned.returncode != 0
        moved = await agentq("move", BOX, "--yes")
        assert "are given up" in moved.stdout, moved.stderr
        assert (await receipt.result(timeout=60)).response == ["two"]


async def test_a_vm_over_a_file_has_no_home_to_give_up(tmp_path: Path) -> None:
    async with hosted(str(tmp_path / "alone.agentq.duckdb")) as (registry, box):
        assert (await box.send("jobs", "one", wait=True, timeout=60)).response == ["one"]
        assert (await box.status()).home is None
        with pytest.raises(ValidationFailed, match="keeps no files on a host that shares these queues"):
            await registry.move(BOX, accept_loss=True)
