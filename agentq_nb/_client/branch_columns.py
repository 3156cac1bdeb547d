"""The branches that replies name, as columns of a table of results: ``map`` over a repository replies with them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, cast

from agentq_nb._core.result_table import Table

_REPLY = "reply"
_COLUMNS = {"branch": "VARCHAR", "files": "BIGINT", "insertions": "BIGINT", "deletions": "BIGINT"}


@dataclass(frozen=True, slots=True)
class ReplyBranch:
    """The branch with the work of one message, and its size; ``branch`` is None where nothing was changed."""

    branch: str | None
    files: int
    insertions: int
    deletions: int


def branches_of(table: Table) -> list[ReplyBranch | None]:
    """Return for each row the branch that its reply names; None where there is no such reply."""
    place = table.columns.index(_REPLY)
    return [_branch_of(row[place]) for row in table.rows]


def with_branches(table: Table) -> Table:
    """Return the table with the columns ``branch``, ``files``, ``insertions`` and ``deletions``, if any reply names a branch."""
    branches = branches_of(table)
    if not any(branches):
        return table
    cells = [branch and astuple(branch) for branch in branches]
    return with_columns(table, len(table.columns), _COLUMNS, cells)


def with_columns(table: Table, place: int, added: Mapping[str, str], cells: Sequence[tuple[Any, ...] | None]) -> Table:
    """Return the table with more columns before the one at a place.

    :param added: their names and SQL types.
    :param cells: their values in each row; None: they have no values in it.
    """
    nothing = (None,) * len(added)
    columns, types = list(table.columns), list(table.types)
    columns[place:place] = added
    types[place:place] = added.values() if types else ()
    rows = [(*row[:place], *(given or nothing), *row[place:]) for row, given in zip(table.rows, cells, strict=True)]
    return replace(table, columns=columns, rows=rows, types=types)


def _branch_of(reply: Any) -> ReplyBranch | None:
    """Read a stored reply. One that has only some of the fields is of another kind, whatever they mean there."""
    if not isinstance(reply, str) or '"insertions"' not in reply:
        return None
    fields = json.loads(reply)
    if not isinstance(fields, dict):
        return None
    found = [cast("dict[str, Any]", fields).get(name, ...) for name in _COLUMNS]
    branch, *numbers = found
    if not (branch is None or isinstance(branch, str)) or not all(type(number) is int for number in numbers):
        return None
    return ReplyBranch(branch, *numbers)
