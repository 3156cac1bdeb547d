"""Bugs planted in the host under test: what shows that the harness can fail."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from agentq_nb._brokers.local.idempotency import IdempotencyKeys
from agentq_nb._core.codec import Schema
from agentq_nb._runtime.in_flight import InFlight
from agentq_nb._store import EventLog


def _replace(cls: type, name: str, function: Callable[..., Any]) -> None:
    assert name in vars(cls), f"{cls.__name__} has no {name}: nothing would be planted"
    setattr(cls, name, function)


def _dropping(kind: str, each: int) -> Callable[[], None]:
    """Every so many-th row of a kind is not written, though everybody is told that it was."""

    def plant() -> None:
        append_all, decide_all, count = EventLog.append, EventLog.decide, itertools.count(1)

        def kept(rows: Sequence[str]) -> list[str]:
            return [row for row in rows if row.partition("\t")[0] != kind or next(count) % each]

        def append(log: EventLog, rows: Sequence[str], *others: Any, **options: Any) -> None:
            append_all(log, kept(rows), *others, **options)

        async def decide(log: EventLog, job: Callable[[Any], tuple[Sequence[str], Any]], *others: Any) -> Any:
            def decide_less(connection: Any) -> tuple[Sequence[str], Any]:
                rows, value = job(connection)
                return kept(rows), value

            return await decide_all(log, decide_less, *others)

        _replace(EventLog, "append", append)
        _replace(EventLog, "decide", decide)

    return plant


def _acknowledge_early() -> None:
    """Who appends is answered before the commit."""
    original = EventLog.append

    def append(
        log: EventLog,
        rows: Sequence[str],
        done: Callable[[None], None] | None = None,
        time: float | None = None,
        **options: Any,
    ) -> None:
        original(log, rows, None, time, **options)
        if done is not None:
            done(None)

    _replace(EventLog, "append", append)


def _overlap() -> None:
    """Receivers do not wait for each other."""
    _replace(InFlight, "blockers", lambda self, receiver: [])


def _forget_keys() -> None:
    """No key names a message."""
    _replace(IdempotencyKeys, "find", lambda self, *place: None)


def _accept_anything() -> None:
    """Bodies are not validated."""
    original = Schema.dump

    def dump(schema: Any, value: Any, what: str) -> bytes:
        if isinstance(value, dict) and value.get("padding") == 7:
            value = {**value, "padding": ""}
        return original(schema, value, what)

    _replace(Schema, "dump", dump)


PLANTS: dict[str, Callable[[], None]] = {
    "acknowledge before the commit": _acknowledge_early,
    "lose a message": _dropping("message.queued", 25),
    "drop starts": _dropping("message.started", 1),
    "settle without state": _dropping("actor.state", 3),
    "drop a settlement": _dropping("message.completed", 10),
    "drop a resumption": _dropping("message.redelivered", 1),
    "hand out two at a time": _overlap,
    "forget keys": _forget_keys,
    "accept bad input": _accept_anything,
}
