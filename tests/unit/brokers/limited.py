"""Brokers whose queues have limits: they are declared again after each restart, as classes are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import RateLimit
from agentq_nb._brokers.base import Lease
from agentq_nb._brokers.messages import Commit, Delivery, LimitReached, Settlement
from agentq_nb._brokers.statuses import LimitStatus, QueueStatus
from tests.unit.brokers.conformance.words import ACTOR, new_message
from tests.unit.brokers.postgres_setting import PostgresSetting
from tests.unit.brokers.settings import LocalSetting

THREE_A_MINUTE = RateLimit(3, per=60, name="api")

LOCAL = pytest.mark.parametrize("limited", ["local"], indirect=True)
"""For tests that look into the file."""


class LimitedSetting:
    """A broker under test, with what it declared."""

    def __init__(self, setting: Any) -> None:
        self.setting = setting
        self.declared: dict[str, dict[str, list[Any]]] = {}

    @property
    def broker(self) -> Any:
        return self.setting.broker

    @property
    def clock(self) -> Any:
        return self.setting.clock

    async def declare(self, *limits: Any, name: str = "worker", queue: str = "tasks") -> None:
        self.declared.setdefault(name, {})[queue] = list(limits)
        await self.broker.limits.declare(name, self.declared[name])

    async def restart(self, how: str) -> None:
        await (self.setting.reopen() if how == "reopened" else self.setting.crash())
        for name, limits in self.declared.items():
            await self.broker.limits.declare(name, limits)

    def set_clock(self, seconds: int) -> None:
        """Set the clock of the machine that the host runs on."""
        getattr(self.clock, "jump_alone", self.clock.jump)(seconds)

    async def renew(self) -> None:
        """Let a write fail: leases are lost, and what was in flight goes back."""
        await self.setting.renew()

    async def limit(self, name: str = "api") -> LimitStatus:
        (found,) = [status for status in await self.broker.limits.look() if status.name == name]
        return found

    async def until_used(self, name: str, used: int) -> None:
        """Return once so much of a limit is used: places may be given back in the background."""
        async with asyncio.timeout(10):
            while (await self.limit(name)).used != used:  # noqa: ASYNC110  # what is waited for has no event
                await asyncio.sleep(0.005)

    async def queue(self, actor: str = ACTOR) -> QueueStatus:
        (found,) = await self.broker.status(actor)
        return found


@pytest.fixture(params=["local", "postgres"])
async def limited(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LimitedSetting]:
    """Each broker. The test's module has the fixture ``postgres_url``."""
    if request.param == "local":
        setting: Any = await LocalSetting.open(tmp_path)
    else:
        setting = await PostgresSetting.open(request.getfixturevalue("postgres_url"))
    yield LimitedSetting(setting)
    await setting.close()


async def send_numbers(limited: LimitedSetting, count: int, actor: str = ACTOR, first: int = 0) -> None:
    await limited.broker.enqueue([new_message(number, actor=actor) for number in range(first, first + count)])


async def meets_limit(
    lease: Lease, delivery: Delivery, *, until: float | None = None, limit: str | None = None, **facts: Any
) -> None:
    """Settle as a handler that raised RateLimited."""
    otherwise = Settlement(delivery, "again", error={"message": "429"}, front=True)
    reached = LimitReached(limit, until, "429", facts.get("max_pause"), otherwise)
    await lease.commit(Commit([Settlement(delivery, "limited", limited=reached)]))
