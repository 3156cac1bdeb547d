"""What happens in one run: drawn from its seed before anything begins."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Any, Literal

KINDS = (
    "kill",
    "term",
    "int",
    "stop",
    "exit",
    "fork",
    "rivals",
    "full disk",
    "file size",
    "open files",
    "memory",
    "failing writes",
    "torn writes",
    "late writes",
    "short writes",
    "flush fails once",
    "flush fails for good",
    "clock",
    "kernel",
)
"""The faults, one kind for each seed in turn."""

KERNEL_FAULTS = ("kill", "int", "stop", "exit", "fork", "rivals")
"""What is done to a real kernel; the others need what only a process of our own has."""

Ending = Literal["kill", "int"]


@dataclass(frozen=True)
class Life:
    """One host, from its start to its end.

    :ivar fault: what is done to it; see ``KINDS``.
    :ivar early: the fault comes while the host is still opening the file.
    :ivar target: how the names of the files end whose writes and flushes fail; all of the store's, if it is empty.
    :ivar after: seconds from the begin of the load (or of the opening) to the fault.
    :ivar length: seconds that the fault lasts, where it can be lifted again.
    :ivar lifted: the fault is lifted, and the host has to recover, before it is ended.
    :ivar ending: how it is ended, where the fault itself does not end it.
    :ivar retention: as given to ``setup``.
    :ivar seed: of what the host itself draws: its senders, and the operations that race with them.
    """

    number: int
    fault: str
    early: bool
    target: str
    after: float
    length: float
    lifted: bool
    ending: Ending
    retention: float | None
    seed: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """One run. ``kernel``: its hosts live in a real Jupyter kernel."""

    seed: int
    kind: str
    kernel: bool
    lives: tuple[Life, ...]


def make_plan(seed: int, kind: str | None = None, lives: int = 3) -> Plan:
    """The plan of a seed; the same for every call. ``kind``: of that fault rather than the seed's own."""
    kind = KINDS[seed % len(KINDS)] if kind is None else kind
    chance = random.Random(f"{seed} {kind}")
    kernel = kind == "kernel"
    lives += 2 if kind == "exit" else 0  # so many deaths make a dead letter of the message that brings them
    drawn = tuple(
        _draw(chance, number, chance.choice(KERNEL_FAULTS) if kernel else kind, kernel) for number in range(lives)
    )
    return Plan(seed, kind, kernel, drawn)


def _draw(chance: random.Random, number: int, fault: str, kernel: bool) -> Life:
    early = number > 0 and not kernel and chance.random() < 0.25
    return Life(
        number=number,
        fault=fault,
        early=early,
        target=chance.choice(["", "", ".journal", ".wal"]),
        after=chance.uniform(0, 0.15) if early else chance.uniform(0.1, 1.2),
        length=chance.uniform(0.05, 0.8),
        lifted=chance.random() < 0.7,
        ending="int" if chance.random() < 0.3 else "kill",
        retention=chance.choice([None, None, 0.2, 2.0]),
        seed=chance.getrandbits(32),
    )
