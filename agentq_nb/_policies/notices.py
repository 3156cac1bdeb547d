"""Which notifications are sent about what happened, and when: similar events are one notice. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

NoticeKind: TypeAlias = Literal["done", "failed", "approval", "limit", "stopped", "budget", "test"]
"""What a notice is about.

A batch is done; messages are dead letters; an agent asks for permission; a provider's limit is reached; failures have
stopped a queue; a budget is spent; ``test`` was asked for by the user.
"""

BUDGET_SPENT = "budget.spent"
"""The kind of the log's row that says that a budget is spent. Its data has ``budget``, a name, and ``text``, a sentence."""


def budget_spent(budget: str, text: str, period: str = "") -> dict[str, str]:
    """Return the data of a row of the kind :data:`BUDGET_SPENT`, for one ``period`` of the budget; it is sent once."""
    return {"budget": budget, "text": text, "period": period}


WINDOW = 3.0
"""Seconds in which similar events are gathered before a notice is sent."""
QUIET: Mapping[NoticeKind, float] = {"failed": 600.0, "limit": 600.0, "approval": 30.0, "stopped": 60.0}
"""Seconds after a notice in which further similar events are gathered. For other kinds there is none."""
_MOST_GROUPS = 1000
"""Groups that wait at the same time. Of more, those of a kind are joined."""


@dataclass(frozen=True)
class Notice:
    """A notification, as it is sent.

    :ivar title: one line.
    :ivar text: sentences. They have no bodies of messages and no texts of errors.
    :ivar count: how many events it is about.
    """

    kind: NoticeKind
    title: str
    text: str
    count: int = 1


class Happened(NamedTuple):
    """One event.

    :ivar subject: what it is about. Events of one kind and subject are alike.
    :ivar one: the title for one event of its subject, and ``many`` that for several, with ``{count}``.
    :ivar text: more sentences, those of the latest event.
    :ivar request: the id of a permission request, which is not sent once it has been answered.
    """

    kind: NoticeKind
    subject: str
    one: str
    many: str
    text: str
    request: str | None = None


@dataclass
class _Group:
    kind: NoticeKind
    one: str
    many: str
    text: str
    due: float
    count: int = 0
    requests: list[str] = field(default_factory=list[str])


class Grouping:
    """Gathers events into notices. Times are in seconds since 1970. Its state can be written as JSON."""

    def __init__(self, stored: Mapping[str, Any] | None = None) -> None:
        stored = stored or {}
        self._groups: dict[str, _Group] = {key: _Group(**group) for key, group in stored.get("groups", {}).items()}
        self._quiet: dict[str, float] = dict(stored.get("quiet", {}))

    def stored(self) -> dict[str, Any]:
        """Return the state, from which another grouping continues."""
        return {"groups": {key: vars(group) for key, group in self._groups.items()}, "quiet": self._quiet}

    @property
    def waits(self) -> bool:
        """Whether events wait for their notice."""
        return bool(self._groups)

    def add(self, happened: Happened, now: float) -> None:
        """Take in an event."""
        key = f"{happened.kind} {happened.subject}"
        if key not in self._groups and len(self._groups) >= _MOST_GROUPS:
            key = f"{happened.kind} and others"
        group = self._groups.get(key)
        if group is None:
            due = max(now + WINDOW, self._quiet.get(key, 0.0))
            group = self._groups[key] = _Group(happened.kind, happened.one, happened.many, happened.text, due)
        group.text = happened.text
        group.count += 1
        if happened.request is not None:
            group.requests.append(happened.request)

    def answered(self, request: str) -> None:
        """Forget a permission request that has been answered."""
        for key, group in list(self._groups.items()):
            if request in group.requests:
                group.requests.remove(request)
                group.count -= 1
                if group.count == 0:
                    del self._groups[key]

    def due(self, now: float, *, all: bool = False) -> list[Notice]:
        """Return the notices that are to be sent now, in the order in which their events began; ``all`` that wait."""
        self._quiet = {key: until for key, until in self._quiet.items() if until > now}
        notices: list[Notice] = []
        for key, group in list(self._groups.items()):
            # A clock that was set back must not keep a notice for years.
            if all or not now < group.due <= now + max(WINDOW, *QUIET.values()):
                del self._groups[key]
                if (quiet := QUIET.get(group.kind)) is not None:
                    self._quiet[key] = now + quiet
                title = group.one if group.count == 1 else group.many.replace("{count}", f"{group.count:,}", 1)
                notices.append(Notice(group.kind, title, group.text, group.count))
        return notices
