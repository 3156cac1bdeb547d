"""Idempotency keys: which message a key of a queue names, while that message is live or completed.

Live messages and their keys are in memory. A completed message may be dropped from the log at any time, so memory holds
only where to look for it: the log says whether it still exists, and what its body was.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from agentq_nb._core.ids import ActorId, MessageId

Name: TypeAlias = tuple[ActorId, str, str]
"""Actor, queue and key."""


class Clue(NamedTuple):
    """A place to look for a completed message: at row ``first``, or from there on for rows of ``message``."""

    first: int
    message: MessageId | None = None


def number_of(name: Name) -> int:
    """Return the number that ``startup_queries.COMPLETED_KEYS`` gives a name: 60 bits, so two names may collide."""
    hashed = hashlib.md5("\x1f".join(name).encode("utf-8", "surrogatepass"), usedforsecurity=False)
    return int(hashed.hexdigest()[:15], 16)


class StoredKeys:
    """Places of completed messages with keys in the log: two 8-byte columns, sorted by the key's number."""

    def __init__(self, rows: Iterable[tuple[int, int]] = ()) -> None:
        ordered = sorted(rows)
        self._numbers = array("q", (number for number, _ in ordered))
        self._places = array("q", (place for _, place in ordered))

    def find(self, name: Name) -> list[int]:
        """Return the rows of all messages that may have the key, latest first."""
        number = number_of(name)
        found: list[int] = []
        at = bisect_left(self._numbers, number)
        while at < len(self._numbers) and self._numbers[at] == number:
            found.append(self._places[at])
            at += 1
        return found[::-1]


class IdempotencyKeys:
    """The keys of every queue. Those completed in earlier runs are loaded when a key is first used."""

    def __init__(self) -> None:
        self.complete = False
        self._live: dict[Name, MessageId] = {}
        self._completed: dict[Name, Clue] = {}
        self._stored = StoredKeys()

    def find(self, name: Name) -> MessageId | None:
        """Return the live message that has the key."""
        return self._live.get(name)

    def name(self, name: Name, message: MessageId) -> None:
        """Give the key to a live message."""
        self._live[name] = message

    def free(self, name: Name, message: MessageId) -> None:
        """Free the key of a message that left its queue without completing."""
        if self._live.get(name) == message:
            del self._live[name]

    def completed(self, name: Name, message: MessageId, first: int) -> None:
        """Keep the key of a completed message, which was written at ``first`` or later."""
        if self._live.get(name) == message:
            del self._live[name]
            self._completed[name] = Clue(first, message)

    def clues(self, name: Name) -> list[Clue]:
        """Return where to look for completed messages that may have the key, latest first."""
        clue = self._completed.get(name)
        stored = [Clue(first) for first in self._stored.find(name)]
        return stored if clue is None else [clue, *stored]

    def learn(self, stored: StoredKeys) -> None:
        """Add the keys of earlier runs. Completed is final, so nothing since can contradict them."""
        self._stored = stored
        self.complete = True
