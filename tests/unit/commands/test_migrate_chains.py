"""``agentq migrate`` moves messages that wait for others (``after=``), with what they wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ClassVar

import psycopg
import pytest

from agentq_nb import Actor, Message, Queue, Registry, Retry, create_client, setup
from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._client.handle import ActorHandle
from agentq_nb._host import migration
from agentq_nb._store import EventLog, Row, row
from agentq_nb.cli import main

HANDLED: list[tuple[str, list[object]]] = []


class Step(Actor):
    """Its steps note what they were sent after; a text that begins with ``fails`` fails once."""

    steps = Queue(str, reply=str, retry=Retry(attempts=1))
    failed: ClassVar[set[str]] = set()

    @steps.handler
    async def work(self, text: str, message: Message[str, str]) -> str:
        if text.startswith("fails") and text not in self.failed:
            self.failed.add(text)
            raise ValueError("it did")
        HANDLED.append((text, [result.response for result in message.after]))
        return f"did {text}"


Fill = Callable[[ActorHandle, ActorHandle], Awaitable[dict[str, str]]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "old.agentq.duckdb"


def fill(file: Path, send: Fill) -> dict[str, str]:
    """Let ``send`` use two actors of a file: one works, and the other is paused. Return the ids that it returns."""
    HANDLED.clear()
    Step.failed.clear()

    async def run() -> dict[str, str]:
        async with setup(use={"step": Step}, store=file):
            client = create_client()
            working, paused = client.step.get_or_create("working"), client.step.get_or_create("paused")
            await paused.pause("steps")
            return await send(working, paused)

    ids = asyncio.run(run())
    HANDLED.clear()
    return ids


def on_server(store: str, look: Callable[[Registry, ActorHandle], Awaitable[None]]) -> None:
    """Let a host on the server work, and look at it with the actor that is paused."""

    async def run() -> None:
        async with setup(use={"step": Step}, store=store) as registry:
            await look(registry, create_client().step.get_or_create("paused"))

    asyncio.run(run())


def migrate(file: Path, store: str) -> int:
    return main(["migrate", str(file), store])


async def chain(working: ActorHandle, paused: ActorHandle) -> dict[str, str]:
    """Send what waits for a settled message and one that moves, what waits for that, and what waits for nothing more."""
    settled = await working.send("steps", "settled", wait=False)
    await settled.result(30)
    moving = await paused.send("steps", "moving")
    both = await working.send("steps", "both", after=[settled, moving], idempotency_key="both")
    last = await working.send("steps", "last", after=both, delay=3600, ttl=60)
    free = await paused.send("steps", "free", after=settled)
    again = await working.send("steps", "again", after=moving, delay=3600)
    return {
        name: receipt.id
        for name, receipt in {
            "settled": settled,
            "moving": moving,
            "both": both,
            "last": last,
            "free": free,
            "again": again,
        }.items()
    }


def test_what_waits_is_handled_on_the_server_once_what_it_waits_for_has_completed(
    file: Path,
    store: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids = fill(file, chain)
    assert migrate(file, store) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "unsettled messages 5" in said
    assert "results that keys, batches or messages need 1" in said

    async def look(registry: Registry, paused: ActorHandle) -> None:
        client = create_client()
        both, last = client.receipt(ids["both"]), client.receipt(ids["last"])
        assert await both.status() == "blocked"
        found = await registry.sql("select after from messages where message_id = ?", [ids["both"]])
        assert found.rows == [([ids["settled"], ids["moving"]],)]
        # The key names it on the server too.
        after = [ids["settled"], ids["moving"]]
        same = await client.step.get("working").send("steps", "both", after=after, idempotency_key="both")
        assert same.id == ids["both"]
        assert HANDLED == []

        await paused.resume("steps")
        await both.result(30)
        await client.receipt(ids["free"]).result(30)
        assert sorted(HANDLED) == [
            ("both", ["did settled", "did moving"]),
            ("free", ["did settled"]),
            ("moving", []),
        ]
        # Its delay counts from now on.
        assert await last.status() == "delayed"
        assert await client.receipt(ids["again"]).status() == "delayed"

    on_server(store, look)


def test_what_was_put_back_by_itself_has_no_delay_on_the_server(file: Path, store: str) -> None:
    async def send(working: ActorHandle, paused: ActorHandle) -> dict[str, str]:
        moving = await paused.send("steps", "moving")
        delayed = await working.send("steps", "delayed", after=moving, delay=3600)
        assert await delayed.cancel()
        assert await working.redeliver(delayed.id)
        return {"delayed": delayed.id}

    ids = fill(file, send)
    assert migrate(file, store) == 0

    async def look(registry: Registry, paused: ActorHandle) -> None:
        await paused.resume("steps")
        await create_client().receipt(ids["delayed"]).result(30)
        assert HANDLED == [("moving", []), ("delayed", ["did moving"])]

    on_server(store, look)


async def of_a_dead_letter(working: ActorHandle, paused: ActorHandle) -> dict[str, str]:
    """Send a message that fails, and what is cancelled because of it."""
    await working.pause("steps")
    first = await working.send("steps", "fails first", wait=False)
    other = await working.send("steps", "other")
    second = await paused.send("steps", "next", after=[other, first], wait=False)
    last = await paused.send("steps", "last", after=second, wait=False)
    await working.resume("steps")
    assert (await last.result(30)).status == "cancelled"
    return {"first": first.id, "next": second.id, "last": last.id}


def test_a_dead_letter_that_is_put_back_on_the_server_brings_back_what_was_cancelled_because_of_it(
    file: Path,
    store: str,
) -> None:
    ids = fill(file, of_a_dead_letter)
    assert migrate(file, store) == 0

    async def look(registry: Registry, paused: ActorHandle) -> None:
        client = create_client()
        assert await client.receipt(ids["next"]).status() == "cancelled"
        await paused.resume("steps")
        assert await client.step.get("working").redeliver(ids["first"])
        await client.receipt(ids["last"]).result(30)
        assert HANDLED == [("fails first", []), ("next", ["did other", "did fails first"]), ("last", ["did next"])]

    on_server(store, look)


def fail_in_file(file: Path, message: str) -> None:
    """Settle a message as a host does that dies before it has cancelled what waits for it."""

    async def run() -> None:
        log = EventLog.open(file, holder={"notebook": None})
        written = row("message.failed", "step/paused", message, None, '{"error":{"message":"it did"},"reason":"fail"}')
        await migration._append(log, [written])
        log.close()

    asyncio.run(run())


def test_what_waits_for_a_message_that_has_failed_is_cancelled_with_the_reason(file: Path, store: str) -> None:
    ids = fill(file, chain)
    fail_in_file(file, ids["moving"])
    assert migrate(file, store) == 0

    async def look(registry: Registry, paused: ActorHandle) -> None:
        client = create_client()
        for name in ("both", "last", "again"):
            result = await client.receipt(ids[name]).result(30)
            assert result.status == "cancelled"
            assert result.error is not None
            assert result.error["code"] == "predecessor_failed"
            assert result.error["metadata"]["failed_first"] == ids["moving"]
        await paused.resume("steps")
        await client.receipt(ids["free"]).result(30)
        assert HANDLED == [("free", ["did settled"])]
        assert await paused.redeliver(ids["moving"])
        await client.receipt(ids["both"]).result(30)
        assert HANDLED[1:] == [("moving", []), ("both", ["did settled", "did moving"])]

    on_server(store, look)
    assert unsettled_in(file) == 0


def test_what_waits_for_a_message_that_expired_meanwhile_is_cancelled_on_the_server(
    file: Path,
    store: str,
) -> None:
    async def send(working: ActorHandle, paused: ActorHandle) -> dict[str, str]:
        short = await paused.send("steps", "short", ttl=3600)
        return {"waits": (await working.send("steps", "waits", after=short)).id}

    ids = fill(file, send)
    assert migrate(file, store) == 0
    address = parse_address(store)
    with psycopg.connect(address.conninfo) as connection:
        moved = connection.execute(
            address.statement("update agentq.messages set expires = expires - 7200 where expires > agentq.now()")
        )
        assert moved.rowcount == 1

    async def look(registry: Registry, paused: ActorHandle) -> None:
        result = await create_client().receipt(ids["waits"]).result(30)
        assert result.status == "cancelled"

    on_server(store, look)


def unsettled_in(file: Path) -> int:
    async def count() -> int:
        async with setup(store=file) as registry:
            found = await registry.sql(
                "select 1 from messages where status in ('queued', 'delayed', 'blocked', 'running')"
            )
            return len(found)

    return asyncio.run(count())


def test_interrupted_while_a_chain_leaves_the_file_the_rest_leaves_it_when_it_is_run_again(
    file: Path,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids = fill(file, chain)
    append = migration._append

    async def append_one(log: EventLog, rows: list[Row]) -> None:
        """Let the first message leave the file: others wait for it."""
        assert ids["moving"] in rows[0]
        await append(log, rows[:1])
        raise _Died

    with monkeypatch.context() as patched:
        patched.setattr("agentq_nb._host.migration._append", append_one)
        with pytest.raises(_Died):
            migrate(file, store)
    assert migrate(file, store) == 0
    assert "Nothing was moved now" in capsys.readouterr().out
    assert unsettled_in(file) == 0

    async def look(registry: Registry, paused: ActorHandle) -> None:
        await paused.resume("steps")
        await create_client().receipt(ids["both"]).result(30)
        assert ("both", ["did settled", "did moving"]) in HANDLED

    on_server(store, look)


class _Died(BaseException):
    pass
