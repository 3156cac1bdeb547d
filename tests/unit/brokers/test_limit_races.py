"""Hosts in several processes that work under the same limits: what a ledger outside of the database says they did."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agentq_nb._brokers.postgres.address import parse_address
from agentq_nb._brokers.postgres.broker import PostgresBroker
from tests.unit.brokers.conformance.words import new_message
from tests.unit.brokers.limit_racer import COUNT, LIMITS, PER, PLACES

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

HOSTS = ["1", "2", "3"]
EACH = 8
"""Messages for each actor."""
BUSY = 0.1
"""Seconds that a busy machine may take from the commit of a start to the line in the ledger."""


async def begin(url: str, ledger: Path, host: str) -> asyncio.subprocess.Process:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-m", "tests.unit.brokers.limit_racer", url, str(ledger), host]
    return await asyncio.create_subprocess_exec(*command, env=environment)


async def send_all(broker: PostgresBroker, bodies: list[Any]) -> list[str]:
    """Send these messages to the two actors of each host, in turns."""
    messages = [
        new_message(body, actor=f"worker/{host}{letter}") for body in bodies for host in HOSTS for letter in "ab"
    ]
    return [one.id for one in await broker.enqueue(messages)]


def lines(ledger: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []


async def until_lines(ledger: Path, count: int) -> None:
    async with asyncio.timeout(60):
        while len(lines(ledger)) < count:  # noqa: ASYNC110  # what is waited for has no event
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


def check_window(times: list[float], per: float) -> None:
    times = sorted(times)
    for first, later in zip(times, times[COUNT:], strict=False):
        assert later - first >= per, f"{COUNT + 1} starts within {later - first} s"


def stored_starts(url: str, name: str) -> list[float]:
    address = parse_address(url)
    with psycopg.connect(address.conninfo) as connection:
        query = address.statement(f"select at from agentq.limit_starts where name = '{name}'")
        return [row[0] for row in connection.execute(query)]


@pytest.mark.parametrize("kill", [False, True], ids=["all live", "one is killed"])
async def test_no_limit_is_exceeded_over_all_hosts(
    postgres_url: str,
    tmp_path: Path,
    kill: bool,
) -> None:
    url, ledger = f"{postgres_url}?schema=races_{os.getpid()}_{'kill' if kill else 'live'}", tmp_path / "ledger.jsonl"
    broker = await PostgresBroker.open(url)
    sent = await send_all(broker, list(range(EACH)))
    hosts = [await begin(url, ledger, host) for host in HOSTS]
    gone: set[int] = set()
    if kill:
        await until_lines(ledger, 20)
        hosts[0].kill()
        await hosts[0].wait()
        gone.add(hosts[0].pid)
        hosts[0] = await begin(url, ledger, HOSTS[0])
    for message in sent:
        assert (await broker.wait(message, 60)).status == "completed"
    await send_all(broker, ["over"])
    for host in hosts:
        assert await asyncio.wait_for(host.wait(), 60) == 0
    await broker.close()
    seen = lines(ledger)
    began = [line for line in seen if line["fact"] == "began"]
    assert {line["id"] for line in began} == set(sent)
    assert len(began) - len(sent) <= 2 * kill, "nothing is handled twice but what was in flight"
    assert most_at_work(seen, gone=gone) <= PLACES
    check_window(stored_starts(url, "api"), PER)
    check_window([line["at"] for line in began], PER - BUSY)
    assert LIMITS[0].name == "api"
    assert all(later["at"] >= earlier["at"] - 1 for earlier, later in itertools.pairwise(seen))
