"""A program that is killed: messages that wait for others, whose handlers first write into a ledger outside of the store.

Run as ``python -m tests.unit.runtime.chain_ledger FOLDER``: it opens the store in the folder, sends what was not sent
yet, and works until all is settled, or until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from agentq_nb import Actor, Message, Queue, Retry, create_client, setup
from tests.unit.ledger import Ledger

MESSAGES = 60
FAILS = 25

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
ledger = Ledger(folder)


def after(number: int) -> list[int]:
    """What a message waits for: chains of ten, a fan behind 39, and what joins it."""
    if number == MESSAGES - 1:
        return list(range(40, MESSAGES - 1))
    if number >= 40:
        return [39]
    if number % 10 == 0:
        return []
    return [number - 1] if number % 10 < 6 else [number - 1, number - 4]


class Worker(Actor):
    jobs = Queue(int, reply=int, concurrency=3, retry=Retry(attempts=1, crashes=100))

    @jobs.handler
    async def work(self, number: int, message: Message[int, int]) -> int:
        replies = [one.response for one in message.after]
        ledger.note("began", number=number, attempt=message.attempt, right=replies == after(number))
        await asyncio.sleep(0.01)
        if number == FAILS:
            raise ValueError("it fails")
        return number


async def main() -> None:
    async with setup(use={"worker": Worker}, store=folder / "store.duckdb"):
        workers = [create_client().worker.get_or_create(name) for name in ("a", "b")]
        sent = {fact["number"]: fact["id"] for fact in ledger.facts("sent")}
        for worker in workers if len(sent) < MESSAGES else ():
            await worker.pause("jobs")
        for number in range(MESSAGES):
            if number not in sent:
                before = [sent[one] for one in after(number)]
                worker = workers[number % 2]
                receipt = await worker.send("jobs", number, after=before, idempotency_key=str(number))
                sent[number] = receipt.id
                ledger.note("sent", number=number, id=receipt.id)
        for worker in workers:
            await worker.resume("jobs")
        for number, message in sent.items():
            result = await create_client().receipt(message).result()
            ledger.note("settled", number=number, status=result.status, error=(result.error or {}).get("code"))
    ledger.note("finished")


if __name__ == "__main__":
    asyncio.run(main())
