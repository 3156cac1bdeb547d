"""Count failures by kind, and log a warning for the first ones of each, and for each queue that they stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from agentq_nb._actor.message import brief
from agentq_nb._core.ids import ActorId, MessageId, actor_name

_MOST_KINDS = 1000
"""Kinds that are counted separately; after that all counts restart."""


class Kind(NamedTuple):
    """Failures that are reported together: of the same part of the same actors, with errors of one type.

    ``queue`` is the queue of messages that failed, else None; ``where`` is then ``run``, a hook or an action.
    """

    name: str
    queue: str | None
    where: str
    error: str


@dataclass(frozen=True)
class Failure:
    """The failures of one kind: their number, and the last error in brief."""

    kind: Kind
    count: int
    error: str

    @property
    def text(self) -> str:
        """One sentence without its full stop."""
        kind, many = self.kind, self.count > 1
        if kind.queue is not None:
            subject = f"{self.count:,} messages" if many else "1 message"
            return f"{subject} of {kind.name}, queue '{kind.queue}', failed: {self.error}"
        times = f" {self.count:,} times" if many else ""
        return f"{kind.where} of {kind.name} failed{times}: {self.error}"


Counts: TypeAlias = dict[Kind, Failure]


class Failures:
    """All failures in this process so far. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counts = {}

    def note_message(self, message: MessageId, actor: ActorId, queue: str, error: Mapping[str, Any] | None) -> None:
        """Record that a message became a dead letter."""
        kind = Kind(actor_name(actor), queue, "", str((error or {}).get("type", "")))
        failure = self._count(kind, error)
        if _worth_a_line(failure.count):
            self._warn(actor, f"Message {message} of '{actor}', queue '{queue}', failed: {failure.error}", failure)

    def note_actor(self, actor: ActorId, where: str, error: Mapping[str, Any]) -> None:
        """Record that ``run``, a hook or an action of an actor failed."""
        failure = self._count(Kind(actor_name(actor), None, where, str(error.get("type", ""))), error)
        if _worth_a_line(failure.count):
            self._warn(actor, f"{where} of '{actor}' failed: {failure.error}", failure)

    def counts(self) -> Counts:
        """Return the failures so far by kind."""
        with self._lock:
            return dict(self._counts)

    def _count(self, kind: Kind, error: Mapping[str, Any] | None) -> Failure:
        with self._lock:
            if len(self._counts) >= _MOST_KINDS:
                self._counts.clear()
            known = self._counts.get(kind)
            failure = Failure(kind, 1 if known is None else known.count + 1, brief(error) or "no reason was given")
            self._counts[kind] = failure
            return failure

    def _warn(self, actor: ActorId, text: str, failure: Failure) -> None:
        alike = f" ({failure.count:,} failures like this so far)" if failure.count > 1 else ""
        logger = logging.getLogger(f"agentq.{failure.kind.name}")
        logger.warning("%s%s", text, alike, extra={"actor_id": actor, "failure": failure})


def warn_of_stop(actor: ActorId, queue: str, reason: str | None) -> None:
    """Log that failures have stopped a queue."""
    logging.getLogger(f"agentq.{actor_name(actor)}").warning(
        "Queue '%s' of '%s' has stopped: %s. Messages that wait in it are kept. Correct the cause, then resume it: %%agentq resume %s %s",
        *(queue, actor, reason, actor, queue),
        extra={"actor_id": actor},
    )


def new_failures(before: Counts, now: Counts) -> list[Failure]:
    """Return the failures added between two counts.

    A failure of ``run`` is left out where messages failed with the same error: it is the same failure.
    """
    added = [
        Failure(kind, failure.count - known, failure.error)
        for kind, failure in now.items()
        if (known := _known(before, failure)) != failure.count
    ]
    messages = {(failure.kind.name, failure.kind.error) for failure in added if failure.kind.queue is not None}
    return [
        failure
        for failure in added
        if failure.kind.queue is not None or (failure.kind.name, failure.kind.error) not in messages
    ]


def _known(before: Counts, failure: Failure) -> int:
    known = before.get(failure.kind)
    return known.count if known is not None and known.count <= failure.count else 0


def _worth_a_line(count: int) -> bool:
    """Whether to log the failure with this number: 1, 2, 3, 10, 100, …, so five hundred failures log five lines."""
    return count <= 3 or count == 10 ** (len(str(count)) - 1)


FAILURES = Failures()
"""The failures of this process."""
