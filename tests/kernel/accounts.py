"""What the kill tests find: the journals of every life of the kernel held against the log and the actors' states."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import duckdb

from tests.kernel.killing import ACTORS, QUEUES, RESULTS, STORE, Fact, answer_to, is_refused, read_journal

Place = tuple[str, str]
"""Actor id and queue."""

_ENDS = ("message.completed", "message.failed", "message.cancelled", "message.expired")


def read_journals(folder: Path) -> list[list[Fact]]:
    """The facts of each life, oldest first."""
    return [read_journal(folder, life) for life in range(len(list(folder.glob("journal-*"))))]


def doubtful(lives: list[list[Fact]]) -> list[tuple[str, str, str, int]]:
    """Keyed sends that were never acknowledged: actor, key, queue, number."""
    facts = [fact for life in lives for fact in life]
    sent = {fact["number"] for fact in facts if fact["fact"] == "sent"}
    asked = {fact["number"]: fact for fact in facts if fact["fact"] == "sending" and fact["keyed"]}
    return [(*fact["actor"].split("/"), fact["queue"], number) for number, fact in asked.items() if number not in sent]


@dataclass
class Log:
    """The file, read by DuckDB alone once nobody holds it."""

    messages: dict[str, dict[str, Any]]
    events: list[tuple[int, str, str, str, dict[str, Any]]]
    """Of messages: seq, kind, actor id, message id, data."""
    hosts: list[tuple[int, int]]
    """Where each host began: seq and process id."""
    states: dict[str, Any]

    @staticmethod
    def read(folder: Path) -> Log:
        with duckdb.connect(str(folder / STORE), read_only=True) as file:
            messages = file.execute("select message_id, actor_id, queue, status, body->>'number' from messages")
            found = {
                row[0]: {"actor": row[1], "queue": row[2], "status": row[3], "number": int(row[4])}
                for row in messages.fetchall()
            }
            events = file.execute(
                "select seq, kind, actor_id, message_id, data from events where message_id is not null order by seq"
            ).fetchall()
            hosts = file.execute("select seq, data->>'pid' from events where kind = 'host.started' order by seq")
            return Log(
                found,
                [(*row[:4], json.loads(row[4])) for row in events],
                [(seq, int(pid)) for seq, pid in hosts.fetchall()],
                {row[0]: json.loads(row[1]) for row in file.execute("select actor_id, state from actors").fetchall()},
            )


@dataclass
class Accounts:
    """The reckoning. ``wrong`` holds a sentence for every promise that was broken."""

    lives: list[list[Fact]]
    log: Log
    results: dict[str, Any]
    states: dict[str, Any]
    wrong: list[str] = field(default_factory=list[str])
    repeats: int = 0
    lost: int = 0

    @staticmethod
    def of(folder: Path) -> Accounts:
        """Read everything and check everything."""
        last = json.loads((folder / RESULTS).read_text())
        accounts = Accounts(read_journals(folder), Log.read(folder), last["results"], last["states"])
        accounts.check_acknowledged()
        accounts.check_settled_once()
        accounts.check_nothing_runs_again()
        accounts.check_repeats()
        accounts.check_in_flight_first()
        accounts.check_results()
        accounts.check_states()
        return accounts

    def facts(self, *kinds: str) -> list[tuple[int, Fact]]:
        """The facts of these kinds with the life they belong to, in order."""
        return [(life, fact) for life, facts in enumerate(self.lives) for fact in facts if fact["fact"] in kinds]

    @property
    def acknowledged(self) -> dict[str, int]:
        """The messages whose sender was told that they are on disk, and their numbers."""
        return {fact["id"]: fact["number"] for _, fact in self.facts("sent", "answered")}

    def summary(self, kills: int) -> str:
        """One line for people."""
        lives = f"{kills} kills, {len(self.log.messages)} messages, {len(self.acknowledged)} acknowledged"
        begun, acted = len(self.facts("began")), len(self.facts("acted"))
        crashes = sum(kind == "message.crashed" for _, kind, *_ in self.log.events)
        return (
            f"{lives}, {acted} acknowledged actions, {begun} attempts begun, {crashes} in flight at a kill, "
            f"{self.repeats} repeats, lost {self.lost}, promises broken {len(self.wrong)}"
        )

    # --- messages -----------------------------------------------------------------------------------------------------

    def check_acknowledged(self) -> None:
        """What was acknowledged is in the file, with the number it was sent with; nothing is there twice."""
        for message, number in self.acknowledged.items():
            found = self.log.messages.get(message)
            if found is None or found["number"] != number:
                self.lost += 1
                self.wrong.append(f"message {message} ({number}) was acknowledged and is {found}")
        numbers = Counter(found["number"] for found in self.log.messages.values())
        self.wrong += [f"number {number} is there {count} times" for number, count in numbers.items() if count > 1]
        sending = {fact["number"] for _, fact in self.facts("sending")}
        self.wrong += [f"nobody sent number {number}" for number in numbers.keys() - sending]

    def check_settled_once(self) -> None:
        """Every message has exactly one end, and every attempt is numbered by those before it."""
        ends = Counter(message for _, kind, _, message, _ in self.log.events if kind in _ENDS)
        for message in self.log.messages:
            if ends[message] != 1:
                self.wrong.append(f"message {message} was settled {ends[message]} times")
        attempts = Counter[str]()
        for _, kind, _, message, data in self.log.events:
            if kind in ("message.retried", "message.crashed"):
                attempts[message] += 1
            elif kind == "message.started" and data["attempt"] != attempts[message] + 1:
                self.wrong.append(f"message {message}: attempt {data['attempt']} after {attempts[message]} that ended")

    def check_nothing_runs_again(self) -> None:
        """After ``complete`` or ``fail`` returned the handler is not called again, and the life's own log says so."""
        ended: dict[str, int] = {}
        for life, fact in self.facts("began", "completed"):
            if fact["fact"] == "completed":
                ended[fact["id"]] = life
            elif fact["id"] in ended:
                self.wrong.append(f"message {fact['id']} was completed in life {ended[fact['id']]} and ran in {life}")
        bounds = self._bounds()
        at = {message: seq for seq, kind, _, message, _ in self.log.events if kind in _ENDS}
        for message, life in ended.items():
            if life not in bounds or at.get(message, 0) not in bounds[life]:
                self.wrong.append(f"message {message} was completed in life {life}, but not in its log")

    def _bounds(self) -> dict[int, range]:
        """The sequence numbers that each life wrote."""
        lives = {fact["pid"]: life for life, fact in self.facts("opening")}
        starts = [*self.log.hosts, (max(seq for seq, *_ in self.log.events) + 2, 0)]
        return {lives[pid]: range(seq, following) for (seq, pid), (following, _) in pairwise(starts) if pid in lives}

    def check_repeats(self) -> None:
        """A kill repeats the last ones begun: at most one that is to be completed, and no plain one before the last."""
        begun: dict[tuple[int, str, str], list[str]] = defaultdict(list)
        last_life: dict[str, int] = {}
        for life, fact in self.facts("began"):
            begun[life, fact["actor"], fact["queue"]].append(fact["id"])
            if last_life.setdefault(fact["id"], life) != life:
                self.repeats += 1
            last_life[fact["id"]] = life
        for (life, actor, queue), messages in begun.items():
            if actor.startswith("both"):
                continue  # a handler that fails takes its sibling's attempt with it, so more of them come again
            repeated = [last_life[message] > life for message in messages if not self._fails_first(message)]
            if queue == "answer" and sum(repeated[:-1]):
                self.wrong.append(f"life {life} repeats more of {actor} than what was in flight")
            if repeated != sorted(repeated):
                self.wrong.append(f"life {life} repeats a message of {actor} and not those begun after it")

    def _fails_first(self, message: str) -> bool:
        """Whether the handler fails or puts off the first attempt: such a message comes again without a kill."""
        number = self.log.messages[message]["number"]
        return number % 13 == 3 or number % 7 == 1

    def check_in_flight_first(self) -> None:
        """After a kill nothing new is started in a queue before what was in flight there."""
        waiting: dict[Place, set[str]] = defaultdict(set)
        for _, kind, actor, message, data in self.log.events:
            place = (actor, self.log.messages[message]["queue"])
            if kind == "message.crashed":
                waiting[place].add(message)
            elif kind == "message.started":
                waiting[place].discard(message)
                if data["attempt"] == 1 and waiting[place]:
                    self.wrong.append(f"{message} was started before {waiting[place]}, which was in flight in {place}")
        self.wrong += [
            f"{left} of {place} was in flight and never came again" for place, left in waiting.items() if left
        ]

    # --- results and states -------------------------------------------------------------------------------------------

    def check_results(self) -> None:
        """Each receipt of an acknowledged message gives its result, the one that its waiter got earlier too."""
        for message in self.acknowledged:
            found = self.log.messages.get(message)
            if found is not None:
                self._check_result(message, found, self.results.get(message))
        for _, fact in self.facts("answered"):
            given = {"status": fact["status"], "response": fact["response"]}
            if given != self.results.get(fact["id"]):
                self.wrong.append(f"message {fact['id']}: its waiter got {given}")

    def _check_result(self, message: str, found: dict[str, Any], told: dict[str, Any] | None) -> None:
        expected: dict[str, Any] = {"status": "completed", "response": None}
        if found["queue"] == "answer":
            refused = is_refused(found["number"])
            reply = None if refused else answer_to(found["number"])
            expected = {"status": "failed" if refused else "completed", "response": reply}
        if told != expected or found["status"] != expected["status"]:
            self.wrong.append(f"message {message} gave {told} and is {found}, expected {expected}")

    def check_states(self) -> None:
        """A state is the fold of the messages completed and the actions acknowledged: in memory and in the file."""
        if self.states != self.log.states:
            self.wrong.append("the states in memory are not those in the file")
        for actor, key in ACTORS:
            state = self.log.states[f"{actor}/{key}"]
            for queue, name in (("handle", "handled"), ("answer", "answered")):
                numbers = self._completed(f"{actor}/{key}", queue)
                if queue in QUEUES[actor] and not numbers:
                    self.wrong.append(f"{actor}/{key} completed nothing of {queue}")
                if state[name] != {"count": len(numbers), "total": sum(numbers)}:
                    self.wrong.append(
                        f"{actor}/{key}: {name} is {state[name]}, not the fold of {len(numbers)} messages"
                    )
            self._check_actions(f"{actor}/{key}", state["acted"])

    def _completed(self, actor: str, queue: str) -> list[int]:
        return [
            found["number"]
            for found in self.log.messages.values()
            if (found["actor"], found["queue"], found["status"]) == (actor, queue, "completed")
        ]

    def _check_actions(self, actor: str, acted: dict[str, Any]) -> None:
        """All that were acknowledged are in; of those a kill cut off, any may be."""
        for life in range(len(self.lives)):
            asked = self._numbers_of("acting", life, actor)
            done = self._numbers_of("acted", life, actor)
            account = acted.get(str(life), {"count": 0, "total": 0})
            possible = [
                {"count": len(done) + size, "total": sum(done) + sum(more)}
                for size in range(len(asked - done) + 1)
                for more in combinations(asked - done, size)
            ]
            if account not in possible:
                self.wrong.append(f"{actor}: acted in life {life} is {account}, not one of {possible}")

    def _numbers_of(self, kind: str, life: int, actor: str) -> set[int]:
        facts = self.lives[life]
        return {fact["number"] for fact in facts if fact["fact"] == kind and fact["actor"] == actor}
