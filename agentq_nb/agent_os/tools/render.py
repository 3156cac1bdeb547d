"""What a tool returns as text that a language model can read, and not too much of it."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

LARGEST = 32_768
"""Characters of one result; what is longer is cut, and says so."""

_ROWS, _COLUMNS, _CELL = 60, 20, 200  # of a table that is shown: rows, columns, characters in a cell


def shown(value: Any) -> str:
    """A str as it is, ``None`` as "done", a table of pandas as text, data as JSON, anything else by its ``repr``."""
    if value is None:
        return "done"
    value = _number(value)
    return bounded(value if isinstance(value, str) else _table(value) or _json(value) or repr(value))


def bounded(text: str) -> str:
    """``text``, cut where it is too long."""
    if len(text) <= LARGEST:
        return text
    return f"{text[:LARGEST]}\n[cut: these are the first {LARGEST:,} of {len(text):,} characters]"


def as_json(value: Any) -> Any:
    """``value`` for a record: JSON, with the ``repr`` of what is none."""
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
    """Something inside a list or dict that is not JSON: a number of numpy's is one, a table is its text."""
    number = _number(value)
    return number if number is not value else _table(value) or repr(value)


def _number(value: Any) -> Any:
    """A number of numpy's, such as the sum of a column, as one of Python's; anything else as it is."""
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0 else value


def _table(value: Any) -> str | None:
    # Whoever has a DataFrame has loaded pandas: nobody else should have to.
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
