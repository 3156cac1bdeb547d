"""64 connections send to a host in another process, which is killed in the middle: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import setup
from tests.unit.gateway.host_program import Reviewer
from tests.unit.gateway.other_process import CHECKOUT, OtherProcess

pytestmark = pytest.mark.anyio

SECONDS = float(os.environ.get("AGENTQ_LOAD_SECONDS", "5"))


@asynccontextmanager
async def senders(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The program ``load_senders``, once all its connections have been answered."""
    command = [sys.executable, "-m", "tests.unit.gateway.load_senders", url]
    pipe = subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=CHECKOUT, stdin=pipe, stdout=pipe, limit=2**26)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"sending\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ledger_of(process: asyncio.subprocess.Process) -> dict[str, list[int]]:
    """End the senders, and return what they were answered."""
    async with asyncio.timeout(60):
        printed, _ = await process.communicate(b"")
    return dict(json.loads(printed))


async def stored(store: Path) -> tuple[Counter[int], dict[int, str], int]:
    """Return how often each number was stored, the status of its message, and how many came after the last start."""
    async with setup(use={"reviewer": Reviewer}, store=store) as registry:
        live = "select 1 from messages where status in ('queued', 'processing') limit 1"
        async with asyncio.timeout(60):
            while list(await registry.sql(live)):  # noqa: ASYNC110  # no event tells of the last one
                await asyncio.sleep(0.1)
        rows: list[Any] = list(await registry.sql("select data->>'$.body' from events where kind = 'message.queued'"))
        times = Counter(int(number) for (number,) in rows)
        rows = list(await registry.sql("select body::varchar, status from messages"))
        statuses = {int(number): status for number, status in rows}
        ((after,),) = await registry.sql(
            "select count(*) from events where kind = 'message.queued' and seq > "
            "(select list(seq order by seq)[2] from events where kind = 'host.started')"
        )
    return times, statuses, after


async def test_a_kill_under_load_loses_nothing_acknowledged_and_stores_nothing_twice(tmp_path: Path) -> None:
    other = OtherProcess(tmp_path, "http")
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, other.start)
    try:
        async with senders(other.url) as process:
            await asyncio.sleep(SECONDS / 2)
            other.kill()
            await loop.run_in_executor(None, other.start)
            await asyncio.sleep(SECONDS / 2)
            ledger = await ledger_of(process)
    finally:
        await loop.run_in_executor(None, other.stop)
    times, statuses, after_the_kill = await stored(other.store)
    acknowledged, unanswered = set(ledger["acknowledged"]), set(ledger["unanswered"])
    assert acknowledged - times.keys() == set()
    assert [number for number, count in times.items() if count > 1] == []
    assert times.keys() - acknowledged - unanswered == set()
    assert {status for number, status in statuses.items() if number in acknowledged} == {"completed"}
    assert unanswered, "the kill met no send under way"
    assert after_the_kill > 64, "hardly anything was sent after the restart"
    print(f"{len(acknowledged):,} acknowledged, {len(unanswered)} unanswered, {after_the_kill:,} after the kill")
