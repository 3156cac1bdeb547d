"""A program that is killed: VMs whose prompts have limits, and an agent that first writes into a ledger outside the store.

Run as ``python -m tests.unit.agent_os.prompt_ledger FOLDER MESSAGES``. Half of the work are prompts that handlers send,
the other half are messages of a queue that shares the limit.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from agentq_nb import Actor, Queue, RateLimit, agents, create_client, setup
from agentq_nb.agent_os import agent_os
from agentq_nb.agent_os.agents import AgentSession
from tests.unit.ledger import Ledger

COUNT, PER = 4, 0.8
_LIMIT = RateLimit(COUNT, per=PER, name="api")

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
ledger = Ledger(folder)


async def model(session: AgentSession, prompt: str) -> str:
    ledger.note("began", number=prompt)
    return prompt


class Asker(Actor):
    """Sends prompts; its own messages have no limit."""

    tasks = Queue(str, concurrency=3)

    @tasks.handler
    async def work(self, body: str) -> None:
        vm = self.actors.vm.get_or_create(str(int(body) % 3))
        session = await vm.create_session("model")
        await vm.send_prompt(session.session_id, body)
        ledger.note("ended", number=body)


class Caller(Actor):
    """Calls the same model without a VM."""

    tasks = Queue(str, limits=[_LIMIT])

    @tasks.handler
    async def work(self, body: str) -> None:
        ledger.note("began", number=body)
        ledger.note("ended", number=body)


async def main(messages: int) -> None:
    vm = agent_os(agents=[agents.function(model)], limits=[_LIMIT], isolation="off")
    async with setup(use={"asker": Asker, "caller": Caller, "vm": vm}, store=folder / "store.duckdb"):
        client = create_client()
        receipts = [
            await client.actor(("asker", "caller")[number % 2])
            .get_or_create("x")
            .send("tasks", str(number), idempotency_key=str(number))
            for number in range(messages)
        ]
        for receipt in receipts:
            await receipt.result()
    ledger.note("finished")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[2])))
