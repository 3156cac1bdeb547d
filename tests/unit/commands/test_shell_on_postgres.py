"""The shell's ``agentq`` on queues in PostgreSQL, with no host, and what it must never print."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from agentq_nb import Actor, Queue, Retry, create_client, setup
from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._core.clock import SystemClock
from agentq_nb._core.redaction import without_passwords
from agentq_nb._display import document_of
from agentq_nb._display.document import as_text
from agentq_nb._display.html import as_html
from agentq_nb._notebook.dashboard.overview import Overview
from agentq_nb.cli import main
from agentq_nb.errors import AgentqError, ValidationFailed

PASSWORD = "tr0ub4dor"


class Worker(Actor):
    tasks = Queue(str, reply=str, retry=Retry(attempts=2, backoff=0))

    @tasks.handler
    async def work(self, text: str) -> str:
        if text == "fails":
            raise ValueError("it did")
        return f"done {text}"


async def fill(store: str) -> list[str]:
    async with setup(use={"worker": Worker}, store=store):
        worker = create_client().worker.get_or_create("main")
        receipts = [await worker.send("tasks", body) for body in ("one", "fails")]
        for receipt in receipts:
            await receipt.result(30)
        await worker.pause("tasks")
        receipts.append(await worker.send("tasks", "waits"))
        return [receipt.id for receipt in receipts]


@pytest.fixture
def ids(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Messages on the server; the shell is in another folder than their host was, and has the address from its variable."""
    found = asyncio.run(fill(store))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("AGENTQ_DB", store)
    return found


