"""A program that hosts a VM: ``python -m tests.unit.host.pinned_host ADDRESS WORD…`` in its own folder.

Each word is sent as a job, and its reply is printed. Then it runs until its standard input ends.
"""

from __future__ import annotations

import asyncio
import os
import sys

from agentq_nb import Message, Queue, agent_os, create_client, setup


class Box(agent_os(isolation="off")):  # type: ignore[misc]  # a class that a function returns
    """Its workspace has a line for each job that it did."""

    jobs = Queue(str, reply=list[str])

    @jobs.handler
    async def work(self, word: str, message: Message[str, list[str]]) -> list[str]:
        if word == "wait" and "WAITS" in os.environ:
            print("waiting", flush=True)
            await asyncio.sleep(3600)
        lines = (await self.read_file("done.txt")).decode().split() if await self.exists("done.txt") else []
        await self.write_file("done.txt", "\n".join([*lines, word]))
        return [*lines, word]


async def main(store: str, words: list[str]) -> None:
    async with setup(use={"box": Box}, store=store):
        box = create_client().box.get_or_create("main")
        for word in words:
            print((await box.send("jobs", word, wait=True, timeout=60)).unwrap(), flush=True)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
