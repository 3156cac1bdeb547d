"""The statuses of a message, and groups of them. Each final status has its own kind of event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias, get_args

LiveStatus: TypeAlias = Literal["queued", "delayed", "blocked", "running"]
FinalStatus: TypeAlias = Literal["completed", "failed", "cancelled", "expired"]
MessageStatus: TypeAlias = LiveStatus | FinalStatus

LIVE: tuple[LiveStatus, ...] = get_args(LiveStatus)
FINAL: tuple[FinalStatus, ...] = get_args(FinalStatus)
ALL: tuple[MessageStatus, ...] = (*LIVE, *FINAL)

WAITING: tuple[LiveStatus, ...] = ("queued", "delayed", "blocked")
"""Not being handled. ``blocked``: until other messages have completed."""
HANDLED: tuple[FinalStatus, ...] = ("completed", "failed")
"""Ended by a handler, successfully or not."""
REDELIVERABLE: tuple[FinalStatus, ...] = ("failed", "cancelled", "expired")
"""Ended without a reply, so that the message can be put back."""
PRUNABLE: tuple[FinalStatus, ...] = ("completed", "cancelled", "expired")
"""Deleted by pruning once old. Dead letters stay."""


def kinds(statuses: Iterable[FinalStatus]) -> tuple[str, ...]:
    """Return the kinds of the events after which a message has these statuses."""
    return tuple(f"message.{status}" for status in statuses)


STATUS_AFTER: Mapping[str, FinalStatus] = dict(zip(kinds(FINAL), FINAL, strict=True))
"""The final status that results from each kind of last event."""


def is_final(status: MessageStatus) -> bool:
    return status in FINAL


def sql_list(names: Iterable[str]) -> str:
    """Return statuses or kinds as an SQL list, for ``in``. Their names need no quoting."""
    quoted = [f"'{name}'" for name in names]
    return f"({', '.join(quoted)})"
