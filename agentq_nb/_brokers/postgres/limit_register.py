"""The limits that the classes of this host declare, and by which names each queue has them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from agentq_nb._core.ids import ActorId, actor_name
from agentq_nb._policies.limits import ConcurrencyLimit, Limit
from agentq_nb._policies.rate_limit import RateLimit

Declared = Mapping[str, Sequence[Limit]]
"""The limits of the queues of one class."""


class QueueLimit(NamedTuple):
    """A limit as one queue has it: ``name`` is the limit's, or the queue's own; its starts count under ``counted_as``."""

    name: str
    counted_as: str
    declared: Limit


def own_name(actor: ActorId, queue: str) -> str:
    """Return what limits and pauses of one queue alone go by."""
    return f"{actor} {queue}"


def limits_of(actor: ActorId, queue: str, declared: Sequence[Limit]) -> tuple[QueueLimit, ...]:
    """Return the limits of one queue: without a name they go by ``worker/main tasks``, ``worker/main tasks #2`` and so on."""
    own = own_name(actor, queue)
    names = _numbered(own)
    return tuple(QueueLimit(limit.name or next(names), limit.name or own, limit) for limit in declared)


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name} #{number}" for number in itertools.count(2))


def as_json(limit: Limit) -> str:
    """Return a limit as JSON, which is equal for equal limits."""
    kind = "rate" if isinstance(limit, RateLimit) else "concurrency"
    return json.dumps({"kind": kind, **asdict(limit)}, sort_keys=True)


def from_json(text: str) -> Limit:
    """Return the limit that :func:`as_json` wrote."""
    facts: dict[str, Any] = json.loads(text)
    return RateLimit(**facts) if facts.pop("kind") == "rate" else ConcurrencyLimit(**facts)


class LimitRegister:
    """What this host has declared, by the registered names of its classes."""

    def __init__(self) -> None:
        self.declared: dict[str, Declared] = {}

    def declare(self, name: str, declared: Declared) -> None:
        """Replace the limits of a class."""
        if declared:
            self.declared[name] = declared
        else:
            self.declared.pop(name, None)

    def limits(self, actor: ActorId, queues: Collection[str] | None = None) -> dict[str, tuple[QueueLimit, ...]]:
        """Return the limits of an actor's queues that have any; of these queues, or of all."""
        declared = self.declared.get(actor_name(actor), {})
        return {
            queue: limits_of(actor, queue, some)
            for queue, some in declared.items()
            if queues is None or queue in queues
        }

    def names(self, actor: ActorId) -> list[str]:
        """Return the names of all limits that queues of the actor share with others, in the order in which they are locked."""
        declared = self.declared.get(actor_name(actor))
        if declared is None:
            return []
        return sorted({limit.name for some in declared.values() for limit in some if limit.name is not None})

    def queues(self, names: Collection[str]) -> list[tuple[str, str]]:
        """Return the queues with limits of these classes, each with its class's name."""
        return [(name, queue) for name in names for queue in self.declared.get(name, {})]
