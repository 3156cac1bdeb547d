"""A process that is killed while a provider's limit pauses its queue: what its ledger, outside of the store, says after that."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.ledger import lines_until_killed

PROGRAM = """
import asyncio, os, signal, sys
from pathlib import Path

from agentq_nb import Actor, Queue, RateLimited, action, create_client, setup
from agentq_nb._core.clock import SystemClock

store, ledger, later, does = sys.argv[1:]
moment = 1_790_000_000 + float(later)
SystemClock.time = staticmethod(lambda: moment)  # fixed, so that no pause ends on a slow machine

def note(word):
    with open(ledger, "a") as file:
        file.write(word + "\\n")

class Caller(Actor):
    tasks = Queue(int)

    @tasks.handler
    async def call(self, number: int, message):
        note(f"tried {number}, attempt {message.attempt}")
        if does == "say no":
            raise RateLimited("busy")

    @action
    async def report(self):
        note("called")
        if does == "say no":
            raise RateLimited("5-hour limit", retry_after=600)

    @action
    async def plan(self):
        await self.schedule.after(0, self.report)

async def until(condition):
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.01)

async def main():
    queue = "$schedule" if "scheduled" in store else "tasks"
    async with setup(use={"caller": Caller}, store=store):
        caller = create_client().caller.get_or_create("x")

        async def standing():
            return next((one for one in (await caller.status()).queues if one.queue == queue), None)

        async def refused():
            return Path(ledger).exists() and (one := await standing()) is not None and one.paused

        async def done():
            return (one := await standing()) is None or not one.live

        if not Path(ledger + ".begun").exists():
            Path(ledger + ".begun").touch()
            if queue == "tasks":
                for number in range(3):
                    await caller.send("tasks", number)
            else:
                await caller.plan()
        if does == "look on":
            await asyncio.sleep(0.5)
        else:
            await until(refused if does == "say no" else done)
            await asyncio.sleep(0.2)
        one = await standing()
        if one is not None and one.paused:
            note(f"paused for {one.paused_until - SystemClock.time():.0f} s: {one.pause_reason}")
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def live(folder: Path, name: str, does: str, ahead: float) -> list[str]:
    return lines_until_killed(PROGRAM, folder, name, str(ahead), does)


@pytest.mark.file_only
def test_a_pause_of_unknown_end_lasts_across_kills_and_one_message_is_tried_after_it(tmp_path: Path) -> None:
    said = live(tmp_path, "queue", "say no", 0)
    assert said[:-1] == ["tried 0, attempt 1"]
    assert said[-1] == "paused for 5 s: RateLimited: busy"
    assert live(tmp_path, "queue", "look on", 1) == ["paused for 4 s: RateLimited: busy"]
    said = live(tmp_path, "queue", "say no", 60)
    assert said == ["tried 0, attempt 1", "paused for 10 s: RateLimited: busy"]
    said = live(tmp_path, "queue", "say yes", 120)
    assert said == ["tried 0, attempt 1", "tried 1, attempt 1", "tried 2, attempt 1"]
    assert live(tmp_path, "queue", "look on", 200) == []


@pytest.mark.file_only
def test_a_scheduled_call_that_met_a_limit_is_called_once_when_that_ends_across_kills(tmp_path: Path) -> None:
    assert live(tmp_path, "scheduled", "say no", 0) == ["called", "paused for 600 s: RateLimited: 5-hour limit"]
    assert live(tmp_path, "scheduled", "look on", 60) == ["paused for 540 s: RateLimited: 5-hour limit"]
    assert live(tmp_path, "scheduled", "say yes", 700) == ["called"]
    assert live(tmp_path, "scheduled", "look on", 800) == []
