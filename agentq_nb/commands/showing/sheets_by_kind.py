"""Which sheet is made of which kind of object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from agentq_nb.commands.sheets import Sheet

T = TypeVar("T")

_sheets: dict[type[Any], Callable[[Any], Sheet]] = {Sheet: lambda sheet: sheet}


def shows(kind: type[T]) -> Callable[[Callable[[T], Sheet]], Callable[[T], Sheet]]:
    """Decorates the function that makes the sheet of objects of ``kind``."""

    def remember(sheet: Callable[[T], Sheet]) -> Callable[[T], Sheet]:
        _sheets[kind] = sheet
        return sheet

    return remember


def kinds() -> list[type[Any]]:
    """The classes that have a sheet."""
    return list(_sheets)


def sheet_of(value: object) -> Sheet | None:
    """The sheet of a value; None for what has none."""
    for kind in type(value).__mro__:
        if kind in _sheets:
            return _sheets[kind](value)
    return None
