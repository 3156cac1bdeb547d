"""A process that is killed with a cron schedule: what its ledger, outside of the store, says after the next ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.ledger import lines_until_killed

PROGRAM = """
import asyncio, os, signal, sys, time
from pathlib import Path

from agentq_nb import Actor, action, create_client, cron, setup
from agentq_nb._core.clock import SystemClock

store, ledger, later, does = sys.argv[1:]
ahead = float(later)
SystemClock.time = staticmethod(lambda: time.time() + ahead)

def note(word):
    with open(ledger, "a") as file:
        file.write(word + "\\n")

class Reporter(Actor):
    @cron("0 * * * *", tz="UTC")
    @action
    async def hourly(self):
        note("declared")
        if does == "die in a call":
            os.kill(os.getpid(), signal.SIGKILL)

    @action
    async def planned(self, text):
        note(text)

    @action
    async def plan(self):
        await self.schedule.cron("by name", "*/30 * * * *", self.planned, "planned", tz="Europe/Berlin")

    @action
    async def listed(self):
        return sorted((each.name, each.due) for each in await self.schedule.list())

async def main():
    async with setup(use={"reporter": Reporter}, store=store):
        reporter = create_client().reporter.get_or_create("x")
        if does == "plan":
            await reporter.plan()
            os.kill(os.getpid(), signal.SIGKILL)
        while any(due <= SystemClock.time() for _, due in await reporter.listed()):
            await asyncio.sleep(0.01)
        for name, due in await reporter.listed():
            note(f"next {name} {due > SystemClock.time()}")
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""

HOUR = 3600.0

pytestmark = pytest.mark.file_only  # only the program's clock is ahead: what is due on a server goes by the server's


def live(folder: Path, does: str, ahead: float) -> list[str]:
    return sorted(lines_until_killed(PROGRAM, folder, "a", str(ahead), does))


def test_schedules_survive_kills_and_what_was_missed_is_called_once(tmp_path: Path) -> None:
    waiting = ["next by name True", "next hourly True"]
    assert live(tmp_path, "plan", 0) == []
    assert live(tmp_path, "go on", 5 * HOUR) == ["declared", *waiting, "planned"]
    assert live(tmp_path, "go on", 5 * HOUR + 10) in (waiting, ["declared", *waiting, "planned"])  # at a full hour
    assert live(tmp_path, "go on", 50 * HOUR) == ["declared", *waiting, "planned"]


def test_a_call_that_a_kill_cuts_off_is_repeated_and_its_schedule_goes_on(tmp_path: Path) -> None:
    waiting = ["next by name True", "next hourly True"]
    assert live(tmp_path, "plan", 0) == []
    assert "declared" in live(tmp_path, "die in a call", 5 * HOUR)
    said = live(tmp_path, "go on", 7 * HOUR)
    assert said.count("declared") == 1
    assert set(waiting) <= set(said)
    assert live(tmp_path, "go on", 20 * HOUR) == ["declared", *waiting, "planned"]
