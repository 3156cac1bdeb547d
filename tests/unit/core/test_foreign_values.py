"""Values of numpy and pandas in bodies, replies and states: single ones become JSON's own, collections are refused."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from pydantic import BaseModel, ConfigDict

from agentq_nb._core.codec import Schema
from agentq_nb.errors import ValidationFailed

ANY = Schema[Any](Any)


class Model(BaseModel):
    any: Any = None
    count: int = 0
    at: datetime | None = None


@dataclass
class Data:
    any: Any = None
    count: int = 0


SINGLE_VALUES = [
    (np.int64(3), 3),
    (np.uint8(3), 3),
    (np.float64(1.5), 1.5),
    (np.float16(0.5), 0.5),
    (np.bool_(True), True),
    (np.str_("x"), "x"),
    (np.array(3), 3),
    (np.datetime64("2026-01-02"), "2026-01-02"),
    (np.datetime64("2026-01-02T03:04:05.123456789", "ns"), "2026-01-02T03:04:05.123456"),
    (np.datetime64("NaT"), None),
    (np.timedelta64(5, "ns") * 10**9, "PT5S"),
    (pd.NaT, None),
    (pd.NA, None),
    (pd.Timestamp("2026-01-02 03:04:05"), "2026-01-02T03:04:05"),
    (pd.Timedelta(5, "s"), "PT5S"),
    (Decimal("1.10"), "1.10"),
]


@pytest.mark.parametrize(("value", "expected"), SINGLE_VALUES, ids=[repr(value) for value, _ in SINGLE_VALUES])
def test_a_single_value_becomes_jsons_own(value: Any, expected: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert json.loads(ANY.dump(value, "It")) == expected
        assert json.loads(ANY.dump({"deep": [{"x": value}]}, "It")) == {"deep": [{"x": expected}]}
        assert json.loads(Schema[Any](Model).dump(Model(any={"x": value}), "It"))["any"] == {"x": expected}
        assert json.loads(Schema[Any](Data).encode(Data(any=value), "It"))["any"] == expected


REFUSED = [
    (np.arange(3), "a numpy ndarray", "x.tolist()"),
    (np.zeros((2, 2)), "a numpy ndarray", "x.tolist()"),
    (pd.Series([1]), "a pandas Series", "x.tolist()"),
    (pd.Index([1]), "a pandas Index", "x.tolist()"),
    (pd.array([1]), "a pandas IntegerArray", "x.tolist()"),
    (pd.DataFrame({"a": [1]}), "a pandas DataFrame", 'x.to_dict("records")'),
    (pl.DataFrame({"a": [1]}), "a polars DataFrame", "x.to_dicts()"),
    (pl.Series([1]), "a polars Series", "x.to_list()"),
    (np.longdouble(1), "a numpy longdouble", "float(x)"),
    (np.complex64(1), "a complex", "str(x)"),
    (pd.Period("2026-01"), "a pandas Period", "str(x)"),
    (np.bytes_(b"x"), "bytes", "the file's path"),
    (bytearray(b"x"), "bytes", "the file's path"),
    (Decimal("NaN"), "NaN", "None"),
    (np.float64("nan"), "nan", "None"),
]


@pytest.mark.parametrize(("value", "named", "instead"), REFUSED, ids=[named for _, named, _ in REFUSED])
def test_what_is_refused_is_named_with_what_to_write_instead(value: Any, named: str, instead: str) -> None:
    for dump in (
        lambda: ANY.dump({"rows": [value]}, "It"),
        lambda: ANY.validate({"rows": [value]}, "It") and ANY.dump({"rows": [value]}, "It"),
        lambda: Schema[Any](Model).dump(Model(any=value), "It"),
        lambda: Schema[Any](Data).encode(Data(any=value), "It"),
    ):
        with pytest.raises(ValidationFailed) as raised:
            dump()
        assert f"It holds {named}" in raised.value.message
        assert instead in raised.value.message
        assert "\n" not in raised.value.message


def test_the_place_of_what_is_refused_is_named() -> None:
    with pytest.raises(ValidationFailed, match=r"at `rows\[1\]\.features`, which JSON"):
        ANY.dump({"rows": [{"features": 1}, {"features": np.arange(2)}]}, "It")


def test_a_typed_field_takes_the_number() -> None:
    assert Schema[Any](Model).dump({"count": np.int64(3), "at": pd.NaT}, "It") == b'{"any":null,"count":3,"at":null}'
    assert Schema[Any](Data).encode(Data(count=np.float64(3)), "It") == b'{"any":null,"count":3}'  # type: ignore[arg-type]
    assert Schema[Any](Decimal).load(Schema[Any](Decimal).dump(Decimal("1.10"), "It"), "It") == Decimal("1.10")
    with pytest.raises(ValidationFailed, match="count"):
        Schema[Any](Model).dump({"count": np.datetime64("2026-01-02", "ns")}, "It")


def test_keys_become_jsons_own_too() -> None:
    assert ANY.dump({np.int64(3): 1, "x": np.int64(2)}, "It") == b'{"3":1,"x":2}'
    assert ANY.dump({np.int64(3): 1}, "It") == b'{"3":1}'


def test_a_type_that_asks_for_an_array_is_left_alone() -> None:
    class Arrays(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        array: np.ndarray[Any, Any]

    value = Schema[Any](Arrays).validate({"array": np.arange(3)}, "It")
    assert isinstance(value.array, np.ndarray)


def test_what_holds_itself_is_refused() -> None:
    holds_itself: list[Any] = [np.int64(1)]
    holds_itself.append(holds_itself)
    with pytest.raises(ValidationFailed, match="holds itself"):
        ANY.dump(holds_itself, "It")


def test_neither_numpy_nor_pandas_is_imported() -> None:
    code = """
import sys
from decimal import Decimal
from typing import Any
from agentq_nb._core.codec import Schema
Schema(Any).dump([Decimal(1), {1: object}.keys() and 1], "It")
print(sorted({"numpy", "pandas"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
