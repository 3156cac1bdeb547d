"""What looking for secrets costs a command that writes much."""

from __future__ import annotations

import asyncio
import base64
import random
import time
from pathlib import Path

from agentq_nb import agent_os, create_client, setup
from agentq_nb._core.redaction import Redactor, StreamRedactor
from tests.benchmarks.figures import Samples, Table

_LINES = 50
_BYTES = 20_000_000
_WRITE = f"yes '2026-11-29 12:00:01 INFO worker.main compiled /usr/lib/foo.c in 12.5 ms' | head -c {_BYTES}"


def _key() -> str:
    """As long as a private key, and as random."""
    source = random.Random(1)
    lines = [base64.b64encode(source.randbytes(48)).decode() for _ in range(_LINES - 2)]
    return "\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----"])


async def _exec_seconds(folder: Path, environment: dict[str, str]) -> float:
    """CPU seconds of this process while a command writes 20 MB."""
    registry = setup(use={"vm": agent_os(isolation="off")}, store=folder / "redacting.agentq.duckdb")
    await registry.start()
    try:
        machine = create_client().vm.get_or_create("x")
        await machine.exec("true")
        begun = time.process_time()
        await machine.exec(_WRITE, env=environment)
        return time.process_time() - begun
    finally:
        await registry.stop()


def _filter_seconds(environment: dict[str, str]) -> float:
    """Seconds for the same text, without a process."""
    redactor = Redactor()
    redactor.add(environment)
    stream, piece = StreamRedactor(redactor), "2026-11-29 12:00:01 INFO worker.main compiled foo.c in 12.5 ms\n" * 1000
    begun = time.process_time()
    for _ in range(_BYTES // len(piece)):
        stream.feed(piece)
    return time.process_time() - begun


def figures(table: Table, folder: Path) -> None:
    """With a key of 50 lines and without, by turns."""
    samples = Samples()
    for number in range(table.rounds):
        for name, environment in (("none", {}), ("key", {"PRIVATE_KEY": _key()})):
            place = folder / f"{name}-{number}"
            place.mkdir()
            samples.add(name, asyncio.run(_exec_seconds(place, environment)))
            samples.add(f"filter {name}", _filter_seconds(environment))
    plain, keyed = samples.median("none"), samples.median("key")
    table.add("exec that writes 20 MB, no secret: CPU", plain, "s")
    row = table.add(f"exec that writes 20 MB, a key of {_LINES} lines: CPU", keyed, "s")
    table.aim(row, keyed / plain, "x no secret", at_most=3)
    table.add("the filter alone, 20 MB, no secret", samples.median("filter none"), "s")
    table.add(f"the filter alone, 20 MB, a key of {_LINES} lines", samples.median("filter key"), "s")