def test_the_commands_that_need_no_host_work_on_the_server(ids: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    done, failed, waits = ids

    def said(*words: str, status: int = 0) -> str:
        assert main([*words]) == status, capsys.readouterr()
        out, error = capsys.readouterr()
        return out + error

    assert "worker/main" in said("status")
    assert "done one" in said("results")
    assert "ValueError: it did" in said("dead", "worker/main", "tasks")
    shown = said("show", failed)
    assert shown.count("ValueError: it did") >= 2
    assert "retried" in shown
    assert "waits" in said("show", waits)
    assert said("sql", "select count(*) from messages where status = 'completed'").split()[-1] == "1"
    assert "Only reads are accepted" in said("sql", "delete from messages", status=1)
    assert failed in said("retry", failed)
    assert "No dead letters" in said("dead")
    said("resume", "worker/main", "tasks")
    said("cancel", waits)
    assert "cancelled" in said("show", waits)
    assert "No sessions" in said("sessions")
    assert "No language model" in said("cost")
    assert "No host uses these queues" in said("hosts")
    assert "batches" in said("batches") or "batch" in said("batches").lower()
    assert "PostgreSQL 1" in said("doctor")
    assert "needs a host" in said("send", "worker/main", "tasks", "x", status=1)
    assert "needs a host" in said("watch", status=1)
    assert "Dropped" in said("prune", "0s")
    assert done not in said("results")
    # It leaves no file where there was none.
    assert list(Path.cwd().iterdir()) == []


def test_the_address_may_be_given_as_store(
    ids: list[str],
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("AGENTQ_DB")
    assert main(["results", "--store", store]) == 0
    assert ids[0] in capsys.readouterr().out


def test_a_host_in_the_folder_is_asked(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def ask() -> subprocess.CompletedProcess[str]:
        async with setup(use={"worker": Worker}, store=store) as registry:
            await create_client().worker.get_or_create("main").send("tasks", "one", wait=True, timeout=30)
            hosts = await registry.hosts_table()
            assert [(row[1], row[8], row[9]) for row in hosts.rows] == [(True, 0, ["worker/main"])]
            frame = await registry.hosts()
            assert frame["lease_until"][0] > frame["started_at"][0]
            arguments = [sys.executable, "-m", "agentq_nb.cli", "hosts", "--store", store]
            return await asyncio.to_thread(subprocess.run, arguments, capture_output=True, text=True)

    asked = asyncio.run(ask())
    assert asked.returncode == 0, asked.stderr
    assert "asking the host of" in asked.stderr
    assert "worker/main" in asked.stdout


def test_the_only_host_of_a_file_is_listed_too(tmp_path: Path) -> None:
    async def hosts() -> list[tuple[object, ...]]:
        async with setup(use={"worker": Worker}, store=tmp_path / "one.agentq.duckdb") as registry:
            await create_client().worker.get_or_create("main").send("tasks", "one", wait=True, timeout=30)
            return (await registry.hosts_table()).rows

    (host,) = asyncio.run(hosts())
    assert host[1] is True
    assert host[7] is None  # it needs no lease
    assert host[9] == ["worker/main"]


# --- passwords --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secured(postgres_url: str) -> str:
    """The address of a user with a password, which the server does not ask for."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("create role secured superuser login")
    return postgres_url.replace("//test@", f"//secured:{PASSWORD}@") + "?schema=secured"


def test_what_a_host_shows_and_stores_of_itself_has_no_password(
    secured: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level("DEBUG")
    shown: list[str] = []

    async def look() -> None:
        async with setup(use={"worker": Worker}, store=secured) as registry:
            await create_client().worker.get_or_create("main").send("tasks", "one", wait=True, timeout=30)
            status = await registry.status()
            assert status.server is not None
            assert status.server.startswith("postgresql://secured:***@127.0.0.1:")
            for value in (registry, status, await registry.hosts_table(), registry.limits):
                shown.append(repr(value))
                document = document_of(value)
                if document is not None:
                    shown.extend([as_text(document), as_html(document)])
            shown.append(repr(registry.lifecycle.shared_broker))
            shown.append(repr(registry.lifecycle.shared_broker.database.address))  # type: ignore[union-attr]
            shown.extend(registry.notices)
            sections = await Overview(registry, SystemClock()).look(refresh=True)
            assert len(sections["messages"]) == 1
            shown.append(repr(sections))
            for query in ("select * from nothing", "select * from events"):
                try:
                    shown.append(repr(await registry.sql(query)))
                except AgentqError as error:
                    shown.append(repr(error))
            with psycopg.connect(secured.partition("?")[0]) as connection:
                shown.append(repr(connection.execute("select * from secured.sessions").fetchall()))

    asyncio.run(look())
    shown.append(caplog.text)
    shown.extend(file.read_bytes().decode("latin-1") for file in tmp_path.iterdir() if file.is_file())
    assert [text for text in shown if PASSWORD in text] == []
    assert len(shown) > 10


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://me:{PASSWORD}@127.0.0.1:1/none",
        f"postgresql://me:{PASSWORD}@nowhere.invalid/none",
        f"postgresql://me@127.0.0.1:1/none?password={PASSWORD}",
        f"postgresql://me:x@{PASSWORD}@127.0.0.1:1/none",
        f"postgresql://me:x/{PASSWORD}@127.0.0.1:1/none",
        f"postgresql://me:1/{PASSWORD}@127.0.0.1:1/none",
        f"postgresql://me:x?{PASSWORD}@127.0.0.1:1/none",
        f"postgresql://me:x#{PASSWORD}@127.0.0.1:1/none",
        f"postgresql://me:x%{PASSWORD}@127.0.0.1:1/none",
        f"postgresql://me:{PASSWORD}@[::1/none",
        f"postgresql://me:{PASSWORD}@127.0.0.1:port/none",
        f"postgresql://me:{PASSWORD}@127.0.0.1:1/none?schema=NO",
        f"postgresql://me:{PASSWORD}@127.0.0.1:1/none?sslmod=require",
        f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:1/none",
        f"Postgresql://me:{PASSWORD}@127.0.0.1:1/none",
        f"postgresql:/me:{PASSWORD}@127.0.0.1:1/none",
        f" postgresql://me:{PASSWORD}@127.0.0.1:1/none",
        f"mysql://me:{PASSWORD}@127.0.0.1:1/none",
    ],
)
def test_no_error_about_an_address_has_its_password(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("agentq_nb._brokers.postgres.connection.PATIENCE", 0.0)
    monkeypatch.setattr("agentq_nb._brokers.postgres.connection.CONNECT_TIMEOUT", 1)
    for words in (
        ["status", "--store", address],
        ["doctor", "--store", address],
        ["migrate", "nothing", address],
        ["results", address],
        [address],
        ["hosts", "--stor", address],
    ):
        assert main(words) != 0 or words[0] == "doctor"
    monkeypatch.setenv("AGENTQ_DB", address)
    assert main(["status"]) != 0
    with pytest.raises(AgentqError) as raised:
        asyncio.run(setup(store=address).start())
    out, error = capsys.readouterr()
    assert PASSWORD not in out + error
    assert PASSWORD not in f"{raised.value} {raised.value!r} {raised.value.metadata}"
    assert raised.value.__cause__ is None or PASSWORD not in str(raised.value.__cause__)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see postgresql://me:a@b/c@host:5/db?x=1 there", "see postgresql://me:***@host:5/db?x=1 there"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("host=h password='a b' user=u", "host=h password=*** user=u"),
        ("postgresql://h/db?password=abc&sslmode=require", "postgresql://h/db?password=***&sslmode=require"),
        ("/home/me/a@b/file.duckdb", "/home/me/a@b/file.duckdb"),
        ("12:30 and me@example.org", "12:30 and me@example.org"),
    ],
)
def test_passwords_in_texts_are_replaced(text: str, shown: str) -> None:
    assert without_passwords(text) == shown


def test_a_password_with_characters_that_must_be_escaped_is_explained() -> None:
    with pytest.raises(ValidationFailed, match="write @ as %40"):
        parse_address("postgresql://me:a@b@host/db")
    assert "a%40b" not in repr(parse_address("postgresql://me:a%40b@host/db"))
