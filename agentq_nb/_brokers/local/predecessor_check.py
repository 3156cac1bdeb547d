"""Check what new messages are sent after: it must exist in this file, and be able to complete."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import TypeAlias

from agentq_nb._brokers.chains import how_it_ended, sent_together
from agentq_nb._brokers.local import predecessors
from agentq_nb._brokers.local.commit import CommitLog
from agentq_nb._brokers.local.predecessors import Known
from agentq_nb._core.ids import MessageId
from agentq_nb._store import Connection
from agentq_nb.errors import PredecessorFailed, PredecessorUnknown

Answers: TypeAlias = Mapping[MessageId, Known | None]
"""What the log says of messages; None: it does not have the message."""


class NotAsked(Exception):
    """A message was settled since the log was asked: ask it again."""


def to_ask(commit_log: CommitLog, after: Iterable[MessageId]) -> list[MessageId]:
    """Return those messages that only the log knows."""
    entries, settling = commit_log.live_messages.entries, commit_log.results.settling
    return [message for message in after if message not in entries and message not in settling]


def ask(connection: Connection, messages: Collection[MessageId]) -> Answers:
    """Ask the log, in the writer's thread."""
    found = predecessors.read(predecessors.fetching(connection), messages)
    return {message: found.get(message) for message in messages}


def check(commit_log: CommitLog, after: Iterable[MessageId], own: Collection[MessageId], answers: Answers) -> None:
    """Check that messages may be sent after these. ``own`` are those that are sent with them, or are in the same batch.

    Raises PredecessorUnknown, PredecessorFailed, ValidationFailed, NotAsked.
    """
    entries, settling = commit_log.live_messages.entries, commit_log.results.settling
    for message in after:
        if message in own:
            raise sent_together(message)
        if message in entries:
            continue
        if (result := settling.get(message)) is None:
            if message not in answers:
                raise NotAsked
            if (known := answers[message]) is None:
                raise PredecessorUnknown(message)
            result = known.result
        if result.status != "completed":
            raise PredecessorFailed(message, how_it_ended(result))


def check_again(commit_log: CommitLog, after: Iterable[MessageId]) -> None:
    """Check messages that were live a moment ago, from memory. Raises PredecessorFailed."""
    entries, settling, remembered = (
        commit_log.live_messages.entries,
        commit_log.results.settling,
        commit_log.results.remembered,
    )
    for message in after:
        result = None if message in entries else settling.get(message) or remembered.get(message)
        # One that is not remembered has completed: only large replies are not.
        if result is not None and result.status != "completed":
            raise PredecessorFailed(message, how_it_ended(result))


async def look_up(commit_log: CommitLog, after: Collection[MessageId], own: Collection[MessageId]) -> None:
    """Do what :func:`check` does, asking the log where that is needed."""
    while True:
        asked = to_ask(commit_log, after)
        answers: Answers = {}
        if asked:
            answers = await commit_log.decide(lambda connection, asked=asked: ((), ask(connection, asked)))
        with suppress(NotAsked):
            return check(commit_log, after, own, answers)
