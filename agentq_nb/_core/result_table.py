"""The result of a query: rows under named, typed columns, convertible to a DataFrame."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

_WHOLE = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
_LARGEST = 2**63


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows as the database returns them: JSON is text, times are naive UTC."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    types: Sequence[str] = field(default=(), repr=False, compare=False)
    """The SQL type of each column; empty when it is not known."""
    empty: str = field(default="No rows.", repr=False, compare=False)
    """A sentence that is shown in place of a table without rows."""
    widest: int = field(default=100, repr=False, compare=False)
    """How many characters of a cell a terminal shows."""

    def frame(self) -> Any:
        """Return a pandas DataFrame, else a polars one, else this table itself, depending on what is installed.

        Times are in the UTC time zone, JSON becomes Python objects, and number columns stay numeric even where values
        are missing.
        """
        make = _with_pandas() or _with_polars()
        return self if make is None else make(self)

    def typed(self) -> Iterator[tuple[str, str, list[Any]]]:
        """Yield each column: a unique name, its SQL type (empty when not known), and its values with JSON parsed."""
        taken: set[str] = set()
        for index, column in enumerate(self.columns):
            name, number = column, 0
            while name in taken:
                number += 1
                name = f"{column}_{number}"
            taken.add(name)
            kind = self.types[index] if self.types else ""
            values = [row[index] for row in self.rows]
            yield name, kind, [_parsed(value) for value in values] if kind == "JSON" else values

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def _fits_int64(kind: str, values: list[Any]) -> bool:
    return kind in _WHOLE and all(value is None or -_LARGEST <= value < _LARGEST for value in values)


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


# Both libraries are optional, and pyright has no types for the one that is installed.
# pyright: reportMissingImports=false, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false


def _with_pandas() -> Callable[[Table], Any] | None:
    try:
        import pandas
    except ImportError:
        return None

    def series(kind: str, values: list[Any]) -> Any:
        dtype = _pandas_type(kind, values)
        return pandas.Series(values) if dtype is None else pandas.Series(values, dtype=dtype)

    _show_frames_without_tex()

    def make(table: Table) -> Any:
        return pandas.DataFrame({name: series(kind, values) for name, kind, values in table.typed()})

    return make


@cache
def _show_frames_without_tex() -> None:
    """Disable TeX in notebooks' DataFrames: in an agent's output it could become a link that runs a script.

    Called once, so that users can switch it on again.
    """
    import pandas

    pandas.set_option("display.html.use_mathjax", False)


def _pandas_type(kind: str, values: list[Any]) -> str | None:
    """Return the pandas dtype of a column of this kind; None lets pandas infer it from the values."""
    gaps = any(value is None for value in values)
    if kind.startswith("TIMESTAMP"):
        return "datetime64[us, UTC]"
    if _fits_int64(kind, values):
        return "Int64" if gaps else "int64"
    if kind in ("FLOAT", "DOUBLE") or kind.startswith("DECIMAL"):
        return "float64"
    if kind == "BOOLEAN":
        return "boolean" if gaps else "bool"
    return "object" if kind == "JSON" else None


def _with_polars() -> Callable[[Table], Any] | None:
    try:
        import polars
    except ImportError:
        return None

    def series(name: str, kind: str, values: list[Any]) -> Any:
        if kind.startswith("TIMESTAMP"):
            return polars.Series(name, values, polars.Datetime("us")).dt.replace_time_zone("UTC")
        if kind == "JSON":
            return polars.Series(name, values, polars.Object)
        if kind.startswith("DECIMAL"):
            return polars.Series(name, [None if value is None else float(value) for value in values], polars.Float64)
        if _fits_int64(kind, values):
            return polars.Series(name, values, polars.Int64)
        return polars.Series(name, values, polars.String if kind == "VARCHAR" else None)

    def make(table: Table) -> Any:
        return polars.DataFrame([series(*column) for column in table.typed()])

    return make


class TablePages(NamedTuple):
    """A named table. ``types`` are the names that DuckDB has for them; JSON is text, times are naive UTC."""

    name: str
    columns: Sequence[str]
    types: Sequence[str]
    pages: Iterator[Sequence[tuple[Any, ...]]]
