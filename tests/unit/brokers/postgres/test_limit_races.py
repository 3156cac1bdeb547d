"""Hosts in several processes that work under the same limits: what a ledger outside of the database says they did."""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path
from typing import Any

import pytest

from agentq_nb._brokers.postgres.broker import PostgresBroker
from tests.postgres_queues import ask, new_schema
from tests.unit.brokers.conformance.words import new_message
from tests.unit.brokers.postgres.limit_racer import COUNT, LIMITS, PER, PLACES
from tests.unit.ledger import BUSY, CHECKOUT, Ledger, too_early

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

HOSTS = ["1", "2", "3"]
EACH = 8
"""Messages for each actor."""


async def begin(url: str, folder: Path, host: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "tests.unit.brokers.postgres.limit_racer", url, str(folder), host]
    return await asyncio.create_subprocess_exec(*command, cwd=CHECKOUT)


async def send_all(broker: PostgresBroker, bodies: list[Any]) -> list[str]:
    """Send these messages to the two actors of each host, in turns."""
    messages = [
        new_message(body, actor=f"worker/{host}{letter}") for body in bodies for host in HOSTS for letter in "ab"
    ]
    return [one.id for one in await broker.enqueue(messages)]


async def until_lines(ledger: Ledger, count: int) -> None:
    async with asyncio.timeout(60):
        while len(ledger.facts()) < count:  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.02)


def most_at_work(seen: list[dict[str, Any]], *, gone: set[int]) -> int:
    """How many were at work at once, leaving out what a process that was killed did not end."""
    ended = {(line["id"], line["pid"]) for line in seen if line["fact"] == "ended"}
    at_work, most = 0, 0
    for line in seen:
        if line["fact"] == "began" and line["pid"] in gone and (line["id"], line["pid"]) not in ended:
            continue
        at_work += 1 if line["fact"] == "began" else -1
        most = max(most, at_work)
    return most


@pytest.mark.parametrize("kill", [False, True], ids=["all live", "one is killed"])
async def test_no_limit_is_exceeded_over_all_hosts(
    postgres_url: str,
    tmp_path: Path,
    kill: bool,
) -> None:
    url, ledger = f"{postgres_url}?schema={new_schema()}", Ledger(tmp_path)
    broker = await PostgresBroker.open(url)
    sent = await send_all(broker, list(range(EACH)))
    hosts = [await begin(url, tmp_path, host) for host in HOSTS]
    gone: set[int] = set()
    if kill:
        await until_lines(ledger, 20)
        hosts[0].kill()
        await hosts[0].wait()
        gone.add(hosts[0].pid)
        hosts[0] = await begin(url, tmp_path, HOSTS[0])
    for message in sent:
        assert (await broker.wait(message, 60)).status == "completed"
    await send_all(broker, ["over"])
    for host in hosts:
        assert await asyncio.wait_for(host.wait(), 60) == 0
    await broker.close()
    seen = ledger.facts()
    began = ledger.facts("began")
    assert {line["id"] for line in began} == set(sent)
    assert len(began) - len(sent) <= 2 * kill, "nothing is handled twice but what was in flight"
    assert most_at_work(seen, gone=gone) <= PLACES
    stored = ask(url, "select at from agentq.limit_starts where name = 'api' order by at")
    assert too_early([at for (at,) in stored], COUNT, PER) == []
    assert too_early(sorted(line["at"] for line in began), COUNT, PER - BUSY) == []
    assert LIMITS[0].name == "api"
    assert all(later["at"] >= earlier["at"] - 1 for earlier, later in itertools.pairwise(seen))
