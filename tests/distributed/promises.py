"""Holds what came of a run against what was promised."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from agentq_nb._brokers.postgres.session import LEASE
from tests.distributed import worker
from tests.distributed.run import MessageFound, Run
from tests.distributed.worker import answer_to
from tests.faults.facts import Fact

_APART = ("kill", "server", "failover")
"""Faults during which a host that works still has its leases: its actors work nowhere else."""


def broken_promises(run: Run) -> list[str]:
    """Return a sentence for everything that is not as promised."""
    if run.wrong:
        return run.wrong
    checks = (_acknowledged, _in_order, _states, _results, _one_at_a_time, _limits)
    return [sentence for check in checks for sentence in check(run)]


def of_kind(run: Run, fact: str) -> list[Fact]:
    """Return the facts of one kind."""
    return [one for one in run.facts if one["fact"] == fact]


# --- what is in the database ------------------------------------------------------------------------------------------


def _acknowledged(run: Run) -> Iterator[str]:
    """Every acknowledged message is settled once with its reply, and there are no others."""
    found = {message.id: message for message in run.messages}
    sent = {fact["id"]: fact for fact in of_kind(run, "sent")}
    for sent_id, fact in sent.items():
        message = found.get(sent_id)
        if message is None:
            yield f"{sent_id} ({fact['actor']} {fact['number']}) was acknowledged and is lost"
        elif (message.status, message.reply) != ("completed", answer_to(fact["actor"], fact["number"])):
            yield f"{sent_id} is {message.status} with reply {message.reply!r}, not completed by {fact['actor']}"
    for unknown in found.keys() - sent.keys():
        yield f"{unknown} is there and was never acknowledged, though its sender repeats it until it is"


def _in_order(run: Run) -> Iterator[str]:
    """Each actor settles its messages in the order they were sent."""
    for actor, messages in _by_actor(run).items():
        numbers = [message.number for message in messages]
        if numbers != list(range(run.plan.size.messages)):
            yield f"{actor} settled {numbers}"
        settled = [message.settled for message in messages]
        if settled != list(range(1, len(settled) + 1)):
            yield f"{actor}'s settlements are numbered {settled}"


def _states(run: Run) -> Iterator[str]:
    """The state of each actor is what its settlements make it."""
    for actor, messages in _by_actor(run).items():
        done = run.states.get(actor)
        if done != [message.number for message in messages]:
            yield f"the state of {actor} has {done}"


def _by_actor(run: Run) -> dict[str, list[MessageFound]]:
    actors: dict[str, list[MessageFound]] = defaultdict(list)
    for message in run.messages:
        actors[message.actor].append(message)
    return actors


# --- what the processes saw -------------------------------------------------------------------------------------------


def _results(run: Run) -> Iterator[str]:
    """Those who wait get the reply."""
    results = of_kind(run, "result")
    if not results:
        yield "no sender got a result"
    for fact in results:
        if (fact["status"], fact["reply"]) != ("completed", answer_to(fact["actor"], fact["number"])):
            yield f"a sender was told {fact}"


class Attempt(NamedTuple):
    """The time in which a message was handled and its host still had the actor."""

    life: int
    actor: str
    began: float
    left: float


def attempts(run: Run) -> list[Attempt]:
    """Return all attempts. One that a host was kept from ends with its lease at the latest."""
    away = {fact["life"]: fact["at"] for fact in of_kind(run, "away")}
    open_ones: dict[tuple[int, str], Fact] = {}
    found: list[Attempt] = []
    for fact in run.facts:
        if fact["fact"] == "began":
            open_ones[fact["life"], fact["id"]] = fact
        elif fact["fact"] == "left" and (began := open_ones.pop((fact["life"], fact["id"]), None)):
            found.append(_attempt(began, fact["at"], away))
    found += [_attempt(began, began["at"], away) for began in open_ones.values()]
    return sorted(found, key=lambda attempt: attempt.began)


def _attempt(began: Fact, left: float, away: dict[int, float]) -> Attempt:
    gone = away.get(began["life"])
    if gone is not None and began["at"] < gone < left:
        left = min(left, gone + LEASE)
    return Attempt(began["life"], began["actor"], began["at"], left)


def _one_at_a_time(run: Run) -> Iterator[str]:
    """An actor handles one message at a time, on one host, unless a host is cut off from the others for a lease."""
    if run.plan.kind not in _APART:
        return
    of_actor: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts(run):
        of_actor[attempt.actor].append(attempt)
    for actor, handled in of_actor.items():
        for one, other in pairwise(handled):
            if other.began < one.left and one.life != other.life:
                yield f"{actor} worked in life {one.life} until {one.left} and in life {other.life} from {other.began}"


# --- limits over all hosts --------------------------------------------------------------------------------------------


def _limits(run: Run) -> Iterator[str]:
    """No limit is exceeded over all hosts."""
    if not worker.LIMITED:
        return
    handled = attempts(run)
    events = sorted([(one.began, 1) for one in handled] + [(one.left, -1) for one in handled])
    at_once = most = 0
    for _, change in events:
        at_once += change
        most = max(most, at_once)
    if most > worker.AT_ONCE:
        yield f"{most} messages were handled at once, of {worker.AT_ONCE}"
    begun = [one.began for one in handled]
    for first, last in zip(begun, begun[worker.STARTS :], strict=False):
        if last - first < worker.PERIOD:
            yield f"more than {worker.STARTS} messages were started in the {worker.PERIOD} s from {first}"
            return
