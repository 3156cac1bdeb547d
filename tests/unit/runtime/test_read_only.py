"""A read-only state: every change raises, whatever it holds; it compares, serialises and is copied as the original."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from agentq_nb._runtime.read_only import read_only
from agentq_nb.errors import StateReadOnly


class Inner(BaseModel):
    tags: set[str] = {"a"}


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    number: int = 1
    names: list[str] = ["a"]
    by_name: dict[str, list[int]] = {"a": [1]}
    inner: Inner = Inner()
    pair: tuple[list[int], int] = ([1], 2)


class Validating(BaseModel):
    model_config = ConfigDict(validate_assignment=True, frozen=True)
    names: list[str] = ["a"]


@dataclasses.dataclass
class Data:
    number: int = 1
    names: list[str] = dataclasses.field(default_factory=lambda: ["a"])
    inner: Inner = dataclasses.field(default_factory=Inner)


@dataclasses.dataclass(slots=True)
class Slotted:
    number: int = 1
    names: list[str] = dataclasses.field(default_factory=lambda: ["a"])


@dataclasses.dataclass(frozen=True)
class Frozen:
    names: list[str] = dataclasses.field(default_factory=lambda: ["a"])


def assign(name: str) -> Callable[[Any], None]:
    return lambda value: setattr(value, name, 5)


CHANGES: list[tuple[Any, Callable[[Any], Any]]] = [
    (Model(), assign("number")),
    (Model(), assign("new")),
    (Model(), lambda value: delattr(value, "number")),
    (Model(), lambda value: value.names.append("b")),
    (Model(), lambda value: value.names.sort()),
    (Model(), lambda value: value.by_name.setdefault("b", [])),
    (Model(), lambda value: value.by_name["a"].append(2)),
    (Model(), lambda value: value.by_name.__setitem__("b", [])),
    (Model(), lambda value: value.inner.tags.add("b")),
    (Model(), lambda value: setattr(value.inner, "tags", set())),
    (Model(), lambda value: value.pair[0].append(2)),
    (Model(more=[1]), lambda value: value.more.append(2)),  # type: ignore[call-arg]
    (Validating(), lambda value: value.names.append("b")),
    (Data(), assign("number")),
    (Data(), lambda value: value.names.clear()),
    (Data(), lambda value: value.inner.tags.clear()),
    (Slotted(), assign("number")),
    (Slotted(), lambda value: value.names.pop()),
    (Frozen(), lambda value: value.names.insert(0, "b")),
]


@pytest.mark.parametrize(("value", "change"), CHANGES)
def test_every_change_raises_and_changes_nothing(value: Any, change: Callable[[Any], Any]) -> None:
    before = copy.deepcopy(value)
    seen = read_only(copy.deepcopy(value))
    with pytest.raises(StateReadOnly):
        change(seen)
    assert seen == before
    assert before == seen


@pytest.mark.parametrize("value", [Model(more=[1]), Validating(), Data(), Slotted(), Frozen()])  # type: ignore[call-arg]
def test_it_keeps_its_type_and_content(value: Any) -> None:
    seen = read_only(copy.deepcopy(value))
    assert isinstance(seen, type(value))
    assert repr(seen) == repr(value)
    if isinstance(value, BaseModel):
        assert isinstance(seen, BaseModel)
        assert (seen.model_dump(), seen.model_dump_json()) == (value.model_dump(), value.model_dump_json())
    else:
        assert dataclasses.asdict(seen) == dataclasses.asdict(value)
    assert json.dumps(seen.names) == '["a"]'


@pytest.mark.parametrize("value", [Model(), Data(), Slotted()])
def test_copies_may_be_changed(value: Any) -> None:
    seen = read_only(copy.deepcopy(value))
    copies = [copy.deepcopy(seen), copy.copy(seen)]
    if isinstance(seen, BaseModel):
        copies += [seen.model_copy(), seen.model_copy(deep=True), seen.model_copy(update={"number": 1})]
    else:
        copies += [dataclasses.replace(seen, number=1)]
    for copied in copies:
        assert type(copied) is type(value)
        copied.number = 7
    copies[0].names.append("b")
    assert type(seen)().number == 1
    assert type(seen)(number=3).number == 3
    assert seen == value


def test_a_subclass_of_a_list_that_is_compared_is_a_list() -> None:
    seen = read_only(Model())
    assert seen.names == ["a"]
    assert [*seen.names, "b"] == ["a", "b"]
    assert seen.by_name == {"a": [1]}
    assert {**seen.by_name} == {"a": [1]}
    assert type(copy.copy(seen.names)) is list
