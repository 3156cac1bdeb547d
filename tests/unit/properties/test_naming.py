"""Names and ids: what goes in comes out, and no two things share one."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agentq_nb._core.ids import actor_id, actor_key, actor_name, key_parts, mint_id, snake_case
from agentq_nb.errors import ValidationFailed

parts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
keys = st.lists(parts, max_size=5).map(tuple)


@given(keys)
def test_a_key_comes_back_from_the_id_of_its_actor(key: tuple[str, ...]) -> None:
    made = actor_id("worker", key)
    assert (actor_name(made), actor_key(made)) == ("worker", key)
    assert made.isprintable() or not "".join(key).isprintable()


@given(keys, keys)
def test_different_keys_make_different_ids(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assume(one != other)
    assert actor_id("worker", one) != actor_id("worker", other)


@given(parts)
def test_a_bare_str_is_a_key_of_one_part(part: str) -> None:
    assert actor_id("worker", part) == actor_id("worker", [part])


@given(st.text(st.characters(categories=["Cc"]), min_size=1, max_size=5))
def test_control_characters_do_not_get_into_ids(part: str) -> None:
    made = actor_id("worker", part)
    assert not any(ord(character) < 32 or ord(character) == 127 for character in made)
    assert actor_key(made) == (part,)


@pytest.mark.parametrize("key", [1, None, ["a", 1], [b"a"], "\ud800", ["\ud800"], "x" * 2000])
def test_a_bad_key_is_refused(key: Sequence[str]) -> None:
    with pytest.raises(ValidationFailed):
        actor_id("worker", key)


def test_key_parts_are_a_tuple() -> None:
    assert key_parts(("a", "b")) == key_parts(["a", "b"]) == ("a", "b")


def test_ids_are_unique_and_those_of_a_later_millisecond_sort_later() -> None:
    earlier = [mint_id() for _ in range(2000)]
    time.sleep(0.002)
    later = [mint_id() for _ in range(2000)]
    assert len({*earlier, *later}) == 4000
    assert max(earlier) < min(later)
    assert {len(identity) for identity in earlier} == {len(earlier[0])}


@pytest.mark.parametrize(
    ("name", "typed"),
    [("TaskRunner", "task_runner"), ("HTTPServer", "http_server"), ("A", "a"), ("Vm2Runner", "vm2_runner")],
)
def test_class_names_become_what_users_type(name: str, typed: str) -> None:
    assert snake_case(name) == typed


def test_a_forked_child_mints_ids_of_its_own() -> None:
    mint_id()
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, "".join(mint_id() for _ in range(200)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as told:
        text = told.read()
    theirs = {text[start + 10 : start + 25] for start in range(0, len(text), 25)}
    ours = {mint_id()[10:] for _ in range(600)}
    assert (len(theirs), theirs & ours) == (200, set())
