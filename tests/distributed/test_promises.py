"""The promises that runs are held against: each one that is broken is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.distributed import worker
from tests.distributed.plan import Size, make_plan
from tests.distributed.promises import broken_promises
from tests.distributed.run import MessageFound, Run
from tests.distributed.worker import answer_to
from tests.faults.facts import Fact

ACTOR = "worker/0"


def fact(kind: str, at: float = 0.0, life: int = 1, **values: Any) -> Fact:
    return {"fact": kind, "at": at, "life": life, **values}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run in which all was well: two messages, one after the other."""
    run = Run(make_plan(0, "kill", Size(actors=1, messages=2, pace=0.0, strikes=0)), tmp_path)
    for number in range(2):
        run.messages.append(
            MessageFound(f"m{number}", ACTOR, "completed", number + 1, number, answer_to(ACTOR, number))
        )
        run.facts += [
            fact("sent", id=f"m{number}", actor=ACTOR, number=number),
            fact("began", number, id=f"m{number}", actor=ACTOR),
            fact("left", number + 0.5, id=f"m{number}", actor=ACTOR),
        ]
    run.facts.append(fact("result", actor=ACTOR, number=1, status="completed", reply=answer_to(ACTOR, 1)))
    run.states[ACTOR] = [0, 1]
    return run


def test_a_run_in_which_all_was_well_breaks_none(run: Run) -> None:
    assert broken_promises(run) == []


def test_a_message_that_is_lost_is_found(run: Run) -> None:
    del run.messages[1]
    assert "m1 (worker/0 1) was acknowledged and is lost" in broken_promises(run)


def test_a_message_that_nothing_acknowledged_is_found(run: Run) -> None:
    run.messages.append(MessageFound("m9", ACTOR, "completed", 3, 1, answer_to(ACTOR, 1)))
    assert any(sentence.startswith("m9 is there") for sentence in broken_promises(run))


@pytest.mark.parametrize("change", [{"status": "failed"}, {"reply": None}, {"reply": answer_to(ACTOR, 0)}])
def test_another_settlement_or_reply_is_found(run: Run, change: dict[str, Any]) -> None:
    run.messages[1] = run.messages[1]._replace(**change)
    assert len(broken_promises(run)) == 1


def test_another_order_is_found(run: Run) -> None:
    first, second = run.messages
    run.messages = [second._replace(settled=1), first._replace(settled=2)]
    assert any("settled [1, 0]" in sentence for sentence in broken_promises(run))


def test_two_settlements_of_one_message_are_found(run: Run) -> None:
    run.messages[1] = run.messages[1]._replace(settled=3)
    assert len(broken_promises(run)) == 1


@pytest.mark.parametrize("state", [[0], [0, 1, 1], [1, 0], None])
def test_a_state_that_its_settlements_do_not_make_is_found(run: Run, state: list[int] | None) -> None:
    run.states = {} if state is None else {ACTOR: state}
    assert len(broken_promises(run)) == 1


def test_a_reply_that_never_arrives_is_found(run: Run) -> None:
    run.facts = [one for one in run.facts if one["fact"] != "result"]
    assert broken_promises(run) == ["no sender got a result"]


def test_an_actor_that_works_on_two_hosts_at_once_is_found(run: Run) -> None:
    run.facts.insert(0, fact("began", 0.2, life=2, id="m1", actor=ACTOR))
    run.facts.append(fact("left", 0.4, life=2, id="m1", actor=ACTOR))
    assert any("worked in life 1 until 0.5 and in life 2" in sentence for sentence in broken_promises(run))


def test_limits_that_are_exceeded_over_all_hosts_are_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LIMITED", True)
    monkeypatch.setattr(worker, "AT_ONCE", 1)
    assert broken_promises(run) == []
    run.facts.append(fact("began", 0.2, life=2, id="m2", actor="worker/1"))
    run.facts.append(fact("left", 0.4, life=2, id="m2", actor="worker/1"))
    assert broken_promises(run) == ["2 messages were handled at once, of 1"]
    monkeypatch.setattr(worker, "AT_ONCE", 2)
    monkeypatch.setattr(worker, "STARTS", 2)
    assert broken_promises(run) == []
    monkeypatch.setattr(worker, "STARTS", 1)
    assert len(broken_promises(run)) == 1
