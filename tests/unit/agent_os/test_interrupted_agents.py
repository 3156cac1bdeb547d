"""A real SIGINT while an agent's function computes: the message comes again, and no attempt is counted."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, sys
from agentq_nb import Actor, Queue, Retry, agent_os, agents, create_client, setup

attempts, prompts = [], []

async def thinker(session, prompt):
    prompts.append(prompt)
    if len(prompts) == 1:
        print("computes", flush=True)
        while True:
            pass
    return "thought"

class Asker(Actor):
    tasks = Queue(str, reply=str, retry=Retry(attempts=1))

    async def run(self):
        machine = create_client().vm.get_or_create("main")
        session = (await machine.create_session("thinker")).session_id
        async for message in self.queue.iter(completable=True):
            attempts.append(message.attempt)
            await message.complete((await machine.send_prompt(session, message.body)).text)

async def main():
    vm = agent_os(agents=[agents.function(thinker)], isolation="off")
    async with setup(use={"asker": Asker, "vm": vm}, store=sys.argv[1]):
        result = await create_client().asker.get_or_create("main").send("tasks", "go", wait=True, timeout=60)
        print(result.status, attempts)

asyncio.new_event_loop().run_until_complete(main())  # asyncio.run would cancel main() at the first interrupt
"""


def test_a_message_whose_agent_was_interrupted_comes_again_and_counts_no_attempt(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "store.duckdb")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "computes\n"
            program.send_signal(signal.SIGINT)
            assert program.stdout.readline() == "completed [1, 1]\n"
            assert program.wait(60) == 0
        finally:
            program.kill()
