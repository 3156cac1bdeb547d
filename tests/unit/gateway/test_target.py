"""Which actor a request is for: no two keys are the same actor, and every spelling of a name finds it."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq_nb._gateway.target import Target, of_description, of_wire_id, python_name, read_key, target_of
from agentq_nb.errors import BadRequest

NAMES = ["task_runner", "vm", "cmd.0", "taskRunner2"]

KEYS = st.lists(st.text(alphabet="ab,/\\0%.~@ é\x00" + string.digits, max_size=5), max_size=4)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("task_runner", "task_runner"),
        ("taskRunner", "task_runner"),
        ("TaskRunner", "task_runner"),
        ("vm", "vm"),
        ("cmd.0", "cmd.0"),
        ("taskRunner2", "taskRunner2"),
        ("other", "other"),
    ],
)
def test_names_are_found_in_both_spellings(spelling: str, name: str) -> None:
    assert python_name(spelling, NAMES) == name


@given(KEYS)
def test_ids_and_lines_of_keys_are_read_back_as_the_same_key(key: list[str]) -> None:
    target = Target("taskRunner", tuple(key), "id")
    assert of_wire_id(target.wire_id) == target
    assert read_key(target.wire_key) == tuple(key)
    assert set(target.wire_id) <= set(string.ascii_letters + string.digits + "._-~")


@given(KEYS, KEYS)
def test_two_keys_never_share_an_id_or_a_line(one: list[str], other: list[str]) -> None:
    first, second = Target("a", tuple(one), "id"), Target("a", tuple(other), "id")
    assert (first.wire_id == second.wire_id) == (one == other)
    assert (first.wire_key == second.wire_key) == (one == other)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("/", ()),
        ("", ()),
        ("a/b", ("a", "b")),
        (r"cap/a,b\/c", ("cap", "a,b/c")),
        (r"\0", ("",)),
        (r"a/\0/b", ("a", "", "b")),
        (r"a\\", ("a\\",)),
    ],
)
def test_keys_are_read_as_rivetkit_writes_them(line: str, key: tuple[str, ...]) -> None:
    assert read_key(line) == key


def test_a_query_names_an_actor_by_its_key() -> None:
    query = {"rvt-method": "getOrCreate", "rvt-key": "a,b/c", "rvt-namespace": "default", "rvt-input": "uQABZWhlbGxvAQ"}
    assert target_of("taskRunner", query) == Target("taskRunner", ("a", "b/c"), "getOrCreate", {"hello": 1})
    assert target_of("vm", {"rvt-method": "get"}) == Target("vm", (), "get")
    assert target_of("vm", {"rvt-method": "get", "rvt-key": ""}) == Target("vm", ("",), "get")
    assert target_of("taskRunner.main", {}) == Target("taskRunner", ("main",), "id")


@pytest.mark.parametrize("segment", ["", "..", "a/b", "a%20b", "~zz", "~FF", "a b", "a~0", "é"])
def test_what_is_no_id_is_refused(segment: str) -> None:
    with pytest.raises(BadRequest):
        target_of(segment, {})


def test_a_description_in_json_names_an_actor() -> None:
    described = {"name": "vm", "key": r"a\/b/c", "input": "uQABZWhlbGxvAQ=="}
    assert of_description(described, "getOrCreate") == Target("vm", ("a/b", "c"), "getOrCreate", {"hello": 1})
    for wrong in (
        {},
        {"name": 1},
        {"name": "vm", "key": ["a"]},
        {"name": "vm", "input": 1},
        {"name": "vm", "input": "*"},
    ):
        with pytest.raises(BadRequest):
            of_description(wrong, "get")


def test_another_method_is_refused() -> None:
    with pytest.raises(BadRequest, match="rvt-method"):
        target_of("vm", {"rvt-method": "destroy"})
