"""What the ledger of a run proves: who sent what, what was begun and left, what must have been durable when."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.faults.facts import Fact

NEVER = 1 << 60
WRITING_FAILED = ("store.", "host.unavailable", "host.lease_lost", "host.none")
"""Codes of errors that say that nothing could be written, or that nobody was there to write it."""


class Evidence:
    """The facts of a run, found by what is asked of them.

    :param last_life: the number of the clean host that drains everything at the end.
    """

    def __init__(self, facts: Sequence[Fact], last_life: int) -> None:
        self.facts = facts
        self.last_life = last_life
        self.of_kind: dict[str, list[Fact]] = defaultdict(list)
        for fact in facts:
            self.of_kind[fact["fact"]].append(fact)
        self.sendings: dict[int, Fact] = {fact["number"]: fact for fact in reversed(self.of_kind["sending"])}
        self.sent: dict[str, Fact] = {fact["id"]: fact for fact in reversed(self.of_kind["sent"])}
        self.number_of: dict[str, int] = {
            fact["id"]: fact["number"] for kind in ("sent", "began") for fact in self.of_kind[kind]
        }
        self.messages_of: dict[int, set[str]] = defaultdict(set)
        """The messages that carry a number: more than one where their key was free again."""
        for message, number in self.number_of.items():
            self.messages_of[number].add(message)
        self.begun = _by_message(self.of_kind["began"])
        self.left = _by_message(self.of_kind["left"])
        self.cancelling = _by_message(self.of_kind["cancelling"])
        self.redelivering = _by_message(self.of_kind["redelivering"])
        self.redelivered = _by_message(self.of_kind["redelivered"])
        self.stopping: Mapping[int, int] = {fact["life"]: fact["order"] for fact in self.of_kind["stopping"]}
        """When each life that was ended in an orderly way was asked to."""
        self._trouble = self._times_of_trouble()
        self._sends = {life: _soonest(pairs) for life, pairs in self._unkeyed_sends().items()}

    def _times_of_trouble(self) -> Mapping[int, Sequence[int]]:
        """When writing is known to have failed, by life."""
        found: dict[int, list[int]] = defaultdict(list)
        for fact in self.of_kind["refused"]:
            if fact["code"].startswith(WRITING_FAILED):
                found[fact["life"]].append(fact["order"])
        for fact in self.of_kind["status"]:
            if fact["trouble"] or not fact["running"]:
                found[fact["life"]].append(fact["order"])
        return found

    def _unkeyed_sends(self) -> Mapping[int, list[tuple[int, int]]]:
        """When each send was begun and acknowledged, by life. One with a key may have found its message there already."""
        found: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for fact in self.of_kind["sent"]:
            asked = self.sendings[fact["number"]]
            if not fact["keyed"] and asked["life"] == fact["life"]:
                found[fact["life"]].append((asked["order"], fact["order"]))
        return found

    # --- what is durable ----------------------------------------------------------------------------------------------

    def durable(self, fact: Fact) -> int:
        """When it is proved that what was written at this fact is on disk; ``NEVER``: nothing proves it.

        Rows go to the disk in order: what was written before a send was begun is durable when that is acknowledged. Not
        where a write failed in between: what was not durable then is as if it had not happened.
        """
        asked, acknowledged = self._sends.get(fact["life"], ([], []))
        place = bisect_right(asked, fact["order"])
        if place == len(asked):
            return NEVER
        proof = acknowledged[place]
        # A failure is noticed a little later than it happens.
        failed = any(fact["order"] - 200 < order < proof + 200 for order in self._trouble.get(fact["life"], ()))
        return NEVER if failed else proof

    def in_trouble_after(self, fact: Fact) -> bool:
        """Whether writing failed later in that life."""
        return any(order > fact["order"] for order in self._trouble.get(fact["life"], ()))

    def in_flight(self, life: int, end: int) -> Iterator[tuple[str, tuple[str, str]]]:
        """The messages, each with its actor and queue, that a crash at ``end`` cut off, their starts being durable.

        Only those that began again: one whose completion reached the disk just before the crash does not.
        """
        for message, begun in self.begun.items():
            last = max((fact for fact in begun if fact["life"] == life), key=_order, default=None)
            if last is None or is_mortal(last) or message in self.cancelling or self.in_trouble_after(last):
                continue
            left = any(fact["order"] > last["order"] for fact in self.left.get(message, ()))
            again = begun[-1]["order"] > end
            if again and not left and self.durable(last) < end:
                yield message, (last["actor"], last["queue"])

    # --- what may have become of a message ----------------------------------------------------------------------------

    def purged(self, message: str, since: int = -1) -> bool:
        """Whether its queue was purged after it was sent, and after ``since``."""
        sent = self._where(message)
        place, asked = (sent["actor"], sent["queue"]), max(since, self._asked(message))
        return any(
            (fact["actor"], fact["queue"]) == place and fact["order"] > asked for fact in self.of_kind["purging"]
        )

    def may_be_cancelled(self, message: str, since: int = -1) -> bool:
        """Whether its end was asked for after ``since``, or while it was put back just then."""
        asked = max((fact["order"] for fact in self.redelivering.get(message, ()) if fact["order"] < since), default=-1)
        if any(fact["order"] > asked for fact in self.cancelling.get(message, ())) or self.purged(message, asked):
            return True
        return self._may_be_destroyed(message)

    def _may_be_destroyed(self, message: str) -> bool:
        """Destroying is not waited for: it may come a while after it was asked for, also from a message in flight."""
        asked = self._asked(message)
        mortal = is_mortal(self._where(message))
        return mortal and any(fact["order"] > asked - 500 for fact in self.of_kind["destroying"])

    def may_be_pruned(self, message: str, until: int = NEVER) -> bool:
        """Whether something dropped history after the message may have been settled, and before ``until``."""
        since = min((fact["order"] for fact in self.begun.get(message, ())), default=NEVER)
        if self.may_be_cancelled(message):
            since = self._asked(message)
        if any(since < fact["order"] < until for fact in self.of_kind["pruning"]):
            return True
        # Retention begins with its host, and goes on beside it.
        ends = {fact["life"]: fact["order"] for fact in self.of_kind["ended"]}
        return any(
            fact["retention"] is not None and fact["order"] < until and since < ends.get(fact["life"], NEVER)
            for fact in self.of_kind["opening"]
        )

    def _asked(self, message: str) -> int:
        """When its sending was begun. One that should have been refused has none."""
        return self.sendings.get(self.number_of[message], self._where(message))["order"]

    def _where(self, message: str) -> Fact:
        return self.sent[message] if message in self.sent else self.begun[message][0]


def is_mortal(fact: Fact) -> bool:
    """Whether it tells of an actor that is destroyed now and then, and its state and messages with it."""
    return fact["actor"].startswith("mortal/")


def between(facts: Sequence[Fact], one: Fact, other: Fact) -> bool:
    """Whether any of them lies between the two."""
    return any(one["order"] < fact["order"] < other["order"] for fact in facts)


def _order(fact: Fact) -> int:
    return fact["order"]


def _by_message(facts: Iterable[Fact]) -> dict[str, list[Fact]]:
    found: dict[str, list[Fact]] = {}
    for fact in facts:
        found.setdefault(fact["id"], []).append(fact)
    return found


def _soonest(pairs: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """When sends were begun, in order; and beside each, when the first of it and all later ones was acknowledged."""
    pairs.sort()
    soonest, ends = NEVER, list[int]()
    for _, acknowledged in reversed(pairs):
        soonest = min(soonest, acknowledged)
        ends.append(soonest)
    return [asked for asked, _ in pairs], ends[::-1]
