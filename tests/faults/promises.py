"""Holds the ledger of a run against the promises: what happened while hosts lived and died."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise

from tests.faults import outcomes
from tests.faults.actors import POISON, always_fails
from tests.faults.driver import Run
from tests.faults.evidence import NEVER, WRITING_FAILED, Evidence, between
from tests.faults.facts import Fact


class Verdict:
    """What was counted, and in ``broken`` a sentence for everything that was not as promised."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.evidence = Evidence(run.facts, run.last_life)
        self.broken: list[str] = []
        self.lost = 0
        self.repeats = sum(len(begun) - 1 for begun in self.evidence.begun.values())
        for check in _CHECKS:
            for promise, sentence in check(self):
                self.broken.append(f"promise {promise}: {sentence}")
        found = outcomes.Outcomes(run, self.evidence)
        self.broken += found.broken
        self.lost = found.lost

    @property
    def sends(self) -> int:
        return len(self.evidence.of_kind["sending"])

    @property
    def refused(self) -> int:
        """How many calls were told that nothing could be written: whether faults strike at all."""
        return sum(1 for fact in self.evidence.of_kind["refused"] if fact["code"].startswith(WRITING_FAILED))

    @property
    def acknowledged(self) -> int:
        return len(self.evidence.sent)


Broken = list[tuple[int, str]]
"""Which promise, and what happened."""


def _ends(verdict: Verdict) -> Broken:
    """Every host that is let alone again works, and none ends by itself."""
    facts, stopping = verdict.evidence.of_kind, verdict.evidence.stopping
    broken = [
        (14, f"the host of life {fact['life']} takes no messages although its fault is over")
        for fact in facts["not recovered"]
    ]
    broken += [
        (14, f"the host of life {fact['life']} ended by itself: {fact['trouble'] or 'without a word'}")
        for fact in facts["status"]
        if not fact["running"] and fact["order"] < stopping.get(fact["life"], NEVER)
    ]
    if verdict.run.litter:
        broken.append((1, f"after a clean end files are left behind: {verdict.run.litter}"))
    return broken


def _one_host(verdict: Verdict) -> Broken:
    """Once a host has the file, an earlier one hands out and acknowledges nothing any more."""
    owner: int | None = None
    gone: set[int] = set()
    for fact in verdict.evidence.facts:
        if fact["fact"] == "opened":
            if owner is not None:
                gone.add(owner)
            owner = fact["life"]
            gone.discard(fact["life"])
        elif fact["fact"] in ("began", "sent", "completed") and fact["life"] in gone:
            return [(3, f"the host of life {fact['life']} goes on while that of life {owner} has the file: {fact}")]
    return []


# --- one at a time, in order ------------------------------------------------------------------------------------------


def _one_at_a_time(verdict: Verdict) -> Broken:
    broken: Broken = []
    held: dict[tuple[int, str], dict[str, str]] = defaultdict(dict)
    for fact in verdict.evidence.facts:
        if fact["fact"] == "began":
            mine = held[fact["life"], fact["actor"]]
            others = sorted(message for message, delivery in mine.items() if delivery != fact["delivery"])
            if others:
                broken.append((3, f"{fact['actor']} began {fact['id']} while it held {others}"))
                mine.clear()
            mine[fact["id"]] = fact["delivery"]
        elif fact["fact"] == "left":
            held[fact["life"], fact["actor"]].pop(fact["id"], None)
    return broken


def _order(verdict: Verdict) -> Broken:
    """What one sender sent one after the other begins in that order."""
    evidence = verdict.evidence
    senders: dict[tuple[str, str], list[str]] = defaultdict(list)
    for fact in evidence.of_kind["sent"]:
        message = fact["id"]
        plain = message not in evidence.cancelling and message not in evidence.redelivering
        if fact.get("sender") and plain and message in evidence.begun:
            senders[fact["sender"], fact["queue"]].append(message)
    for sent in senders.values():
        for one, other in pairwise(sent):
            if evidence.begun[one][0]["order"] > evidence.begun[other][0]["order"]:
                return [(3, f"{other} began before {one}, which was sent before it")]
    return []


def _in_flight_first(verdict: Verdict) -> Broken:
    """What a crash found in flight begins before anything of its queue that never began."""
    evidence = verdict.evidence
    waiting: dict[tuple[str, str], set[str]] = defaultdict(set)
    known: set[str] = set()
    for fact in evidence.facts:
        if fact["fact"] == "ended" and fact["life"] not in evidence.stopping:
            for message, place in evidence.in_flight(fact["life"], fact["order"]):
                waiting[place].add(message)
        elif fact["fact"] == "began":
            place = fact["actor"], fact["queue"]
            waiting[place].discard(fact["id"])
            if waiting[place] and fact["id"] not in known and fact["attempt"] == 1:
                return [(4, f"{fact['id']} began before {sorted(waiting[place])}, in flight at a crash: {fact}")]
            known.add(fact["id"])
    return []


