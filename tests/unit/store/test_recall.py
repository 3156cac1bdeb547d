"""What the log tells a host at its start, compared with a plain model on random histories."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from agentq_nb._brokers.local.idempotency import number_of
from agentq_nb._store import EventLog, Row
from tests.unit.store.helpers import append, event, queued, with_log

SENT = "select seq, message_id from events where kind = 'message.queued'"
FINAL = ("message.completed", "message.failed", "message.cancelled", "message.expired")


class Model:
    """A history as it could have been, and what is left of it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rows: list[Row] = []
        self.status: dict[str, str] = {}
        self.keys: dict[str, str | None] = {}

    def step(self) -> None:
        choose = self.random.random()
        live = [message for message, status in self.status.items() if status not in FINAL]
        ended = [message for message, status in self.status.items() if status in FINAL[1:]]
        if choose < 0.35 or not self.status:
            message = f"m{len(self.status):04d}"
            key = self.random.choice([None, None, f"key of {message}"])
            self.keys[message] = key
            named: dict[str, Any] = self.random.choice([{"options": {"idempotency_key": key}}, {"key": key}])
            self.add(message, queued(message, **named) if key else queued(message, body={"key": "in the body"}))
        elif choose < 0.45 and ended:
            self.add(self.random.choice(ended), event("message.redelivered"))
        elif live:
            kind = self.random.choice(["started", "retried", "released", "crashed", "cancel_requested", *FINAL])
            self.add(self.random.choice(live), event(kind if "." in kind else f"message.{kind}"))

    def add(self, message: str, row: Row) -> None:
        kind, actor, _, session, data = row.split("\t")
        self.rows.append("\t".join((kind, actor, message, session, data)))
        self.status[message] = kind


def test_live_rows_dead_letters_and_keys_are_those_of_a_plain_model(path: Path) -> None:
    model = Model(11)
    for _ in range(3000):
        model.step()

    async def use(log: EventLog) -> None:
        await append(log, *model.rows)
        live = {message for message, status in model.status.items() if status not in FINAL}
        assert [(row[0], row[2], row[4]) for row in log.live_rows()] == [
            (number, row.split("\t")[0], row.split("\t")[2])
            for number, row in enumerate(model.rows, 1)
            if row.split("\t")[2] in live
        ]
        dead = [message for message, status in model.status.items() if status == "message.failed"]
        assert log.dead_counts() == [("worker/main", "tasks", message) for message in dead]
        sent = {message: seq for seq, message in log.fetch(SENT)}
        assert sorted(log.completed_keys()) == sorted(
            (number_of(("worker/main", "tasks", key)), sent[message])
            for message, key in model.keys.items()
            if key is not None and model.status[message] == "message.completed"
        )
        assert len(live) > 20
        assert len(dead) > 20

    with_log(path, use)


def test_a_live_row_has_its_time_and_its_data_as_it_was_written(path: Path) -> None:
    async def use(log: EventLog) -> None:
        await append(log, queued("a", body="ü\u0000"), time=1_800_000_000.25)
        assert log.live_rows() == [
            (1, 1_800_000_000.25, "message.queued", "worker/main", "a", '{"queue": "tasks", "body": "\\u00fc\\u0000"}')
        ]
        assert log.message_rows("a") == log.live_rows()
        assert log.message_rows("b") == []

    with_log(path, use)


def test_the_latest_state_of_each_actor_that_was_not_destroyed_is_found(path: Path) -> None:
    async def use(log: EventLog) -> None:
        await append(
            log,
            event("actor.created", actor="a/1", input={"size": 3}),
            event("actor.created", actor="a/2", input=None),
            event("actor.state", actor="a/1", state={"count": 1}),
            event("actor.state", actor="a/1", state={"count": 2}),
            event("actor.created", actor="a/3"),
            event("actor.state", actor="a/3", state={"count": 9}),
            event("actor.destroyed", actor="a/3"),
            event("actor.created", actor="a/4"),
            event("actor.state", actor="a/4", state={"old": True}),
            event("actor.destroyed", actor="a/4"),
            event("actor.created", actor="a/4", input=7),
        )
        assert log.actor_states() == [("a/1", '{"count":2}'), ("a/2", None), ("a/4", None)]

    with_log(path, use)


def test_whether_the_host_before_stopped_in_order_is_known(path: Path) -> None:
    async def started(log: EventLog) -> bool:
        before = log.closed_cleanly()
        await append(log, event("host.started", actor=None))
        assert log.closed_cleanly() == before  # what this host writes does not change the answer
        return before

    async def stopped(log: EventLog) -> bool:
        before = log.closed_cleanly()
        await append(log, event("host.started", actor=None), event("host.stopped", actor=None))
        return before

    assert [with_log(path, use) for use in (stopped, started, stopped, stopped)] == [True, True, False, True]
