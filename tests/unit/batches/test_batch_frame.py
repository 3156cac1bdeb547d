"""``batch.frame()``: the items beside what became of them."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import pandas
import polars
import pytest

from agentq_nb._actor.queue import Queue
from agentq_nb._brokers.batches import BatchRow
from agentq_nb._brokers.messages import StoredResult
from agentq_nb._client.batch_bodies import encode_bodies
from agentq_nb._client.batch_frame import frame_of
from agentq_nb.errors import ValidationFailed
from tests.unit.batches.words import hosted

pytestmark = pytest.mark.anyio


async def stored(items: Any) -> list[Any]:
    """What is stored of each item."""
    queue: Queue[Any, Any] = Queue(Any)
    queue.name = "rows"
    return [json.loads(body) for body in await encode_bodies(queue, "worker/w", items)]


def rows(*replies: Any, error: str | None = None) -> list[BatchRow]:
    """Completed rows with these replies; the last one failed with the error, if there is one."""
    found = [
        BatchRow(StoredResult("m", "a", "q", "completed", 1, json.dumps(reply).encode()), 0.5) for reply in replies
    ]
    if error is not None:
        failed = StoredResult("m", "a", "q", "failed", 3, None, {"message": error, "type": "ValueError"})
        found[-1] = BatchRow(failed, 0.25)
    return found


async def test_values_of_pandas_and_numpy_become_json() -> None:
    frame = pandas.DataFrame(
        {
            "text": ["a", None],
            "number": numpy.array([1.5, math.nan]),
            "whole": pandas.array([1, None], dtype="Int64"),
            "small": numpy.array([1, 2], dtype="int8"),
            "yes": [True, False],
            "when": [pandas.Timestamp("2026-11-30 08:00", tz="UTC"), pandas.NaT],
            "kind": pandas.Categorical(["x", None]),
            3: [[1, 2], {"a": numpy.float32(0.5)}],
        }
    )
    assert await stored(frame) == [
        {
            "text": "a",
            "number": 1.5,
            "whole": 1,
            "small": 1,
            "yes": True,
            "when": "2026-11-30T08:00:00Z",
            "kind": "x",
            "3": [1, 2],
        },
        {
            "text": None,
            "number": None,
            "whole": None,
            "small": 2,
            "yes": False,
            "when": None,
            "kind": None,
            "3": {"a": 0.5},
        },
    ]
    assert await stored(pandas.Series([1.0, math.nan])) == [1.0, None]


async def test_values_of_polars_become_json() -> None:
    frame = polars.DataFrame({"text": ["a", None], "when": [datetime(2026, 11, 30, tzinfo=UTC), None]})
    assert await stored(frame) == [{"text": "a", "when": "2026-11-30T00:00:00Z"}, {"text": None, "when": None}]
    assert await stored(polars.Series([1.5, math.nan])) == [1.5, None]


async def test_a_frame_that_json_cannot_carry_is_refused() -> None:
    with pytest.raises(ValidationFailed, match="two columns named 'a'"):
        await stored(pandas.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(ValidationFailed, match="Body 0"):
        await stored(pandas.DataFrame({"a": [numpy.zeros(3)]}))


def test_a_pandas_frame_keeps_its_index_and_columns() -> None:
    given = pandas.DataFrame({"text": ["a", "b"], "stars": [1, 2]}, index=["x", "y"])
    found = frame_of(given, rows({"stars": 5, "mood": "good"}, None, error="no"))
    assert list(found.columns) == ["text", "stars", "status", "reply_stars", "mood", "error", "attempts", "seconds"]
    assert list(found.index) == ["x", "y"]
    assert found["reply_stars"].tolist() == [5, pandas.NA]
    assert found["error"].tolist()[1] == "ValueError: no"
    assert found["attempts"].tolist() == [1, 3]
    assert found["seconds"].tolist() == [0.5, 0.25]
    assert list(given.columns) == ["text", "stars"]
    assert given.join(found[["mood"]])["mood"].tolist()[0] == "good"


def test_fields_that_are_known_are_columns_before_there_is_a_reply() -> None:
    fields = ["mood", "stars"]
    found = frame_of(["a", "b"], rows(None, None, error="no"), fields)
    assert list(found.columns) == ["item", "status", "mood", "stars", "error", "attempts", "seconds"]
    assert found["mood"].tolist() == [None, None]
    found = frame_of(["a", "b"], rows({"stars": 1, "more": 2}, None), fields)
    assert list(found.columns)[2:5] == ["mood", "stars", "more"]
    assert list(frame_of(["a"], rows(7), fields).columns)[2] == "reply"


@pytest.mark.parametrize("given", [["a", "b"], pandas.Series(["a", "b"]), pandas.DataFrame({"text": ["a", "b"]})])
def test_a_missing_text_is_none_whether_or_not_other_rows_have_one(given: Any) -> None:
    for error in ("no", None):
        found = frame_of(given, rows("x", None, error=error))
        assert found["error"].tolist()[0] is None
        assert found["reply"].tolist()[1] is None
        assert found["error"].isna().tolist() == [True, error is None]
    assert frame_of(given, rows(None, None))["reply"].tolist() == [None, None]


def test_columns_that_collide_with_ours_are_told_apart() -> None:
    given = pandas.DataFrame({"status": ["open"], "reply_status": [1]})
    found = frame_of(given, rows({"status": "closed", "error": "none", "seconds": 3}))
    assert list(found.columns) == [
        *("status", "reply_status", "batch_status", "reply_reply_status", "reply_error", "reply_seconds"),
        *("error", "attempts", "seconds"),
    ]


@pytest.mark.parametrize("name", [None, "text"])
def test_a_series_becomes_a_frame_with_its_index(name: str | None) -> None:
    found = frame_of(pandas.Series(["a", "b"], index=[7, 9], name=name), rows(1, 2))
    assert found[name or "item"].tolist() == ["a", "b"]
    assert list(found.index) == [7, 9]
    assert found["reply"].tolist() == [1, 2]


def test_a_polars_frame_gets_the_number_of_the_row() -> None:
    found = frame_of(polars.DataFrame({"text": ["a", "b"]}), rows({"stars": 5}, None, error="no"))
    assert found.columns == ["row", "text", "status", "stars", "error", "attempts", "seconds"]
    assert found["row"].to_list() == [0, 1]
    assert found["stars"].to_list() == [5, None]
    series = frame_of(polars.Series("text", ["a", "b"]), rows(1, [2]))
    assert series["text"].to_list() == ["a", "b"]
    assert series["reply"].to_list() == [1, [2]]


def test_a_list_becomes_columns_where_its_items_are_dicts() -> None:
    assert frame_of([{"a": 1}, {"b": 2}], rows(1, 2))["b"].tolist()[1] == 2
    assert frame_of(["x", "y"], rows(1, 2))["item"].tolist() == ["x", "y"]


async def test_a_batch_that_is_found_again_reads_its_items_from_the_file(tmp_path: Path) -> None:
    given = pandas.DataFrame({"reply": [[1], [2]], "n": [1.0, None]}, index=["x", "y"])
    async with hosted(tmp_path) as (registry, worker):
        batch = await worker.send_many("tasks", given, name="found")
        assert list((await batch.frame()).index) == ["x", "y"]
    async with hosted(tmp_path) as (registry, worker):
        found = await (await registry.batch("found")).frame()
        assert found[["n", "status", "attempts"]].values.tolist()[0] == [1.0, "completed", 1]
        assert found["reply_reply"].tolist() == [[1], [2]] or found["reply"].tolist() == [[1], [2]]
        again = await worker.send_many("tasks", given.iloc[::-1], name="found")
        assert again.added == 0
        assert list((await again.frame()).index) == ["y", "x"]
