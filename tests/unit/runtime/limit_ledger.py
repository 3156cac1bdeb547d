"""A program that is killed: actors with limits, whose handlers first write into a ledger outside of the store.

Run as ``python -m tests.unit.runtime.limit_ledger FOLDER MESSAGES``: it opens the store in the folder, sends the messages
with their keys, and works until all are done, or until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from agentq_nb import Actor, ConcurrencyLimit, Queue, RateLimit, RateLimited, create_client, setup
from tests.unit.ledger import Ledger

COUNT, PER = 4, 0.8
PAUSE = 1.5
"""Seconds of the provider's pause."""
_LIMITS = [RateLimit(COUNT, per=PER, name="api"), ConcurrencyLimit(2, name="places")]

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
ledger = Ledger(folder)


class Caller(Actor):
    calls = Queue(int, limits=_LIMITS)

    async def run(self) -> None:
        async for message in self.queue.iter():
            ledger.note("began", id=message.id, attempt=message.attempt, number=message.body)
            if message.body == 5 and not (folder / "limited").exists():
                (folder / "limited").touch()
                ledger.note("limited", id=message.id)
                raise RateLimited("the provider's limit", retry_after=PAUSE, limit="api")
            await asyncio.sleep(0.01)
            ledger.note("ended", id=message.id)


class Other(Caller):
    """Another class that shares the limits."""


async def main(messages: int) -> None:
    async with setup(use={"caller": Caller, "other": Other}, store=folder / "store.duckdb"):
        client = create_client()
        receipts = [
            await client.actor(("caller", "other")[number % 2])
            .get_or_create(str(number % 3))
            .send("calls", number, idempotency_key=str(number))
            for number in range(messages)
        ]
        for receipt in receipts:
            await receipt.result()
    ledger.note("finished")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[2])))
