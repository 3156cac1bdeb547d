"""Messages that wait for others: how those ended that did not complete, and what can wait again when they come back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from agentq_nb._actor.message import describe_text, headline
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._core.ids import MessageId
from agentq_nb.errors import PredecessorFailed, ValidationFailed

_ENDED = {"failed": "failed", "cancelled": "was cancelled", "expired": "expired"}


def lost(message: MessageId) -> StoredResult:
    """Return a result in place of that of a message that is not stored any more."""
    return StoredResult(message, "", "", "cancelled", error=describe_text("It is not stored any more."))


def sent_together(message: MessageId) -> ValidationFailed:
    """Return the error for a message that is to wait for another of the same send or batch."""
    return ValidationFailed(
        f"Nothing was sent: `after` names message {message}, which belongs to the same send or batch. Send what has to "
        "complete before first, and name its receipt."
    )


def how_it_ended(result: StoredResult) -> str:
    """Return how a message ended that did not complete, and why, as the end of a sentence."""
    said = _ENDED.get(result.status, "is not settled")
    error = result.error
    if error is None:
        return said
    if error.get("code") == PredecessorFailed.code:
        return f"{said}, because {error['metadata']['cause']}"
    return f"{said}: {headline(error)}" if result.actor else "is not stored any more"


def reason(cause: StoredResult) -> dict[str, Any]:
    """Return why a message is cancelled that waited for another, as a described error."""
    text = f"Message {cause.message}, which it waited for, {how_it_ended(cause)}"
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    facts = {"message_id": cause.message, **_first(cause)}
    return {**describe_text(text), "group": PredecessorFailed.group, "code": PredecessorFailed.code, "metadata": facts}


def _first(cause: StoredResult) -> dict[str, str]:
    """Return which message failed first, and how: the same for a whole chain, so that texts do not grow along it."""
    error = cause.error or {}
    if error.get("code") == PredecessorFailed.code:
        return {name: error["metadata"][name] for name in ("failed_first", "cause")}
    return {"failed_first": cause.message, "cause": f"message {cause.message} {how_it_ended(cause)}".rstrip(".")}


def reached_by(
    after: Mapping[MessageId, Collection[MessageId]],
    messages: Sequence[MessageId],
    completes: Callable[[MessageId], bool],
) -> list[MessageId]:
    """Return the cancelled messages that can wait again once ``messages`` are back: all that they wait for can complete."""
    dependents: dict[MessageId, list[MessageId]] = {}
    for message, waits_for in after.items():
        for one in set(waits_for):
            dependents.setdefault(one, []).append(message)
    back = dict.fromkeys(messages)
    pending = deque(messages)
    while pending:
        for message in dependents.get(pending.popleft(), ()):
            if message not in back and all(one in back or completes(one) for one in after[message]):
                back[message] = None
                pending.append(message)
    return list(back)[len(dict.fromkeys(messages)) :]
