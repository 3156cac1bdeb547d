"""The actor under load, and the host process that runs it: ``python -m tests.distributed.worker PIPE LIFE ADDRESS``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from agentq_nb import Actor, ConcurrencyLimit, Message, Queue, RateLimit, Retry, setup
from tests.faults.facts import Pen

LIMITED = True
"""Whether the queue has limits."""

AT_ONCE = 12
"""Messages of all actors that all hosts together may handle at once."""
STARTS, PERIOD = 150, 1.0
"""Messages of all actors that all hosts together may start within so many seconds."""
LIMITS: Sequence[ConcurrencyLimit | RateLimit] = (
    [ConcurrencyLimit(AT_ONCE, name="places"), RateLimit(STARTS, per=PERIOD, name="starts")] if LIMITED else []
)

# Nothing becomes a dead letter by the bad luck of being in flight when a host is killed.
PATIENT = Retry(attempts=3, crashes=1000, backoff=0.01)


class Job(BaseModel):
    number: int


class Work(BaseModel):
    """The state: the numbers that were done, each by the commit that settled its message."""

    done: list[int] = []


def answer_to(actor: str, number: int) -> str:
    """Return the reply to a message."""
    return f"{actor} did {number}"


class Scene:
    """What the actors of this process write to."""

    pen: Pen


class Worker(Actor, sleep_timeout=5.0):
    """Does one job after the other; the ledger has the beginning and the end of each."""

    state: Work
    jobs = Queue(Job, reply=str, retry=PATIENT, limits=LIMITS)

    @jobs.handler
    async def work(self, job: Job, message: Message[Job, str]) -> str:
        Scene.pen.note("began", actor=self.actor_id, id=message.id, number=job.number, attempt=message.attempt)
        try:
            await asyncio.sleep(0.004 * (job.number % 6))
            self.state.done.append(job.number)
            return answer_to(self.actor_id, job.number)
        finally:
            Scene.pen.note("left", actor=self.actor_id, id=message.id)


async def run(address: str) -> None:
    """Run a host until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    registry = setup(use={"worker": Worker}, store=address)
    await registry.start()
    Scene.pen.note("started", pid=os.getpid())
    await stopping.wait()
    await registry.stop()
    Scene.pen.note("stopped")


if __name__ == "__main__":
    Scene.pen = Pen(Path(sys.argv[1]), int(sys.argv[2]))
    asyncio.run(run(sys.argv[3]))
