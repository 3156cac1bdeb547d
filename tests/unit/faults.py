"""The way between a host and a broker elsewhere: prompt, late, or broken at random (seeded, so that it can be repeated)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TypeVar

from agentq_nb.errors import Unavailable
from tests.unit.fake_clock import FakeClock

T = TypeVar("T")


class Network:
    """Nothing goes wrong and nothing takes time."""

    async def call(self, apply: Callable[[], T]) -> T:
        """Let the server do it, once or not at all. Raises Unavailable when nobody can tell which."""
        return apply()

    def loses_lease(self) -> bool:
        """Whether the broker gives up on a lease just now."""
        return False


class LateNetwork(Network):
    """Each call and each answer takes some turns of the loop; with a ``clock``, some take seconds of it too."""

    def __init__(self, seed: int, clock: FakeClock | None = None) -> None:
        self.random = random.Random(seed)
        self._clock = clock

    async def call(self, apply: Callable[[], T]) -> T:
        await self._travel()
        result = apply()
        await self._travel()
        return result

    async def _travel(self) -> None:
        for _ in range(self.random.choice((0, 0, 1, 2, 7))):
            await asyncio.sleep(0)
        if self._clock is not None and self.random.random() < 0.1:
            await self._clock.sleep(self.random.uniform(0.001, 0.5))


class FaultyNetwork(LateNetwork):
    """Late, and: calls get lost, answers get lost, leases get lost. ``rate`` is the chance of each."""

    def __init__(self, seed: int, clock: FakeClock, rate: float) -> None:
        super().__init__(seed, clock)
        self.rate = rate
        self.calls_lost = 0
        self.answers_lost = 0
        self.leases_lost = 0

    async def call(self, apply: Callable[[], T]) -> T:
        await self._travel()
        if self.random.random() < self.rate:
            self.calls_lost += 1
            raise Unavailable("The call got lost.")
        result = apply()
        await self._travel()
        if self.random.random() < self.rate:
            self.answers_lost += 1
            raise Unavailable("The answer got lost.")
        return result

    def loses_lease(self) -> bool:
        lost = self.random.random() < self.rate
        self.leases_lost += lost
        return lost
