"""Working copies against a plain model: fields merge, clashes are told, nothing half-done is left."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from agentq_nb._core.codec import Schema
from agentq_nb._runtime.state import Committed, WorkingCopy
from agentq_nb.errors import StateConflict, ValidationFailed


class Tally(BaseModel):
    a: int = 0
    b: list[int] = []
    c: dict[str, int] = {}


NAMES = ("a", "b", "c")
values = {
    "a": st.integers(0, 3),
    "b": st.lists(st.integers(0, 3), max_size=2),
    "c": st.dictionaries(st.sampled_from("xy"), st.integers(0, 3), max_size=2),
}
changes = st.fixed_dictionaries({}, optional=values)


def committed_of(fields: dict[str, Any]) -> Committed:
    return Committed(Schema[Any](Tally), "worker/main", json.dumps({"a": 0, "b": [], "c": {}, **fields}).encode())


def change(value: Any, fields: dict[str, Any]) -> None:
    for name, new in fields.items():
        setattr(value, name, new)


@given(changes, changes, changes)
def test_changes_of_a_copy_and_of_an_action_meanwhile_are_merged_or_clash(
    start: dict[str, Any], copied: dict[str, Any], acted: dict[str, Any]
) -> None:
    committed = committed_of(start)
    before = dict(committed.fields)
    copy = WorkingCopy(committed)
    change(copy.value, copied)
    change(committed.shared, acted)
    if unsaved := committed.unsaved():
        committed.take(unsaved, from_copy=False)
    mine = {name: new for name, new in copied.items() if new != before[name]}
    theirs = {name: new for name, new in acted.items() if new != before[name]}
    if mine.keys() & theirs.keys():
        with pytest.raises(StateConflict) as clash:
            copy.commit()
        assert set(clash.value.metadata["fields"]) == mine.keys() & theirs.keys()
        assert committed.fields == {**before, **theirs}
        return
    encoded = copy.commit()
    assert (encoded is None) == (not mine)
    assert committed.fields == {**before, **theirs, **mine}
    assert committed.shared.model_dump() == committed.fields
    if encoded is not None:
        assert json.loads(encoded) == committed.fields


@given(changes)
def test_a_copy_is_seen_by_nobody_before_it_is_committed(copied: dict[str, Any]) -> None:
    committed = committed_of({})
    before = json.dumps(committed.fields)
    copy = WorkingCopy(committed)
    change(copy.value, copied)
    copy.value.b.append(9)
    assert json.dumps(committed.fields) == before
    assert committed.shared.model_dump_json() == Tally().model_dump_json()


@given(changes, changes)
def test_what_a_failed_action_changed_is_taken_back(saved: dict[str, Any], failed: dict[str, Any]) -> None:
    committed = committed_of(saved)
    before = committed.fields_of(committed.shared)
    change(committed.shared, failed)
    committed.shared.b.append(9)
    committed.restore(before, [])
    assert committed.shared.model_dump() == before
    assert committed.unsaved() == {}


def test_a_copy_that_does_not_validate_is_not_merged() -> None:
    committed = committed_of({"a": 1})
    copy = WorkingCopy(committed)
    copy.value.a = "many"
    copy.value.b.append(1)
    with pytest.raises(ValidationFailed):
        copy.commit()
    assert committed.fields == {"a": 1, "b": [], "c": {}}


def test_a_copy_commits_again_only_what_was_changed_since() -> None:
    committed = committed_of({})
    copy = WorkingCopy(committed)
    copy.value.a = 1
    assert copy.commit() is not None
    assert copy.commit() is None
    copy.value.b.append(2)
    assert json.loads(copy.commit() or b"") == {"a": 1, "b": [2], "c": {}}
