"""Holds what the last, clean host found against the ledger: every acknowledged message and action has its outcome."""

from __future__ import annotations

from collections import Counter

from tests.faults.actors import PATIENT, always_fails, answer_to
from tests.faults.driver import Run
from tests.faults.evidence import Evidence, is_mortal
from tests.faults.facts import Fact


class Outcomes:
    """``broken`` holds a sentence for everything that was not as promised; ``lost`` counts acknowledged messages."""

    def __init__(self, run: Run, evidence: Evidence) -> None:
        self._run = run
        self._evidence = evidence
        self.broken: list[str] = []
        self.lost = 0
        if not run.found:
            refused = [fact for fact in evidence.of_kind["refused"] if fact["what"] == "open"]
            said = [f"{fact['code']}: {fact['message']}" for fact in refused if fact["life"] == run.last_life]
            self._break(1, f"the clean host at the end did not come to its end: {said}")
            self.lost = len(evidence.sent)
            return
        if run.found["left"]:
            self._break(1, f"work is left that nobody does: {run.found['left']}")
        self._done = {actor: Counter(state["done"]) for actor, state in run.found["states"].items()}
        self._check_messages()
        self._check_states()
        self._check_told()

    def _break(self, promise: int, sentence: str) -> None:
        self.broken.append(f"promise {promise}: {sentence}")

    def _status(self, message: str) -> str:
        return self._run.found["results"][message]["status"]

    # --- messages -----------------------------------------------------------------------------------------------------

    def _check_messages(self) -> None:
        for message, sent in self._evidence.sent.items():
            if problem := self._problem_with(message, self._times_done(message, sent)):
                self._break(1, f"{message} ({sent}): {problem}")

    def _times_done(self, message: str, sent: Fact) -> int | None:
        """How often its number is in the state; None where that says nothing about this message."""
        times = self._done[sent["actor"]][sent["number"]]
        # A key that was free again may have named another message of this number, which is in the state as well.
        shared = len(self._evidence.messages_of[sent["number"]]) > 1 and times > 0
        return None if is_mortal(sent) or shared else times

    def _problem_with(self, message: str, times: int | None) -> str | None:
        """What is wrong with the outcome of an acknowledged message."""
        evidence, status = self._evidence, self._status(message)
        back = max((fact["order"] for fact in evidence.redelivered.get(message, ())), default=-1)
        asked = max(
            (fact["order"] for fact in evidence.redelivering.get(message, ()) if fact["order"] < back), default=-1
        )
        begun = [fact for fact in evidence.begun.get(message, ()) if fact["order"] > asked]
        dropped = evidence.may_be_cancelled(message, back)
        match status:
            case "completed" if begun or times:
                return None if times in (None, 1) else f"it completed, and its number is {times} times in the state"
            case "failed":
                return self._problem_with_failed(message, times)
            case "cancelled" if dropped:
                return "it was cancelled, and its number is in the state" if times else None
            case "queue.message_unknown" if evidence.may_be_pruned(message) and (
                times or dropped or (times is None and begun)
            ):
                return None
            case _:
                self.lost += 1
                since = f"since it was redelivered at {asked}" if back >= 0 else "ever"
                return f"it is lost: {status}, {len(begun)} attempts begun {since}, {times} times in the state"

    def _problem_with_failed(self, message: str, times: int | None) -> str | None:
        sent = self._evidence.sent[message]
        if times:
            return "it failed, and its number is in the state"
        if self._run.found["results"][message]["error"] == "crashed":
            return None if sent["queue"] == "poison" else "it is taken for what kills the host, and is not"
        failing = sum(1 for fact in self._evidence.of_kind["failing"] if fact["id"] == message)
        if not always_fails(sent["number"]) or failing < PATIENT.attempts:
            return f"it is a dead letter after {failing} failures: {self._run.found['results'][message]}"
        return None

    # --- states -------------------------------------------------------------------------------------------------------

    def _check_states(self) -> None:
        """What is in a state was asked for, once and settled; every acknowledged action and scheduled call is in."""
        for actor, state in self._run.found["states"].items():
            if actor.startswith("mortal/"):
                continue
            for name in ("done", "acted", "ticked"):
                counts, messages = Counter(state[name]), self._evidence.messages_of
                twice = [number for number, times in counts.items() if times > max(1, len(messages[number]))]
                if twice:
                    self._break(5, f"{actor}: {name} has {twice[:5]} more than once")
            acted = {"act": set(state["acted"]), "plan": set(state["ticked"])}
            for fact in self._evidence.of_kind["acted"]:
                if fact["actor"] == actor and fact["number"] not in acted[fact["what"]]:
                    self._break(
                        5, f"{actor}: {fact['what']} of {fact['number']} was acknowledged, and is not in the state"
                    )
            for number in set(state["done"]):
                self._check_settled(actor, number)

    def _check_settled(self, actor: str, number: int) -> None:
        """A number is in the state only if a message of it completed, and that may have been pruned since."""
        results = self._run.found["results"]
        statuses = {
            message: self._status(message) for message in self._evidence.messages_of[number] if message in results
        }
        for message, status in statuses.items():
            if status == "completed":
                return
            if status == "queue.message_unknown" and self._evidence.may_be_pruned(message):
                return
        # One that was begun at the very end only was not asked for: nobody was told its id before.
        begun = (fact for fact in self._evidence.of_kind["began"] if fact["life"] == self._run.last_life)
        if not any(fact["number"] == number for fact in begun):
            self._break(5, f"{actor}: {number} is in the state, and its messages are {statuses}")

    # --- waiters ------------------------------------------------------------------------------------------------------

    def _check_told(self) -> None:
        """What a waiter was told is what is stored."""
        for fact in self._evidence.of_kind["told"]:
            message, told = fact["id"], (fact["status"], fact["response"])
            if fact["status"] == "completed" and fact["response"] != answer_to(fact["number"]):
                self._break(8, f"{message} was answered with {fact['response']!r}")
            found = self._run.found["results"][message]
            if fact["status"] == "timed_out" or found["status"] == "queue.message_unknown":
                continue
            if message not in self._evidence.redelivered and (found["status"], found["response"]) != told:
                self._break(8, f"{message}: a waiter was told {told}, and in the end it is {found}")
