"""Convert a tool's result to text for a language model, and limit its length."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

LARGEST = 32_768
"""Characters of one result; a longer one is truncated with a mark."""

_ROWS, _COLUMNS, _CELL = 60, 20, 200  # rows, columns and characters in a cell of a table


def shown(value: Any) -> str:
    """Return a str as it is, ``None`` as "done", a pandas table as text, data as JSON, all else as its ``repr``."""
    if value is None:
        return "done"
    value = _number(value)
    return bounded(value if isinstance(value, str) else _table(value) or _json(value) or repr(value))


def bounded(text: str) -> str:
    """Return ``text``, truncated if it is too long."""
    if len(text) <= LARGEST:
        return text
    return f"{text[:LARGEST]}\n[cut: these are the first {LARGEST:,} of {len(text):,} characters]"


def as_json(value: Any) -> Any:
    """Return ``value`` as JSON for a record, with the ``repr`` of what is not JSON."""
    try:
        return to_jsonable_python(value, fallback=repr, inf_nan_mode="strings", bytes_mode="base64")
    except (PydanticSerializationError, ValueError, RecursionError):
        return bounded(repr(value))


def _json(value: Any) -> str | None:
    if not isinstance(value, (BaseModel, dict, list, tuple, set, frozenset, bool, int, float)) and not (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    ):
        return None
    try:
        return to_json(value, fallback=_inner, inf_nan_mode="constants", bytes_mode="base64").decode()
    except (PydanticSerializationError, ValueError, RecursionError):
        return None


def _inner(value: Any) -> Any:
    """Convert a value in a list or dict that is not JSON: a numpy number to a number, a table to its text."""
    number = _number(value)
    return number if number is not value else _table(value) or repr(value)


def _number(value: Any) -> Any:
    """Convert a numpy number, such as the sum of a column, to Python's; return anything else as it is."""
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0 else value


def _table(value: Any) -> str | None:
    # A DataFrame exists only if pandas is loaded: do not load it here.
    pandas: Any = sys.modules.get("pandas")
    if pandas is None:
        return None
    if isinstance(value, pandas.DataFrame):
        frame: Any = value
        text = frame.to_string(max_rows=_ROWS, max_cols=_COLUMNS, max_colwidth=_CELL)
        return f"{len(frame)} rows, {len(frame.columns)} columns\n{text}"
    if isinstance(value, pandas.Series):
        series: Any = value
        return f"{len(series)} values\n{series.to_string(max_rows=_ROWS)}"
    return None
