"""What is sent of a change: only what changed, and all of it. Applied as the page applies it, it gives the new state."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import given
from hypothesis import strategies as some

from agentq_nb._notebook.dashboard.patch import difference

State = dict[str, dict[str, dict[str, Any]]]

texts = some.text(max_size=200) | some.text(alphabet="ab", min_size=60, max_size=90)
# As in what is shown, all rows of a section have the same fields.
rows = some.fixed_dictionaries({"count": some.integers(), "text": texts, "on": some.booleans()})
states = some.dictionaries(some.sampled_from("xyz"), some.dictionaries(some.sampled_from("abc"), rows))


def applied(state: State, changes: dict[str, Any]) -> State:
    """What ``js/mirror.js`` makes of a state."""
    made = deepcopy(state)
    for name, section in changes.get("set", {}).items():
        for key, fields in section.items():
            made.setdefault(name, {}).setdefault(key, {}).update(fields)
    for name, section in changes.get("more", {}).items():
        for key, fields in section.items():
            for field, text in fields.items():
                made[name][key][field] += text
    for name, keys in changes.get("gone", {}).items():
        for key in keys:
            del made[name][key]
    return {name: section for name, section in made.items() if section}


@given(states, states)
def test_a_difference_makes_the_later_state_of_the_earlier(before: State, after: State) -> None:
    filled = {name: section for name, section in after.items() if section}
    assert applied(before, difference(before, after)) == filled


@given(states)
def test_nothing_changed_is_nothing_to_send(state: State) -> None:
    assert difference(state, deepcopy(state)) == {}


def test_only_the_fields_that_changed_are_sent() -> None:
    before = {"queues": {"a": {"waiting": 1, "name": "a"}, "b": {"waiting": 2, "name": "b"}}}
    after = {"queues": {"a": {"waiting": 3, "name": "a"}, "b": {"waiting": 2, "name": "b"}}}
    assert difference(before, after) == {"set": {"queues": {"a": {"waiting": 3}}}}


def test_of_a_text_that_grows_only_its_end_is_sent() -> None:
    before = {"blocks": {"1": {"text": "so far " * 20}}}
    after = {"blocks": {"1": {"text": "so far " * 20 + "and on"}}}
    assert difference(before, after) == {"more": {"blocks": {"1": {"text": "and on"}}}}
