"""What becomes of a query's answer with pandas, with polars, and with neither."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime

import pytest

from agentq_nb._core.result_table import Table

TABLE = Table(
    ["n", "n", "half", "yes", "at", "body", "name", "money", "vast"],
    [
        (1, None, 0.5, True, datetime(2026, 1, 2), '{"a": [1]}', "x", None, 2**100),
        (None, 2, None, None, None, "[1]", None, None, 1),
    ],
    ["INTEGER", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMP", "JSON", "VARCHAR", "DECIMAL(9,2)", "HUGEINT"],
)
NAMES = ["n", "n_1", "half", "yes", "at", "body", "name", "money", "vast"]


def test_pandas_columns_keep_their_types_where_values_are_missing() -> None:
    frame = TABLE.frame()
    assert list(frame.columns) == NAMES
    kinds = [str(kind) for kind in frame.dtypes]
    assert kinds[:6] == ["Int64", "Int64", "float64", "boolean", "datetime64[us, UTC]", "object"]
    assert kinds[7] == "float64"
    assert frame["at"].iloc[0].isoformat() == "2026-01-02T00:00:00+00:00"
    assert list(frame["body"]) == [{"a": [1]}, [1]]
    assert list(frame["vast"]) == [2**100, 1]


def test_a_table_of_unknown_types_makes_a_frame_too() -> None:
    frame = Table(["a"], [(1,), (2,)]).frame()
    assert list(frame["a"]) == [1, 2]


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setitem(sys.modules, "pandas", None)
    return monkeypatch


def test_polars_is_taken_where_there_is_no_pandas(hidden: pytest.MonkeyPatch) -> None:
    frame = TABLE.frame()
    assert type(frame).__module__.startswith("polars")
    assert frame.columns == NAMES
    kinds = [str(kind) for kind in frame.dtypes]
    assert kinds[:5] == ["Int64", "Int64", "Float64", "Boolean", "Datetime(time_unit='us', time_zone='UTC')"]
    assert kinds[7] == "Float64"
    assert frame["at"][0].isoformat() == "2026-01-02T00:00:00+00:00"
    assert [frame["body"][0], frame["body"][1]] == [{"a": [1]}, [1]]
    assert frame.filter(frame["name"] == "x").height == 1
    assert Table(["body", "at"], [], ["JSON", "TIMESTAMP"]).frame().height == 0


def test_without_either_it_is_the_table_which_is_its_rows(hidden: pytest.MonkeyPatch) -> None:
    hidden.setitem(sys.modules, "polars", None)
    assert TABLE.frame() is TABLE
    assert [row[0] for row in TABLE] == [1, None]


def test_neither_library_is_imported_before_a_frame_is_asked_for() -> None:
    code = "import sys, agentq_nb; print([name for name in ('pandas', 'polars') if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
