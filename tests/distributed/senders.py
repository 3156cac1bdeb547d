"""The process that sends: ``python -m tests.distributed.senders PIPE ADDRESS ACTORS MESSAGES PACE CHANCE``.

Each actor gets its numbers in order. What may not have arrived is sent again, with the same id. Some of the results are
waited for.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path

from agentq_nb._brokers.messages import NewMessage
from agentq_nb._brokers.postgres.broker import PostgresBroker
from agentq_nb._core.ids import mint_id
from agentq_nb.errors import Unavailable
from tests.faults.facts import Pen

LIFE = 0
"""Of the facts of this process; those of hosts count from 1."""
_AGAIN = 0.1


class Senders:
    """One sender for each actor."""

    def __init__(self, pen: Pen, broker: PostgresBroker, messages: int, pace: float, chance: int) -> None:
        self._pen = pen
        self._broker = broker
        self._messages = messages
        self._pace = pace
        self._chance = chance

    async def send_all(self, actor: str) -> None:
        """Send the numbers from 0 to an actor."""
        chance = random.Random(f"{self._chance} {actor}")
        async with asyncio.TaskGroup() as waits:
            for number in range(self._messages):
                message = NewMessage(mint_id(), actor, "jobs", json.dumps({"number": number}).encode())
                await self._send(message, number)
                if chance.random() < 0.1:
                    waits.create_task(self._wait(message, number))
                await asyncio.sleep(chance.uniform(0.0, 2 * self._pace))

    async def _send(self, message: NewMessage, number: int) -> None:
        while True:
            try:
                await self._broker.enqueue([message])
            except Unavailable as error:
                self._pen.note("refused", id=message.id, reason=error.message[:500])
                await asyncio.sleep(_AGAIN)
            else:
                self._pen.note("sent", id=message.id, actor=message.actor, number=number)
                return

    async def _wait(self, message: NewMessage, number: int) -> None:
        while True:
            try:
                result = await self._broker.wait(message.id, None)
            except Unavailable:
                await asyncio.sleep(_AGAIN)
            else:
                reply = None if result.reply is None else json.loads(result.reply)
                self._pen.note("result", actor=message.actor, number=number, status=result.status, reply=reply)
                return


async def main(pipe: str, address: str, actors: str, messages: str, pace: str, chance: str) -> None:
    pen = Pen(Path(pipe), LIFE)
    broker = await PostgresBroker.open(address)
    senders = Senders(pen, broker, int(messages), float(pace), int(chance))
    async with asyncio.TaskGroup() as group:
        for number in range(int(actors)):
            group.create_task(senders.send_all(f"worker/{number}"))
    pen.note("all results")
    await broker.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