def _pauses(verdict: Verdict) -> Broken:
    """Of a paused queue nothing begins, except the delivery that was on its way already."""
    on_the_way: dict[tuple[str, str], int] = {}
    for fact in verdict.evidence.facts:
        if fact["fact"] in ("destroying", "opened", "ended"):
            for place in [place for place in on_the_way if fact["fact"] != "destroying" or place[0] == fact["actor"]]:
                del on_the_way[place]
        elif fact["fact"] in ("paused", "resuming", "began") and fact["life"] != verdict.run.last_life:
            place = fact["actor"], fact["queue"]
            if fact["fact"] == "paused":
                on_the_way[place] = 3 if fact["actor"].startswith("batch/") else 1
            elif fact["fact"] == "resuming":
                on_the_way.pop(place, None)
            elif place in on_the_way:
                on_the_way[place] -= 1
                if on_the_way[place] < 0:
                    return [(3, f"{fact['id']} began although its queue is paused: {fact}")]
    return []


# --- attempts ---------------------------------------------------------------------------------------------------------


def _attempts(verdict: Verdict) -> Broken:
    """They begin with 1, and grow by what failed or was cut off by a crash, as far as that is durable."""
    evidence, broken = verdict.evidence, Broken()
    for message, begun in evidence.begun.items():
        first, sent = begun[0], evidence.sent.get(message)
        if first["attempt"] != 1 and sent is not None and sent["life"] == first["life"]:
            broken.append((2, f"{message} began first with attempt {first['attempt']}"))
        for one, other in pairwise(begun):
            if evidence.durable(one) > other["order"] or between(evidence.redelivering.get(message, ()), one, other):
                continue
            if other["attempt"] < one["attempt"] + (1 if _counts(evidence, one, other) else 0):
                broken.append((4, f"{message} began again with attempt {other['attempt']}: {one}, {other}"))
    return broken


def _counts(evidence: Evidence, one: Fact, other: Fact) -> bool:
    """Whether the first attempt has to be counted: it failed, or was cut off by a crash."""
    message = one["id"]
    if one["life"] == other["life"]:
        failing = [fact for fact in evidence.of_kind["failing"] if fact["id"] == message]
        return between(failing, one, other) and not _was_undone(evidence, one, other)
    if one["life"] in evidence.stopping or evidence.in_trouble_after(one):
        return False
    return not between(evidence.left.get(message, ()), one, other)


def _was_undone(evidence: Evidence, one: Fact, other: Fact) -> bool:
    """Whether a failed write may have taken back that the first attempt ended."""
    if not evidence.in_trouble_after(one):
        return False
    ends = [fact for fact in evidence.left.get(one["id"], ()) if one["order"] < fact["order"] < other["order"]]
    return not any(evidence.durable(end) < other["order"] for end in ends)


def _poison(verdict: Verdict) -> Broken:
    """A message that ends its host each time becomes a dead letter.

    Its first start may be lost with the host, and where others were in flight beside it, one death is not counted: after
    that it is handed out alone.
    """
    exits = {life.number for life in verdict.run.plan.lives if life.fault == "exit"}
    broken: Broken = []
    for message, begun in verdict.evidence.begun.items():
        deaths = sum(1 for fact in begun if fact["queue"] == "poison" and fact["life"] in exits)
        if deaths > POISON.crashes + 2:
            broken.append((6, f"{message} has ended {deaths} hosts"))
    return broken


def _settled_for_good(verdict: Verdict) -> Broken:
    """What was handled well, and that is durable, never begins again."""
    evidence, broken = verdict.evidence, Broken()
    settled = [(fact, fact["order"]) for fact in evidence.of_kind["completed"]]
    for fact in evidence.of_kind["left"]:
        # The receiver asks for the next one right after it has left this one, unless it is told to end.
        asks = fact["actor"].startswith(("plain/", "batch/"))
        if fact["well"] and asks and fact["order"] < evidence.stopping.get(fact["life"], NEVER):
            settled.append((fact, evidence.durable(fact)))
    for fact, since in settled:
        message = fact["id"]
        again = [begun for begun in evidence.begun[message] if begun["order"] > since]
        if again and not any(cancel["order"] < since for cancel in evidence.cancelling.get(message, ())):
            broken.append((2, f"{message} began again after it was settled: {fact}, {again[0]}"))
    return broken


