"""Idempotency keys: which message a key of a queue names, while that message is live or completed.

Live messages are in memory, and so are their keys. A completed one may be dropped from the log at any time, so for it
memory holds only where to look: the log says whether it is still there, and what its body was.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from agentq_nb._core.ids import ActorId, MessageId

Name: TypeAlias = tuple[ActorId, str, str]
"""Actor, queue and key."""


class Clue(NamedTuple):
    """Where a completed message may be: the row ``first``, or the first one from there on of this message."""

    first: int
    message: MessageId | None = None


def digest(body: bytes) -> bytes:
    """Equal for bodies that are equal as JSON values, however they are written."""
    canonical = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def number_of(name: Name) -> int:
    """The number that ``recall.COMPLETED_KEYS`` gives a name: 60 bits, so that two may share one."""
    hashed = hashlib.md5("\x1f".join(name).encode("utf-8", "surrogatepass"), usedforsecurity=False)
    return int(hashed.hexdigest()[:15], 16)


class Learnt:
    """Where the log has completed messages with keys: two columns of 8 bytes a key, sorted by the key's number."""

    def __init__(self, rows: Iterable[tuple[int, int]] = ()) -> None:
        ordered = sorted(rows)
        self._numbers = array("q", (number for number, _ in ordered))
        self._places = array("q", (place for _, place in ordered))

    def find(self, name: Name) -> list[int]:
        """The rows of all messages that may have the key, the latest first."""
        number = number_of(name)
        found: list[int] = []
        at = bisect_left(self._numbers, number)
        while at < len(self._numbers) and self._numbers[at] == number:
            found.append(self._places[at])
            at += 1
        return found[::-1]


class IdempotencyKeys:
    """The keys of every queue. Those of work completed in earlier runs are learnt when a first key is used."""

    def __init__(self) -> None:
        self.complete = False
        self._live: dict[Name, MessageId] = {}
        self._completed: dict[Name, Clue] = {}
        self._learnt = Learnt()

    def find(self, name: Name) -> MessageId | None:
        """The live message that has the key."""
        return self._live.get(name)

    def name(self, name: Name, message: MessageId) -> None:
        """A live message has the key from now on."""
        self._live[name] = message

    def free(self, name: Name, message: MessageId) -> None:
        """The message is live no more, and did not complete: its key may name another."""
        if self._live.get(name) == message:
            del self._live[name]

    def completed(self, name: Name, message: MessageId, first: int) -> None:
        """The message completed; it was written at ``first`` or later. Its key goes on naming it."""
        if self._live.get(name) == message:
            del self._live[name]
            self._completed[name] = Clue(first, message)

    def clues(self, name: Name) -> list[Clue]:
        """Where completed messages that may have the key are to be looked for, the latest first."""
        clue = self._completed.get(name)
        learnt = [Clue(first) for first in self._learnt.find(name)]
        return learnt if clue is None else [clue, *learnt]

    def learn(self, learnt: Learnt) -> None:
        """Add what the log knows of earlier runs. Completed is final, so nothing that happened since contradicts it."""
        self._learnt = learnt
        self.complete = True
