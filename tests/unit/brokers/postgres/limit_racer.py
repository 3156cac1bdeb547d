"""A process that works under limits beside others, and writes into a ledger outside of the database when it is at work.

Run as ``python -m tests.unit.brokers.postgres.limit_racer URL FOLDER NUMBER``: it receives the messages of two actors until a message
says that it is over, or it is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from agentq_nb import ConcurrencyLimit, RateLimit
from agentq_nb._brokers.messages import Commit, Settlement, Take
from agentq_nb._brokers.postgres.broker import PostgresBroker
from tests.unit.ledger import Ledger

COUNT, PER, PLACES = 5, 0.4, 2
LIMITS = [RateLimit(COUNT, per=PER, name="api"), ConcurrencyLimit(PLACES, name="places")]


async def receive(broker: PostgresBroker, actor: str, ledger: Ledger) -> None:
    while (lease := await broker.acquire(actor, str(os.getpid()))) is None:  # noqa: ASYNC110  # what is waited for has no event
        await asyncio.sleep(0.2)
    commit: Commit | None = None
    while True:
        (delivery,) = await lease.turn(commit, Take(None))
        body = json.loads(delivery.body)
        if body == "over":
            await lease.commit(Commit([Settlement(delivery, "completed")]))
            return
        ledger.note("began", id=delivery.id, pid=os.getpid(), attempt=delivery.attempt)
        await asyncio.sleep(0.01)
        ledger.note("ended", id=delivery.id, pid=os.getpid())
        commit = Commit([Settlement(delivery, "completed")])


async def main(url: str, folder: str, number: str) -> None:
    ledger = Ledger(Path(folder))
    broker = await PostgresBroker.open(url)
    await broker.limits.declare("worker", {"tasks": LIMITS})
    await asyncio.gather(*(receive(broker, f"worker/{number}{letter}", ledger) for letter in "ab"))
    await broker.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