# --- senders ----------------------------------------------------------------------------------------------------------


def _keys(verdict: Verdict) -> Broken:
    """A key names one message while that is live or completed, and was not pruned."""
    evidence, broken = verdict.evidence, Broken()
    named: dict[int, str] = {}
    for fact in evidence.of_kind["sent"]:
        if not fact["keyed"]:
            continue
        first = named.setdefault(fact["number"], fact["id"])
        named[fact["number"]] = fact["id"]
        free = always_fails(fact["number"]) or evidence.may_be_cancelled(first)
        if first != fact["id"] and not free and not evidence.may_be_pruned(first, fact["order"]):
            broken.append((9, f"the key of {fact['number']} names {first}, and then {fact['id']}"))
    return broken


def _bad_input(verdict: Verdict) -> Broken:
    """It is refused with the error that says why, and never comes to a handler."""
    facts = verdict.evidence.of_kind
    broken = [
        (7, f"{fact['number']} was accepted, though it should be refused with {fact['code']}")
        for fact in facts["wrongly accepted"]
    ]
    begun = {fact["number"] for fact in facts["began"]}
    for fact in facts["bad input"]:
        if fact["number"] in begun:
            broken.append((7, f"{fact['number']} was refused with {fact['code']}, and came to a handler"))
        if fact["code"] != fact["expected"] and not fact["code"].startswith(WRITING_FAILED):
            broken.append((7, f"{fact['number']} was refused with {fact['code']} rather than {fact['expected']}"))
    return broken


def _false_acknowledgements(verdict: Verdict) -> Broken:
    """While every flush fails, nothing new can be acknowledged."""
    evidence, broken = verdict.evidence, Broken()
    lifted = {fact["life"]: fact["order"] for fact in evidence.of_kind["lifted"]}
    for armed in evidence.of_kind["armed"]:
        if armed["kind"] != "flush fails for good" or verdict.run.plan.lives[armed["life"]].target:
            continue
        for fact in evidence.of_kind["sent"]:
            if fact["keyed"] or fact["life"] != armed["life"]:
                continue
            # The driver's own facts overtake those that are still in the pipe.
            asked = evidence.sendings[fact["number"]]["order"]
            if armed["order"] + 100 < asked and fact["order"] < lifted[armed["life"]]:
                broken.append((1, f"{fact['id']} was acknowledged while every flush failed"))
    return broken


def _errors(verdict: Verdict) -> Broken:
    """What is raised derives from AgentqError, and nothing is raised into the void."""
    facts, lives = verdict.evidence.of_kind, verdict.run.plan.lives
    short_of_memory = {life.number for life in lives if life.fault == "memory"}
    broken = [
        (7, f"{fact['what']} raised {fact['type']} in life {fact['life']}: {fact['message']}")
        for fact in facts["raw"]
        # Of Python itself, which has neither memory nor a stack for one more thread.
        if fact["type"] not in ("MemoryError", "RuntimeError") or fact["life"] not in short_of_memory
    ]
    return broken + [
        (14, f"in the background of life {fact['life']}: {fact['message']}: {fact['error']}")
        for fact in facts["background"]
        # What an interrupt has cut off while the host was being opened is told by asyncio at the end of the process.
        if fact["life"] not in short_of_memory and "asyncio.run() shutdown" not in fact["message"]
    ]


def _exports(verdict: Verdict) -> Broken:
    """A copy holds what was acknowledged before it was asked for, and may not have been pruned."""
    evidence, broken = verdict.evidence, Broken()
    asked = {fact["target"]: fact["order"] for fact in evidence.of_kind["exporting"]}
    for name, messages in verdict.run.exports.items():
        if isinstance(messages, str):
            broken.append((1, f"the copy {name} cannot be read: {messages}"))
            continue
        missing = [
            message
            for message, sent in evidence.sent.items()
            if sent["order"] < asked[name] and message not in messages and not evidence.may_be_pruned(message)
        ]
        if missing:
            broken.append((1, f"the copy {name} lacks {len(missing)} acknowledged messages: {missing[:3]}"))
    return broken


_CHECKS: tuple[Callable[[Verdict], Broken], ...] = (
    _ends,
    _one_host,
    _one_at_a_time,
    _order,
    _in_flight_first,
    _pauses,
    _attempts,
    _poison,
    _settled_for_good,
    _keys,
    _bad_input,
    _false_acknowledgements,
    _errors,
    _exports,
)
