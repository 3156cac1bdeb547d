"""``python -m tests.benchmarks.gateway_host STORE``: a host that serves HTTP, for clients in other processes.

It prints its url and token as JSON; when its input ends, it prints how late a timer of 10 ms was, and stops.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from agentq_nb import Actor, Queue, setup
from tests.benchmarks.figures import percentile

TOKEN = "only-for-measurements"
TICK = 0.010


class Runner(Actor, sleep_timeout=None):
    kept = Queue(Any, max_size=1_000_000, max_bytes=None)
    """Nothing receives from it, as in the measurement of sends within the process."""

    tasks = Queue(Any)
    asked = Queue(Any, reply=Any)

    @tasks.handler
    async def work(self, body: Any) -> None: ...

    @asked.handler
    async def answer(self, body: Any) -> Any:
        return {"ok": True}


async def lateness(stopped: asyncio.Event) -> list[float]:
    """Seconds by which each turn of a timer came too late."""
    late: list[float] = []
    while not stopped.is_set():
        due = time.perf_counter() + TICK
        await asyncio.sleep(TICK)
        late.append(time.perf_counter() - due)
    return late


async def main(store: Path) -> None:
    async with setup(use={"runner": Runner}, store=store) as registry:
        server = await registry.serve(port=0, token=TOKEN)
        print(json.dumps({"url": server.url, "token": server.token}), flush=True)
        stopped = asyncio.Event()
        timer = asyncio.create_task(lateness(stopped))
        await asyncio.to_thread(sys.stdin.read)
        stopped.set()
        print(json.dumps({"late_p99": percentile(await timer, 99)}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
