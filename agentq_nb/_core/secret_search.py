"""Find many secrets in long text at about the cost of reading it.

A regular expression of all secrets tries each one at each character. Here Python's own loops in C do the reading. A short
secret is found by ``bytes.find``. For long ones (each line of a private key is one), the text is sampled at a fixed
distance, and each eight-byte word found there is looked up among the words that the secrets contain.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping
from typing import TypeAlias

_WORD = 8
_WORDS_FOR_A_FIND = 40
"""Finding one more secret by ``bytes.find`` takes as long as looking up every fortieth word. Measured."""
_LARGEST_STEP = 8
"""Words; a larger step would save little and cost memory for each secret."""
_HEAD = 8
"""Bytes; the length of the shortest secret."""

Found: TypeAlias = tuple[int, int, bytes]
"""A secret's start, its negative length, and the secret: sorts by leftmost, then longest."""


def as_bytes(text: str) -> bytes:
    """Return the text in UTF-8; lone surrogates are kept."""
    return text.encode("utf-8", "surrogatepass")


def as_text(data: bytes) -> str:
    """Decode; the inverse of :func:`as_bytes`."""
    return data.decode("utf-8", "surrogatepass")


class SecretSearch:
    """Finds secrets of at least eight bytes each. ``names`` maps each to its variable's name."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = dict(names)
        self._named = {as_bytes(secret): name for secret, name in names.items()}
        secrets = sorted(self._named, key=len)
        few = _cheapest(secrets)
        self._short, long = secrets[:few], secrets[few:]
        self._step = _step(long[0]) if long else 1
        self._places = _places(long, self._step * _WORD)
        self._words = frozenset(self._places)
        self._heads = {secret[:size] for secret in self._named for size in range(1, _HEAD)}

    def find(self, data: bytes) -> Iterator[tuple[int, int, str]]:
        """Yield start, end and name of each secret: leftmost first, then longest, without overlaps."""
        short = [found for secret in self._short if (found := _next(secret, data, 0)) is not None]
        heapq.heapify(short)
        long = self._find_long(data)
        first_long = next(long, None)
        here = 0
        while short or first_long is not None:
            if first_long is not None and first_long[0] < here:
                first_long = next(long, None)
                continue
            if first_long is not None and (not short or first_long < short[0]):
                found = first_long
            else:
                found = heapq.heappop(short)
                again = _next(found[2], data, max(here, found[0] + 1))
                if again is not None:
                    heapq.heappush(short, again)
                if found[0] < here:
                    continue
            start, here = found[0], found[0] - found[1]
            yield start, here, self._named[found[2]]

    def _find_long(self, data: bytes) -> Iterator[Found]:
        """Yield the long secrets in order; they may overlap."""
        if not self._words:
            return
        words = memoryview(data)[: len(data) // _WORD * _WORD].cast("Q")[:: self._step]
        if self._words.isdisjoint(words):
            return
        apart = self._step * _WORD
        for number, word in enumerate(words):
            # A secret that contains this word but not the one before starts after that one: so the order is right.
            for offset, secret in self._places.get(word, ()):
                start = number * apart - offset
                if start >= 0 and data.startswith(secret, start):
                    yield start, -len(secret), secret

    def beginning(self, data: bytes) -> int:
        """Return where the longest beginning of a secret starts at the end of ``data``; its length if none does."""
        best = len(data)
        for size in range(min(_HEAD - 1, len(data)), 0, -1):
            if data[-size:] in self._heads:
                best = len(data) - size
                break
        for secret in self._named:
            at = data.find(secret[:_HEAD], max(0, len(data) - len(secret) + 1))
            while 0 <= at < best:
                if secret.startswith(data[at:]):
                    best = at
                    break
                at = data.find(secret[:_HEAD], at + 1)
        return best


def _step(shortest: bytes) -> int:
    """Return the sampling distance in words: each secret contains a whole sampled word wherever it starts."""
    return min((len(shortest) - _WORD + 1) // _WORD, _LARGEST_STEP)


def _cheapest(secrets: list[bytes]) -> int:
    """Return how many secrets, shortest first, are better searched one by one, for larger steps with the rest."""

    def cost(few: int) -> float:
        if few == len(secrets):
            return few
        step = _step(secrets[few])
        return few + _WORDS_FOR_A_FIND / step if step else math.inf

    return min(range(len(secrets) + 1), key=cost)


def _next(secret: bytes, data: bytes, here: int) -> Found | None:
    at = data.find(secret, here)
    return None if at < 0 else (at, -len(secret), secret)


def _places(secrets: list[bytes], apart: int) -> dict[int, list[tuple[int, bytes]]]:
    """Map each word that may be sampled every ``apart`` bytes to its (offset, secret) pairs: largest offset first."""
    places: dict[int, list[tuple[int, bytes]]] = {}
    for secret in sorted(secrets, key=len, reverse=True):
        for offset in range(apart):
            (word,) = memoryview(secret[offset : offset + _WORD]).cast("Q")
            places.setdefault(word, []).append((offset, secret))
    for found in places.values():
        found.sort(key=lambda place: place[0], reverse=True)
    return places
