"""Holds the ledger of a run against the promises: what was acknowledged, begun and told, and what there is in the end."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.actors import PATIENT, always_fails, answer_to
from tests.faults.driver import Run
from tests.faults.facts import Fact

_WRITING_FAILED = ("store.", "host.unavailable", "host.lease_lost", "host.none")
_NEVER = 1 << 60


@dataclass
class Verdict:
    """What was counted, and a sentence for everything that was not as promised."""

    run: Run
    broken: list[str] = field(default_factory=list[str])
    lost: int = 0
    repeats: int = 0

    def __post_init__(self) -> None:
        self.facts = self.run.facts
        self.by_kind: dict[str, list[Fact]] = defaultdict(list)
        for fact in self.facts:
            self.by_kind[fact["fact"]].append(fact)
        self.sendings = {fact["number"]: fact for fact in reversed(self.by_kind["sending"])}
        self.sent: dict[str, Fact] = {fact["id"]: fact for fact in reversed(self.by_kind["sent"])}
        self.number_of = {fact["id"]: fact["number"] for kind in ("sent", "began") for fact in self.by_kind[kind]}
        self.ids_of: dict[int, set[str]] = defaultdict(set)
        for id, number in self.number_of.items():
            self.ids_of[number].add(id)
        self.begun = _by("id", self.by_kind["began"])
        self.left = _by("id", self.by_kind["left"])
        self.redelivered = _by("id", self.by_kind["redelivered"])
        self.redelivering = _by("id", self.by_kind["redelivering"])
        self.cancelling = _by("id", self.by_kind["cancelling"])
        self.cancelled = _by("id", self.by_kind["cancelled"])
        self.repeats = sum(len(begun) - 1 for begun in self.begun.values())
        self._measure_durability()

    @property
    def acknowledged(self) -> int:
        return len(self.sent)

    @property
    def sends(self) -> int:
        return len(self.by_kind["sending"])

    def check(self) -> Verdict:
        """Check everything."""
        self._check_ends()
        self._check_one_host()
        self._check_one_at_a_time()
        self._check_order()
        self._check_attempts()
        self._check_in_flight_first()
        self._check_settled_for_good()
        self._check_pauses()
        self._check_keys()
        self._check_bad_input()
        self._check_false_acknowledgements()
        self._check_errors()
        self._check_exports()
        if self.run.found:
            self._check_messages()
            self._check_states()
            self._check_told()
        return self

    def _break(self, promise: int, sentence: str) -> None:
        self.broken.append(f"promise {promise}: {sentence}")

    # --- durability, as the ledger proves it --------------------------------------------------------------------------

    def _measure_durability(self) -> None:
        """Rows go to the disk in order: what was written before a send was begun is durable when that is acknowledged.

        Not where a write failed in between: what was not durable then is as if it had not happened.
        """
        self._later: dict[int, tuple[list[int], list[int]]] = {}
        self._trouble: dict[int, list[int]] = defaultdict(list)
        sendings: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for fact in self.by_kind["refused"]:
            if fact["code"].startswith(_WRITING_FAILED):
                self._trouble[fact["life"]].append(fact["order"])
        for fact in self.by_kind["status"]:
            if fact["trouble"] or not fact["running"]:
                self._trouble[fact["life"]].append(fact["order"])
        for fact in self.by_kind["sent"]:
            asked = self.sendings[fact["number"]]
            if not fact["keyed"] and asked["life"] == fact["life"]:
                sendings[fact["life"]].append((asked["order"], fact["order"]))
        for life, pairs in sendings.items():
            pairs.sort()
            soonest, ends = _NEVER, list[int]()
            for _, sent in reversed(pairs):
                soonest = min(soonest, sent)
                ends.append(soonest)
            self._later[life] = [asked for asked, _ in pairs], ends[::-1]

    def _durable(self, fact: Fact) -> int:
        """The order of the fact that proves that what was written at this one is on disk; ``_NEVER``: nothing does."""
        asked, ends = self._later.get(fact["life"], ([], []))
        place = bisect_right(asked, fact["order"])
        if place == len(asked):
            return _NEVER
        proof = ends[place]
        failed = any(fact["order"] - 200 < order < proof + 200 for order in self._trouble[fact["life"]])
        return _NEVER if failed else proof

    # --- hosts --------------------------------------------------------------------------------------------------------

    def _check_ends(self) -> None:
        if not self.run.found:
            said = [f"{fact['code']}: {fact['message']}" for fact in self.by_kind["refused"] if fact["what"] == "open"]
            self._break(1, f"the clean host at the end did not come to its end: {said[-1:]}")
            self.lost += self.acknowledged
        elif self.run.found["left"]:
            self._break(1, f"work is left that nobody does: {self.run.found['left']}")
        if self.run.litter:
            self._break(0, f"files are left behind: {self.run.litter}")
        for fact in self.by_kind["not recovered"]:
            self._break(14, f"the host of life {fact['life']} takes no messages although its fault is over")
        stopping = {fact["life"]: fact["order"] for fact in self.by_kind["stopping"]}
        for fact in self.by_kind["status"]:
            if not fact["running"] and fact["order"] < stopping.get(fact["life"], _NEVER):
                self._break(14, f"the host of life {fact['life']} ended by itself: {fact['trouble'] or 'without a word'}")

    def _check_one_host(self) -> None:
        """Once a host has the file, an earlier one hands out and acknowledges nothing any more."""
        owner: int | None = None
        gone: set[int] = set()
        for fact in self.facts:
            if fact["fact"] == "opened":
                gone |= {owner} if owner is not None and owner != fact["life"] else set()
                owner = fact["life"]
                gone.discard(owner)
            elif fact["fact"] in ("began", "sent", "completed") and fact["life"] in gone:
                self._break(3, f"the host of life {fact['life']} goes on while that of life {owner} has the file: {fact}")
                return

    # --- one at a time, in order --------------------------------------------------------------------------------------

    def _check_one_at_a_time(self) -> None:
        held: dict[tuple[int, str], dict[str, str]] = defaultdict(dict)
        for fact in self.facts:
            if fact["fact"] == "began":
                mine = held[fact["life"], fact["actor"]]
                others = {id for id, delivery in mine.items() if delivery != fact["delivery"]}
                if others:
                    self._break(3, f"{fact['actor']} began {fact['id']} while it held {sorted(others)}")
                    mine.clear()
                mine[fact["id"]] = fact["delivery"]
            elif fact["fact"] == "left":
                held[fact["life"], fact["actor"]].pop(fact["id"], None)

    def _check_order(self) -> None:
        """What one sender sent one after the other begins in that order."""
        senders: dict[tuple[str, str], list[Fact]] = defaultdict(list)
        for fact in self.by_kind["sent"]:
            if fact.get("sender"):
                senders[fact["sender"], fact["queue"]].append(fact)
        for sent in senders.values():
            first = [(self.begun[fact["id"]][0]["order"], fact) for fact in sent if self._plainly_begun(fact["id"])]
            for (earlier, one), (later, other) in zip(first, first[1:], strict=False):
                if earlier > later:
                    self._break(3, f"{other['id']} began before {one['id']}, which was sent before it")
                    return

    def _plainly_begun(self, id: str) -> bool:
        return id in self.begun and id not in self.cancelling and id not in self.redelivering

    # --- attempts -----------------------------------------------------------------------------------------------------

    def _check_attempts(self) -> None:
        for id, begun in self.begun.items():
            if begun[0]["attempt"] != 1 and self._sent_in(id) == begun[0]["life"]:
                self._break(2, f"{id} began first with attempt {begun[0]['attempt']}")
            for one, other in zip(begun, begun[1:], strict=False):
                if self._durable(one) > other["order"] or _between(self.redelivering.get(id, ()), one, other):
                    continue
                least = one["attempt"] + (1 if self._counts(id, one, other) else 0)
                if other["attempt"] < least:
                    self._break(4, f"{id} began with attempt {other['attempt']} after {one['attempt']}: {one}, {other}")

    def _sent_in(self, id: str) -> int | None:
        return self.sent[id]["life"] if id in self.sent else None

    def _counts(self, id: str, one: Fact, other: Fact) -> bool:
        """Whether the first attempt has to be counted: it was cut off by a crash, or failed, and that is durable."""
        if one["life"] != other["life"]:
            asked_to_stop = any(fact["life"] == one["life"] for fact in self.by_kind["stopping"])
            return not asked_to_stop and not _between(self.left.get(id, ()), one, other) and not self._in_trouble(one)
        return any(one["order"] < fact["order"] < other["order"] for fact in self.by_kind["failing"] if fact["id"] == id)

    def _in_trouble(self, fact: Fact) -> bool:
        return any(order > fact["order"] for order in self._trouble[fact["life"]])

    def _check_in_flight_first(self) -> None:
        """What a crash found in flight begins before anything of its queue that never began."""
        crashed = {fact["life"]: fact["order"] for fact in self.by_kind["ended"]}
        for fact in self.by_kind["stopping"]:
            crashed.pop(fact["life"], None)
        waiting: dict[tuple[str, str], set[str]] = defaultdict(set)
        known: set[str] = set()
        for fact in self.facts:
            if fact["fact"] == "ended" and fact["life"] in crashed:
                for id, place in self._in_flight(fact["life"], fact["order"]):
                    waiting[place].add(id)
            elif fact["fact"] == "began":
                place = fact["actor"], fact["queue"]
                waiting[place].discard(fact["id"])
                if waiting[place] and fact["id"] not in known and fact["attempt"] == 1:
                    self._break(4, f"{fact['id']} began before {sorted(waiting[place])}, in flight at a crash: {fact}")
                    return
                known.add(fact["id"])

    def _in_flight(self, life: int, end: int) -> Iterator[tuple[str, tuple[str, str]]]:
        for id, begun in self.begun.items():
            last = max((fact for fact in begun if fact["life"] == life), key=lambda fact: fact["order"], default=None)
            if last is None or last["actor"].startswith("mortal") or id in self.cancelling or self._in_trouble(last):
                continue
            if self._durable(last) < end and not any(left["order"] > last["order"] for left in self.left.get(id, ())):
                yield id, (last["actor"], last["queue"])

    def _check_settled_for_good(self) -> None:
        """What was handled well, and that is durable, never begins again."""
        settled = [(fact, self._durable(fact)) for fact in self.by_kind["left"] if fact["well"] and self._by_asking(fact)]
        settled += [(fact, fact["order"]) for fact in self.by_kind["completed"]]
        for fact, since in settled:
            again = [begun for begun in self.begun[fact["id"]] if begun["order"] > since]
            if again and not any(cancel["order"] < since for cancel in self.cancelling.get(fact["id"], ())):
                self._break(2, f"{fact['id']} began again after it was settled: {fact}, {again[0]}")

    def _by_asking(self, fact: Fact) -> bool:
        return fact["actor"].split("/")[0] in ("plain", "batch") and not self._stops_soon(fact)

    def _stops_soon(self, fact: Fact) -> bool:
        """Whether its receiver may have been ended rather than asked for the next message."""
        return any(stop["life"] == fact["life"] and stop["order"] < fact["order"] for stop in self.by_kind["stopping"])

    # --- pauses, keys, bad input --------------------------------------------------------------------------------------

    def _check_pauses(self) -> None:
        """Of a paused queue nothing begins, except what was on its way already."""
        paused: dict[tuple[str, str], int] = {}
        for fact in self.facts:
            place = fact.get("actor"), fact.get("queue")
            if fact["fact"] == "paused":
                paused[place] = 3 if fact["actor"].startswith("batch") else 1  # type: ignore[index]
            elif fact["fact"] in ("resuming", "destroying", "opened", "ended"):
                for known in [known for known in paused if fact["fact"] != "resuming" or known == place]:
                    if fact["fact"] == "resuming" or fact.get("actor") == known[0]:
                        paused.pop(known)
            elif fact["fact"] == "began" and place in paused and fact["life"] != self._last_life:
                paused[place] -= 1  # type: ignore[index]
                if paused[place] < 0:  # type: ignore[index]
                    self._break(6, f"{fact['id']} began although {place} is paused")
                    paused.pop(place)  # type: ignore[arg-type]

    @property
    def _last_life(self) -> int:
        return len(self.run.plan.lives) * 2

    def _check_keys(self) -> None:
        """A key names one message while that is live or completed, and was not pruned."""
        named: dict[int, Fact] = {}
        for fact in self.by_kind["sent"]:
            if not fact["keyed"]:
                continue
            first = named.setdefault(fact["number"], fact)
            if first["id"] != fact["id"]:
                if not self._may_be_free(first["id"], fact):
                    self._break(9, f"the key of {fact['number']} names {first['id']}, and then {fact['id']}")
                named[fact["number"]] = fact

    def _may_be_free(self, id: str, by: Fact) -> bool:
        if always_fails(self.number_of[id]) or id in self.cancelling or self._purged(id):
            return True
        return self._may_be_pruned(id, by["order"])

    def _purged(self, id: str, since: int = -1) -> bool:
        sent = self.sent[id] if id in self.sent else self.begun[id][0]
        asked = self.sendings[sent["number"]]
        return any(
            (fact["actor"], fact["queue"]) == (sent["actor"], sent["queue"])
            and fact["order"] > max(since, asked["order"])
            for fact in self.by_kind["purging"]
        )

    def _may_be_pruned(self, id: str, until: int = _NEVER) -> bool:
        """Whether something dropped history after the message may have been settled."""
        since = min((fact["order"] for fact in self.begun.get(id, ())), default=_NEVER)
        if self._has_reason_to_be_cancelled(id, -1):
            since = self.sendings[self.number_of[id]]["order"]
        prunes = [fact["order"] for fact in self.by_kind["pruning"]]
        prunes += [fact["order"] + 1 for fact in self.by_kind["opening"] if fact["retention"] is not None]
        # Retention begins with the host and goes on beside it: until the host ends.
        return any(prune > since and prune < until for prune in prunes) or any(
            fact["retention"] is not None and fact["order"] < until for fact in self.by_kind["opening"]
        )

    def _check_bad_input(self) -> None:
        for fact in self.by_kind["wrongly accepted"]:
            self._break(7, f"{fact['number']} was accepted, though it should be refused with {fact['code']}")
        begun = {fact["number"] for fact in self.by_kind["began"]}
        for fact in self.by_kind["bad input"]:
            if fact["number"] in begun:
                self._break(7, f"{fact['number']} was refused with {fact['code']}, and came to a handler")
            if fact["code"] != fact["expected"] and not fact["code"].startswith(_WRITING_FAILED):
                self._break(7, f"{fact['number']} was refused with {fact['code']} rather than {fact['expected']}")

    def _check_false_acknowledgements(self) -> None:
        """While every flush or write fails, nothing that is sent can be acknowledged."""
        for armed in self.by_kind["armed"]:
            life = self.run.plan.lives[armed["life"]]
            if armed["kind"] != "flush fails for good":
                continue
            lifted = min(
                (fact["order"] for fact in self.by_kind["lifted"] if fact["life"] == life.number), default=_NEVER
            )
            for sent in self.by_kind["sent"]:
                asked = self.sendings[sent["number"]]
                if not sent["keyed"] and sent["life"] == life.number and armed["order"] + 100 < asked["order"]:
                    if sent["order"] < lifted:
                        self._break(1, f"{sent['id']} was acknowledged while every flush failed")

    def _check_errors(self) -> None:
        short_of_memory = {life.number for life in self.run.plan.lives if life.fault == "memory"}
        for fact in self.by_kind["raw"]:
            if fact["life"] not in short_of_memory or fact["type"] != "MemoryError":
                self._break(7, f"{fact['what']} raised {fact['type']} in life {fact['life']}: {fact['message']}")
        for fact in self.by_kind["background"]:
            if fact["life"] not in short_of_memory:
                self._break(14, f"in the background of life {fact['life']}: {fact['message']}: {fact['error']}")

    def _check_exports(self) -> None:
        """A copy holds what was acknowledged before it was asked for, and was not pruned since."""
        asked = {fact["target"]: fact["order"] for fact in self.by_kind["exporting"]}
        for name, ids in self.run.exports.items():
            if isinstance(ids, str):
                self._break(1, f"the copy {name} cannot be read: {ids}")
                continue
            missing = [id for id, sent in self.sent.items() if sent["order"] < asked[name] and id not in ids]
            if gone := [id for id in missing if not self._may_be_pruned(id)]:
                self._break(1, f"the copy {name} lacks {len(gone)} acknowledged messages: {gone[:3]}")

    # --- what there is in the end -------------------------------------------------------------------------------------

    def _check_messages(self) -> None:
        states: dict[str, Any] = self.run.found["states"]
        done = {actor: Counter(state["done"]) for actor, state in states.items()}
        for id, sent in self.sent.items():
            mortal = sent["actor"].startswith("mortal")
            times = done[sent["actor"]][sent["number"]]
            # A key that was free again may have named another message of the same number, which is in the state as well.
            times = None if mortal or (len(self.ids_of[sent["number"]]) > 1 and times) else times
            if problem := self._problem_with(id, times):
                self._break(1, f"{id} ({sent}): {problem}")

    def _problem_with(self, id: str, times: int | None) -> str | None:
        """What is wrong with an acknowledged message; ``times``: how often the state has its number, if that is kept."""
        status = self.run.found["results"][id]["status"]
        back = max((fact["order"] for fact in self.redelivered.get(id, ())), default=-1)
        asked_back = max((fact["order"] for fact in self.redelivering.get(id, ()) if fact["order"] < back), default=-1)
        begun = [fact for fact in self.begun.get(id, ()) if fact["order"] > asked_back]
        dropped = self._has_reason_to_be_cancelled(id, back)
        match status:
            case "completed":
                if not begun and not times:
                    self.lost += 1
                    return "it completed though no handler has begun it"
                return None if times in (None, 1) else f"it completed, and its number is {times} times in the state"
            case "failed":
                return self._problem_with_failed(id, times)
            case "cancelled" if dropped:
                return None if not times else "it was cancelled, and its number is in the state"
            case "queue.message_unknown" if self._may_be_pruned(id) and (times or dropped or (times is None and begun)):
                return None
            case _:
                self.lost += 1
                return f"it is lost: {status}, {len(begun)} attempts begun since {asked_back}, {times} times in the state"

    def _has_reason_to_be_cancelled(self, id: str, since: int) -> bool:
        """Whether somebody asked for its end, after it was put back for the last time (or at the same time)."""
        sent = self.sent[id] if id in self.sent else self.begun[id][0]
        last_asked = max((fact["order"] for fact in self.redelivering.get(id, ()) if fact["order"] < since), default=-1)
        if any(fact["order"] > last_asked for fact in self.cancelling.get(id, ())) or self._purged(id, last_asked):
            return True
        asked = self.sendings[sent["number"]]["order"]
        # Destroying is not waited for: a kill may leave it to be asked for again.
        return sent["actor"].startswith("mortal") and any(True for fact in self.by_kind["destroying"] if fact["order"] > asked - 500)

    def _problem_with_failed(self, id: str, times: int | None) -> str | None:
        result = self.run.found["results"][id]
        if times:
            return "it failed, and its number is in the state"
        if result["error"] == "crashed":
            poisonous = self.sent[id]["queue"] == "poison"
            return None if poisonous else "it is taken for what kills the host, and is not"
        failing = sum(1 for fact in self.by_kind["failing"] if fact["id"] == id)
        if not always_fails(self.sent[id]["number"]) or failing < PATIENT.attempts:
            return f"it is a dead letter after {failing} failures: {result}"
        return None

    def _check_states(self) -> None:
        """Everything in a state was asked for, once; every acknowledged action and scheduled call is in."""
        for actor, state in self.run.found["states"].items():
            for name in ("done", "acted", "ticked"):
                counts = Counter(state[name])
                twice = [number for number, times in counts.items() if times > max(1, len(self.ids_of[number]))]
                if twice and not actor.startswith("mortal"):
                    self._break(5, f"{actor}: {name} has {twice[:5]} more than once")
            acted = {"act": set(state["acted"]), "plan": set(state["ticked"])}
            for fact in self.by_kind["acted"]:
                if fact["actor"] == actor and fact["number"] not in acted[fact["what"]]:
                    self._break(5, f"{actor}: {fact['what']} of {fact['number']} was acknowledged, and is not in the state")
            handled = {self.number_of[id] for id, result in self.run.found["results"].items() if result["status"] == "completed"}
            for number in set(state["done"]):
                if number not in handled and number in self.sendings:
                    self._check_unsettled(actor, number)

    def _check_unsettled(self, actor: str, number: int) -> None:
        """A number in the state whose message is not known as completed: it was pruned, or nobody was told its id."""
        ids = [id for id, known in self.number_of.items() if known == number]
        statuses = {id: self.run.found["results"][id]["status"] for id in ids if id in self.run.found["results"]}
        if any(status == "queue.message_unknown" and self._may_be_pruned(id) for id, status in statuses.items()):
            return
        # Those in flight at the last kill whose ids nobody knew are begun, and so known, in the last life.
        if any(fact["number"] == number and fact["life"] == self._last_life for fact in self.by_kind["began"]):
            return
        self._break(5, f"{actor}: {number} is in the state, and its message is {statuses}")

    def _check_told(self) -> None:
        """What a waiter was told is what is stored."""
        for fact in self.by_kind["told"]:
            found = self.run.found["results"][fact["id"]]
            if fact["status"] == "completed" and fact["response"] != answer_to(fact["number"]):
                self._break(8, f"{fact['id']} was answered with {fact['response']!r}")
            if fact["status"] == "timed_out" or found["status"] == "queue.message_unknown":
                continue
            if fact["id"] not in self.redelivered and (found["status"], found["response"]) != (fact["status"], fact["response"]):
                self._break(8, f"{fact['id']}: a waiter was told {fact}, and in the end it is {found}")


def _by(name: str, facts: Iterable[Fact]) -> dict[str, list[Fact]]:
    found: dict[str, list[Fact]] = {}
    for fact in facts:
        found.setdefault(fact[name], []).append(fact)
    return found


def _between(facts: Sequence[Fact], one: Fact, other: Fact) -> bool:
    return any(one["order"] < fact["order"] < other["order"] for fact in facts)
