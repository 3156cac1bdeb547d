"""A program that is killed: messages that wait for others, whose handlers first write into a ledger outside of the store.

Run as ``python -m tests.unit.runtime.chain_ledger FOLDER``: it opens the store in the folder, sends what was not sent
yet, and works until all is settled, or until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from agentq_nb import Actor, Message, Queue, Retry, create_client, setup

MESSAGES = 60
FAILS = 25

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()


def after(number: int) -> list[int]:
    """What a message waits for: chains of ten, a fan behind 39, and what joins it."""
    if number == MESSAGES - 1:
        return list(range(40, MESSAGES - 1))
    if number >= 40:
        return [39]
    if number % 10 == 0:
        return []
    return [number - 1] if number % 10 < 6 else [number - 1, number - 4]


def ledger_of(place: Path) -> list[dict[str, Any]]:
    """The whole lines: the last one may be cut."""
    path = place / "ledger.jsonl"
    whole = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in whole]


def note(**facts: Any) -> None:
    ledger = os.open(folder / "ledger.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(ledger, json.dumps(facts).encode() + b"\n")
    os.close(ledger)


class Worker(Actor):
    jobs = Queue(int, reply=int, concurrency=3, retry=Retry(attempts=1))

    @jobs.handler
    async def work(self, number: int, message: Message[int, int]) -> int:
        replies = [one.response for one in message.after]
        note(fact="began", number=number, attempt=message.attempt, right=replies == after(number))
        await asyncio.sleep(0.01)
        if number == FAILS:
            raise ValueError("it fails")
        return number


async def main() -> None:
    async with setup(use={"worker": Worker}, store=folder / "store.duckdb"):
        workers = [create_client().worker.get_or_create(name) for name in ("a", "b")]
        sent = {fact["number"]: fact["id"] for fact in ledger_of(folder) if fact["fact"] == "sent"}
        for worker in workers if len(sent) < MESSAGES else ():
            await worker.pause("jobs")
        for number in range(MESSAGES):
            if number not in sent:
                before = [sent[one] for one in after(number)]
                worker = workers[number % 2]
                receipt = await worker.send("jobs", number, after=before, idempotency_key=str(number))
                sent[number] = receipt.id
                note(fact="sent", number=number, id=receipt.id)
        for worker in workers:
            await worker.resume("jobs")
        for number, message in sent.items():
            result = await create_client().receipt(message).result()
            note(fact="settled", number=number, status=result.status, error=(result.error or {}).get("code"))
    note(fact="finished")


if __name__ == "__main__":
    asyncio.run(main())
