"""Actors with cron schedules, and how long the fake clock has to go until they are due."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from agentq_nb import Actor, AgentqError, Queue, Retry, action, cron

HOUR = 3600.0

# The fake clock begins on Tuesday, 2023-11-14 at 22:13:20 UTC.
TO_NEXT_HOUR = 46 * 60 + 40
TO_NINE = TO_NEXT_HOUR + 10 * HOUR


class Total(BaseModel):
    runs: int = 0


def reporting(log: list[Any], **options: Any) -> Any:
    """An actor whose schedules are made by calls."""

    class Reporting(Actor, **options):
        tasks = Queue(str, retry=Retry(attempts=1))
        state: Total

        async def run(self) -> None:
            async for message in self.queue.iter():
                await self.schedule.cron("of a message", "0 * * * *", self.report, message.body, tz="UTC")
                if message.body == "bad":
                    raise ValueError

        @action
        async def report(self, text: str = "", number: int = 0) -> None:
            log.append(text)
            self.state.runs += 1

        @action
        async def runs(self) -> int:
            return self.state.runs

        @action
        async def plan(self, name: str, expression: str, *args: Any, action: str = "report", tz: Any = "UTC") -> None:
            await self.schedule.cron(name, expression, action, *args, tz=tz)

        @action
        async def plan_twice(self) -> list[Any]:
            await self.schedule.cron("x", "0 * * * *", self.report, "first", tz="UTC")
            await self.schedule.cron("x", "0 9 * * *", self.report, "second", tz="UTC")
            return list(await self.schedule.list())

        @action
        async def plan_and_fail(self) -> None:
            await self.schedule.cron("x", "0 * * * *", self.report, tz="UTC")
            raise ValueError

        @action
        async def later(self, seconds: float, text: str = "single") -> str:
            return await self.schedule.after(seconds, "report", text)

        @action
        async def planned(self) -> list[Any]:
            return list(await self.schedule.list())

        @action
        async def drop(self, name: str) -> bool:
            return await self.schedule.cancel(name)

    return Reporting


def declaring(log: list[Any], expression: str | None = "0 * * * *", **options: Any) -> Any:
    """An actor whose schedule is declared, or was."""

    class Declaring(Actor, **options):
        if expression is not None:

            @cron(expression, tz="UTC")
            @action
            async def report(self) -> None:
                log.append("declared")

        else:

            @action
            async def report(self) -> None:
                log.append("by hand")

        @action
        async def planned(self) -> list[Any]:
            return list(await self.schedule.list())

        @action
        async def plan(self, name: str) -> None:
            await self.schedule.cron(name, "0 9 * * *", "report", tz="UTC")

        @action
        async def drop(self, name: str) -> bool:
            return await self.schedule.cancel(name)

    return Declaring


async def refused(call: Any, code: str = "actor.validation_error") -> str:
    with pytest.raises(AgentqError) as error:
        await call
    assert error.value.full_code == code
    return str(error.value)
