"""``agentq migrate``: what a file's queues hold is on the server afterwards, once, whatever interrupts it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from pydantic import BaseModel

from agentq_nb import Actor, Queue, Retry, action, create_client, setup
from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb.cli import main
from tests.postgres_queues import ask

HANDLED: list[object] = []
LARGE = "x" * 100_000


class Counted(BaseModel):
    counted: int = 0


class Worker(Actor):
    tasks = Queue(str, reply=str, retry=Retry(attempts=1))
    later = Queue(str, reply=str)
    state: Counted

    @tasks.handler
    async def work(self, text: str) -> str:
        HANDLED.append(text)
        if text == "fails":
            raise ValueError("it did")
        self.state.counted += 1
        return f"done {text}"

    @later.handler
    async def work_later(self, text: str) -> str:
        HANDLED.append(text)
        return text

    @action
    async def plan(self, seconds: float) -> None:
        await self.schedule.after(seconds, "called", "scheduled")

    @action
    async def called(self, text: str) -> None:
        HANDLED.append(text)

    @action
    async def count(self) -> int:
        return self.state.counted


async def fill(file: Path) -> dict[str, str]:
    """Make a file with something of every kind; return the ids of some messages."""
    HANDLED.clear()
    async with setup(use={"worker": Worker}, store=file):
        worker = create_client().worker.get_or_create("main")
        ids = {}
        for body in ("first", "fails"):
            receipt = await worker.send("tasks", body, idempotency_key=f"key {body}", wait=False)
            await receipt.result(30)
            ids[body] = receipt.id
        await worker.plan(3600)
        await worker.pause("tasks")
        for number in range(3):
            await worker.send("tasks", f"waiting {number}", priority=number, idempotency_key=f"{number}")
        await worker.send("later", "delayed", delay=3600)
        ids["large"] = (await worker.send("tasks", LARGE)).id
        other = create_client().worker.get_or_create("batch")
        batch = await other.send_many("tasks", ["a", "b"], name="letters")
        await batch.results()
        assert HANDLED == ["first", "fails", "a", "b"]
    return ids


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "old.agentq.duckdb"


def migrate(file: Path, store: str) -> int:
    return main(["migrate", str(file), store])


def test_what_was_in_the_file_is_worked_on_from_the_server(
    file: Path,
    store: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids = asyncio.run(fill(file))
    assert migrate(file, store) == 0
    said = capsys.readouterr().out
    for line in (
        r"unsettled messages  5",
        "scheduled calls  1",
        "dead letters  1",
        "actors' states  2",
        "paused queues  1",
        "batches  1",
        "results that keys, batches or messages need  3",
    ):
        assert " ".join(line.split()) in " ".join(said.split())

    async def look() -> None:
        HANDLED.clear()
        async with setup(use={"worker": Worker}, store=store) as registry:
            client = create_client()
            worker = client.worker.get_or_create("main")
            assert await worker.count() == 1
            failed = await registry.messages(status="failed")
            assert list(failed["message_id"]) == [ids["fails"]]
            assert failed["error"][0]["message"] == "it did"
            again = await worker.send("tasks", "first", idempotency_key="key first")
            assert again.id == ids["first"]
            assert (await again.result(5)).response == "done first"
            waiting = await worker.send("tasks", "waiting 1", idempotency_key="1")
            assert (await waiting.status()) == "queued"
            assert HANDLED == []
            await worker.resume("tasks")
            await client.receipt(ids["large"]).result(30)
            assert HANDLED == ["waiting 2", "waiting 1", "waiting 0", LARGE]
            found = await registry.sql("select status from messages where queue = 'later'")
            assert found.rows == [("delayed",)]
            planned = await registry.sql(
                f"select count(*) from {parse_address(store).schema}.messages where queue = '$schedule' and due > 0"
            )
            assert planned.rows == [(1,)]
            batch = await registry.batch("letters")
            assert [result.response for result in await batch.results()] == ["done a", "done b"]
            assert await worker.redeliver(ids["fails"]) is True

    asyncio.run(look())


def test_the_file_has_no_work_left_and_a_second_run_moves_nothing(
    file: Path,
    store: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asyncio.run(fill(file))
    assert migrate(file, store) == 0
    assert migrate(file, store) == 0
    assert "Nothing was moved now" in capsys.readouterr().out
    assert count(store) == 9

    async def look() -> None:
        HANDLED.clear()
        async with setup(use={"worker": Worker}, store=file) as registry:
            await create_client().worker.get_or_create("main").resume("tasks")
            left = await registry.sql("select error->>'$.message' from messages where status = 'cancelled'")
            assert len(left) == 5
            assert str(left.rows[0][0]).startswith("It was moved to 127.0.0.1:")
            unsettled = await registry.sql("select 1 from messages where status in ('queued', 'delayed', 'running')")
            assert len(unsettled) == 0
        assert HANDLED == []

    asyncio.run(look())


async def begin(store: str) -> None:
    """Make the tables."""
    async with setup(store=store):
        pass


def count(store: str) -> int:
    return len(ask(store, "select id from agentq.messages where queue <> '$schedule'"))


def test_killed_in_the_middle_it_has_moved_nothing_and_moves_all_when_it_is_run_again(
    file: Path,
    store: str,
) -> None:
    asyncio.run(fill(file))
    address = parse_address(store)
    asyncio.run(begin(store))
    arguments = [sys.executable, "-m", "agentq_nb.cli", "migrate", str(file), store]
    with psycopg.connect(address.conninfo) as connection:
        # It gets as far as the batches, behind the messages.
        connection.execute(address.statement("lock table agentq.batch_rows in exclusive mode"))
        process = subprocess.Popen(arguments)
        waiting = "select count(*) from pg_locks where not granted"
        until = time.monotonic() + 60
        while connection.execute(waiting).fetchone() == (0,) and time.monotonic() < until:
            time.sleep(0.02)
        assert connection.execute(waiting).fetchone() != (0,)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert count(store) == 0
    assert migrate(file, store) == 0
    assert count(store) == 9


def test_killed_before_the_messages_left_the_file_they_leave_it_when_it_is_run_again(
    file: Path,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asyncio.run(fill(file))
    with monkeypatch.context() as patched:
        patched.setattr("agentq_nb._host.migration._append", _die)
        with pytest.raises(_Died):
            migrate(file, store)
    assert count(store) == 9
    assert migrate(file, store) == 0
    assert count(store) == 9

    async def unsettled() -> int:
        async with setup(store=file) as registry:
            found = await registry.sql("select 1 from messages where status in ('queued', 'delayed', 'running')")
            return len(found)

    assert asyncio.run(unsettled()) == 0


class _Died(BaseException):
    pass


async def _die(*_: object) -> None:
    raise _Died


def test_names_that_the_server_has_are_refused_and_nothing_is_moved(
    file: Path,
    store: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asyncio.run(fill(file))
    assert migrate(file, store) == 0
    other = tmp_path / "other.agentq.duckdb"
    asyncio.run(fill(other))
    assert migrate(other, store) == 1
    said = capsys.readouterr().err
    assert "exist on 127.0.0.1" in said
    assert "batch letters, worker/batch, worker/main" in said
    assert count(store) == 9


def test_a_file_that_a_host_has_open_is_refused(
    file: Path,
    store: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def both() -> subprocess.CompletedProcess[str]:
        async with setup(use={"worker": Worker}, store=file):
            arguments = [sys.executable, "-m", "agentq_nb.cli", "migrate", str(file), store]
            return await asyncio.to_thread(subprocess.run, arguments, capture_output=True, text=True)

    refused = asyncio.run(both())
    assert refused.returncode == 1
    assert "old.agentq.duckdb" in refused.stderr
    assert "open" in refused.stderr or "in use" in refused.stderr


def test_words_that_name_no_server_or_no_file_are_refused(
    file: Path,
    store: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["migrate", str(file), "mysql://me:hidden@server/db"]) == 2
    said = capsys.readouterr().err
    assert "postgresql://user@server/database" in said
    assert "hidden" not in said
    assert migrate(file, store) == 1
    assert "There is no file" in capsys.readouterr().err
