"""Reading queues on PostgreSQL from a host: SQL, exports, keep-alive, and a server that is not there yet."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from agentq_nb import Actor, Queue, Retry, agent_os, agents, create_client, setup
from agentq_nb._brokers.changes import Pause, Resume
from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._host.keep_alive import HORIZON, KeepAlive, KeepAliveSettings
from agentq_nb.errors import StoreError, Unavailable
from tests.postgres_server import Server, required_server
from tests.unit.brokers.conformance.words import ACTOR, acquire, rest, send, settle, take_one
from tests.unit.brokers.postgres_setting import PostgresSetting

pytestmark = pytest.mark.anyio


class Worker(Actor):
    tasks = Queue(str, reply=str, retry=Retry(attempts=1))

    @tasks.handler
    async def work(self, text: str) -> str:
        if text == "fails":
            raise ValueError("it did")
        return f"done {text}"


async def answer(_session: object, text: str) -> str:
    return f"answer to {text}"


async def test_sql_dataframes_and_an_export_have_messages_of_the_server_and_sessions_of_the_host(
    store: str,
    tmp_path: Path,
) -> None:
    vm = agent_os(agents=[agents.function(answer, name="echo")], isolation="off")
    target = tmp_path / "copy.duckdb"
    async with setup(use={"worker": Worker, "vm": vm}, store=store) as registry:
        client = create_client()
        worker = client.worker.get_or_create("main")
        for text in ("é\u0000", "fails"):
            await worker.send("tasks", text, wait=True, timeout=30)
        machine = client.vm.get_or_create("main")
        session = await machine.create_session("echo", keep=True)
        await machine.send_prompt(session.session_id, "hello")

        joined = await registry.sql(
            "select s.agent, m.status from sessions s, messages m where m.queue = ? order by 2", ["tasks"]
        )
        assert joined.rows == [("echo", "completed"), ("echo", "failed")]
        said = await registry.file_sql("select text from transcripts where type = 'text'")
        assert said.rows == [("answer to hello",)]
        assert list((await registry.transcripts())["session_id"].unique()) == [session.session_id]
        results = await registry.results("worker")
        assert list(results["status"]) == ["completed", "failed"]
        assert str(results["finished_at"].dtype) == "datetime64[us, UTC]"
        await worker.pause("tasks")
        pauses = await registry.limits.pauses(since=timedelta(hours=1))
        assert list(pauses["cause"]) == ["by hand"]
        assert len(await registry.limits.pauses("worker/main tasks")) == 1

        await registry.export(target)
        with pytest.raises(StoreError, match="exists already"):
            await registry.export(target)
    with duckdb.connect(target, read_only=True) as copy:
        tables = {name for (name,) in copy.execute("show tables").fetchall()}
        assert tables == {
            *("actors", "messages", "queues", "pauses", "attempts", "results", "sessions", "transcripts", "usage")
        }
        found = copy.execute(
            "select body->>'$', status, typeof(created_at) from messages order by created_at"
        ).fetchall()
        assert found == [("é\u0000", "completed", "TIMESTAMP"), ("fails", "failed", "TIMESTAMP")]
        assert copy.execute("select count(*) from transcripts where session_id is not null").fetchone() != (0,)
        assert copy.execute("select agent from sessions").fetchall() == [("echo",)]
    assert target.stat().st_mode & 0o777 == 0o600
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".agentq-export")]


# --- keep-alive -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def setting(postgres_url: str) -> AsyncIterator[PostgresSetting]:
    setting = await PostgresSetting.open(postgres_url)
    yield setting
    await setting.close()


async def test_a_kernel_is_kept_alive_while_queues_on_the_server_have_work(setting: PostgresSetting) -> None:
    shown: list[float] = []
    name = ACTOR.partition("/")[0]
    keep_alive = KeepAlive(
        setting.broker, KeepAliveSettings(), {name: Worker}, lambda: shown.append(setting.clock.monotonic())
    )

    async def looks() -> bool:
        work = asyncio.ensure_future(keep_alive.work())
        for _ in range(200):
            await rest()
            await asyncio.sleep(0.005)
            setting.clock.advance(5)
            if work.done():
                break
        await asyncio.wait_for(work, 30)
        return keep_alive.active

    assert not await looks()
    assert shown == []
    await send(setting.broker, "x")
    assert await looks()
    assert len(shown) >= 1
    await setting.broker.change(ACTOR, Pause("tasks", None))
    assert not await looks()
    await setting.broker.change(ACTOR, Resume("tasks"))
    lease = await acquire(setting)
    delivery = await take_one(lease)
    assert await looks()  # it is in flight
    await settle(lease, delivery)
    assert not await looks()


@pytest.mark.parametrize(
    ("delay", "works"), [(HORIZON - 3600, True), (HORIZON + 3600, False)], ids=["within 12 hours", "later"]
)
async def test_delayed_work_counts_within_twelve_hours(setting: PostgresSetting, delay: float, works: bool) -> None:
    await send(setting.broker, "x", delay=delay)
    queues = {ACTOR.partition("/")[0]: ["tasks"]}
    assert await setting.broker.works_until(queues, setting.clock.time() + HORIZON) is works
    assert await setting.broker.works_until({"other": ["tasks"]}, setting.clock.time() + HORIZON) is False
    assert await setting.broker.works_until({}, setting.clock.time() + HORIZON) is False


async def test_a_settled_message_is_progress(setting: PostgresSetting) -> None:
    queues = {ACTOR.partition("/")[0]: ["tasks"]}
    await setting.broker.works_until(queues, 0.0)
    before = setting.broker.settled
    await send(setting.broker, "x")
    lease = await acquire(setting)
    await settle(lease, await take_one(lease))
    await setting.broker.works_until(queues, 0.0)
    assert setting.broker.settled == before + 1


# --- opening ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    with required_server() as server:
        yield server


async def test_a_server_that_starts_a_moment_later_is_waited_for(server: Server) -> None:
    await asyncio.to_thread(server.stop)
    opening = asyncio.ensure_future(PostgresBroker.open(server.url))
    await asyncio.sleep(1)
    assert not opening.done()
    await asyncio.to_thread(server.start)
    broker = await asyncio.wait_for(opening, 60)
    await send(broker, "x")
    await broker.close()


async def test_what_does_not_pass_by_itself_is_said_at_once(postgres_url: str) -> None:
    started = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable, match="does not exist"):
        await PostgresBroker.open(postgres_url.replace("/test", "/nothing"))
    assert asyncio.get_running_loop().time() - started < 8


async def test_nothing_that_listens_is_unavailable_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentq_nb._brokers.postgres.connection.PATIENCE", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"postgresql://me:hidden@127.0.0.1:{free.getsockname()[1]}/none"
        with pytest.raises(Unavailable, match="cannot be reached") as raised:
            await PostgresBroker.open(address)
    assert "hidden" not in str(raised.value)
    assert "hidden" not in repr(parse_address(address))
