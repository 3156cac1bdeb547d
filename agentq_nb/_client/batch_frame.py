"""The rows of a batch as a DataFrame, beside the columns of the items that were sent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from agentq_nb._actor.message import headline
from agentq_nb._brokers.batches import BatchRow
from agentq_nb._core.message_status import LIVE
from agentq_nb._core.result_table import Table
from agentq_nb._core.table_rows import rows_of, table_kind

# pyright: reportMissingImports=false, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

_ITEM = "item"


def frame_of(items: Any, rows: Sequence[BatchRow], fields: Sequence[str] = ()) -> Any:
    """Return the frame. Blocks.

    :param items: what was sent; None: the rows have their bodies.
    :param fields: the fields of the replies, if they are known before there is a reply.
    """
    kind = table_kind(items)
    given = _given(items, rows) if kind not in ("pandas frame", "polars frame") else None
    names = [str(name) for name in items.columns] if given is None else list(given)
    added = _added(rows, names, fields)
    if kind == "pandas frame":
        return _pandas(items.copy(deep=False), added, items.index)
    if kind == "polars frame":
        return _polars(items, added)
    assert given is not None
    if kind == "polars series":
        import polars

        return _polars(polars.DataFrame({items.name or _ITEM: items}), added)
    if kind == "pandas series":
        return _pandas(items.to_frame(_ITEM if items.name is None else items.name), added, items.index)
    return _of_values(given, added)


def _given(items: Any, rows: Sequence[BatchRow]) -> dict[str, list[Any]]:
    """Return the columns of items that are no frame."""
    if items is None:
        values: list[Any] = [json.loads(row.body or b"null") for row in rows]
    else:
        values = list(rows_of(items, "Items"))
    if table_kind(items) is not None:
        return {str(getattr(items, "name", None) or _ITEM): values}
    if values and all(isinstance(value, dict) for value in values):
        dicts = cast("list[dict[str, Any]]", values)
        names = dict.fromkeys(str(name) for value in dicts for name in value)
        return {name: [value.get(name) for value in dicts] for name in names}
    return {_ITEM: values}


def _added(rows: Sequence[BatchRow], names: Sequence[str], fields: Sequence[str]) -> dict[str, list[Any]]:
    """Return the columns that are added to these: status, reply fields, error, attempts, seconds, tokens and cost."""
    replies = [None if row.result.reply is None else json.loads(row.result.reply) for row in rows]
    columns: dict[str, list[Any]] = {
        "status": [row.result.status for row in rows],
        "error": [headline(row.result.error) if row.result.error else None for row in rows],
        "attempts": [row.result.attempts for row in rows],
        "seconds": [None if row.result.status in LIVE else row.seconds for row in rows],
    }
    measured: dict[str, list[Any]] = {"tokens": [row.tokens for row in rows], "cost": [row.cost for row in rows]}
    columns |= {name: values for name, values in measured.items() if any(value is not None for value in values)}
    ours = {name: f"batch_{name}" if name in names else name for name in columns}
    found = {ours["status"]: columns["status"]}
    taken = {*names, *ours.values()}
    for name, values in _reply_columns(replies, fields).items():
        found[_free(name, taken)] = values
    return found | {name: columns[own] for own, name in ours.items() if own != "status"}


def _reply_columns(replies: Sequence[Any], fields: Sequence[str]) -> dict[str, list[Any]]:
    present = [reply for reply in replies if reply is not None]
    names = dict.fromkeys([*fields, *(name for reply in present if isinstance(reply, dict) for name in reply)])
    if names and all(isinstance(reply, dict) for reply in present):
        return {name: [None if reply is None else reply.get(name) for reply in replies] for name in names}
    return {"reply": list(replies)}


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name = f"reply_{name}"
    taken.add(name)
    return name


def _pandas(frame: Any, added: dict[str, list[Any]], index: Any) -> Any:
    import pandas

    for name, values in added.items():
        frame[name] = pandas.Series(values, index=index, dtype=_pandas_type(values))
    return frame


def _pandas_type(values: Sequence[Any]) -> str | None:
    """Return the dtype: whole numbers stay whole where some are missing; None lets pandas infer it.

    A missing text is None: what pandas infers for texts would make it NaN in some columns, and None in others.
    """
    kinds = {type(value) for value in values if value is not None}
    gaps = any(value is None for value in values)
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return "Int64" if gaps else "int64"
    if kinds and kinds <= {int, float}:
        return "float64"
    if kinds == {bool}:
        return "boolean" if gaps else "bool"
    is_text = gaps and kinds == {str}
    return "object" if not kinds or is_text or kinds & {dict, list} or len(kinds) > 1 else None


def _polars(frame: Any, added: dict[str, list[Any]]) -> Any:
    import polars

    frame = frame if "row" in frame.columns else frame.with_row_index("row")
    return frame.with_columns([_polars_series(polars, name, values) for name, values in added.items()])


def _polars_series(polars: Any, name: str, values: list[Any]) -> Any:
    try:
        return polars.Series(name, values, strict=True)
    except (TypeError, polars.exceptions.PolarsError):
        return polars.Series(name, values, polars.Object)


def _of_values(given: dict[str, list[Any]], added: dict[str, list[Any]]) -> Any:
    """Return a pandas frame, else a polars one, else a table."""
    columns = given | added
    try:
        import pandas

        return pandas.DataFrame(
            {name: pandas.Series(values, dtype=_pandas_type(values)) for name, values in columns.items()}
        )
    except ImportError:
        pass
    try:
        import polars

        return _polars(polars.DataFrame([_polars_series(polars, *column) for column in given.items()]), added)
    except ImportError:
        return Table(list(columns), list(zip(*columns.values(), strict=True)))
