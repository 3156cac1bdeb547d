"""The statuses of a message, in one list, and what they mean for it. Each final one has a kind of event of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias, get_args

LiveStatus: TypeAlias = Literal["queued", "delayed", "running"]
FinalStatus: TypeAlias = Literal["completed", "failed", "cancelled", "expired"]
MessageStatus: TypeAlias = LiveStatus | FinalStatus

LIVE: tuple[LiveStatus, ...] = get_args(LiveStatus)
FINAL: tuple[FinalStatus, ...] = get_args(FinalStatus)
ALL: tuple[MessageStatus, ...] = (*LIVE, *FINAL)

WAITING: tuple[LiveStatus, ...] = ("queued", "delayed")
"""Nobody handles it."""
HANDLED: tuple[FinalStatus, ...] = ("completed", "failed")
"""A handler has ended with it, for good or for bad."""
REDELIVERABLE: tuple[FinalStatus, ...] = ("failed", "cancelled", "expired")
"""It ended without a reply, and can be put back."""
PRUNABLE: tuple[FinalStatus, ...] = ("completed", "cancelled", "expired")
"""It may be dropped once it is old. Dead letters stay."""


def kinds(statuses: Iterable[FinalStatus]) -> tuple[str, ...]:
    """The kinds of the events after which a message has these statuses."""
    return tuple(f"message.{status}" for status in statuses)


STATUS_AFTER: Mapping[str, FinalStatus] = dict(zip(kinds(FINAL), FINAL, strict=True))
"""By the kind of a message's last event, the final status it gives."""


def is_live(status: MessageStatus) -> bool:
    return status in LIVE


def is_final(status: MessageStatus) -> bool:
    return status in FINAL


def sql_list(names: Iterable[str]) -> str:
    """Statuses or kinds as SQL takes them after ``in``. Their names need no quoting."""
    quoted = [f"'{name}'" for name in names]
    return f"({', '.join(quoted)})"
