"""What happens in one run: drawn from its seed before anything begins."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

KINDS = ("kill", "stop", "server", "failover", "cut")
"""The faults, one kind for each seed in turn."""

HOSTS = 3

Cut = Literal["closed", "silent"]
"""How a network is cut: all connections are closed and new ones refused, or nothing gets through any more."""


@dataclass(frozen=True)
class Size:
    """How much is sent.

    :ivar messages: to each actor.
    :ivar pace: seconds between two messages to the same actor, on average.
    :ivar strikes: the number of faults at most.
    """

    actors: int
    messages: int
    pace: float
    strikes: int


LARGE = Size(actors=30, messages=100, pace=0.15, strikes=3)
SMALL = Size(actors=9, messages=30, pace=0.1, strikes=1)


@dataclass(frozen=True)
class Strike:
    """One fault.

    :ivar at: the share of messages that are acknowledged when it comes.
    :ivar victim: the number of the host that it hits, where it hits one.
    :ivar length: seconds until the fault is lifted: the host or the server is started again, the network is mended.
    :ivar cut: how the network is cut.
    """

    at: float
    victim: int
    length: float
    cut: Cut


@dataclass(frozen=True)
class Plan:
    """One run. ``chance`` is the seed of what the senders draw."""

    seed: int
    kind: str
    size: Size
    strikes: tuple[Strike, ...]
    chance: int


_STRIKES = {"kill": 3, "stop": 1, "server": 2, "failover": 1, "cut": 2}
_LENGTHS = {
    "kill": (0.0, 5.0),
    "stop": (20.0, 20.0),  # more than a lease
    "server": (0.2, 8.0),
    "failover": (0.2, 5.0),
    "cut": (1.0, 25.0),
}


def make_plan(seed: int, kind: str | None = None, size: Size = LARGE) -> Plan:
    """Return the plan of a seed; the same for every call. ``kind`` replaces that of the seed."""
    kind = KINDS[seed % len(KINDS)] if kind is None else kind
    chance = random.Random(f"{seed} {kind}")
    count = min(_STRIKES[kind], size.strikes)
    moments = sorted(chance.uniform(0.1, 0.8) for _ in range(count))
    return Plan(
        seed,
        kind,
        size,
        tuple(
            Strike(at, chance.randrange(HOSTS), chance.uniform(*_LENGTHS[kind]), chance.choice(["closed", "silent"]))
            for at in moments
        ),
        chance.getrandbits(32),
    )
