"""What changed between two states of what is shown. Pure; ``js/mirror.js`` applies it.

A state is sections of rows by key: ``{"queues": {"reviewer/main tasks": {"waiting": 3}}}``. All states on the wire have
this form, so that one sequence number and one way to resynchronize serve queues, messages and transcripts alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, Any]
Section: TypeAlias = Mapping[str, Row]
Sections: TypeAlias = Mapping[str, Section]

Changes: TypeAlias = dict[str, dict[str, Any]]
"""``set``: section → key → changed fields; ``more``: section → key → field → text to append; ``gone``: section → keys.
Empty parts are left out."""

_WORTH_APPENDING = 64


def difference(before: Sections, after: Sections) -> Changes:
    """Return the changes from ``before`` to ``after``; empty if equal. Rows of one section have the same fields."""
    changes: Changes = {"set": {}, "more": {}, "gone": {}}
    for name in {**before, **after}:
        former, present = before.get(name, {}), after.get(name, {})
        if former is present:
            continue
        changed: dict[str, dict[str, Any]] = {}
        grown: dict[str, dict[str, str]] = {}
        for key, row in present.items():
            fields, suffixes = _row_difference(former.get(key), row)
            if fields:
                changed[key] = fields
            if suffixes:
                grown[key] = suffixes
        gone = [key for key in former if key not in present]
        for part, found in (("set", changed), ("more", grown), ("gone", gone)):
            if found:
                changes[part][name] = found
    return {part: found for part, found in changes.items() if found}


def _row_difference(before: Row | None, after: Row) -> tuple[dict[str, Any], dict[str, str]]:
    if before is None:
        return dict(after), {}
    if before is after:
        return {}, {}
    changed: dict[str, Any] = {}
    grown: dict[str, str] = {}
    for field, value in after.items():
        former = before.get(field)
        if former == value:
            continue
        if isinstance(value, str) and isinstance(former, str) and _appended(former, value):
            grown[field] = value[len(former) :]
        else:
            changed[field] = value
    return changed, grown


def _appended(former: str, value: str) -> bool:
    """Whether to send only the end of a text that grows, as answers do while they stream. A short one is sent whole."""
    return len(former) >= _WORTH_APPENDING and value.startswith(former)
