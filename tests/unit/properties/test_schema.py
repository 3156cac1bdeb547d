"""Values to JSON and back: what is written means the same when it is read, or it is refused before it is written."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, computed_field, field_validator
from typing_extensions import TypedDict

from agentq_nb._core.codec import Schema
from agentq_nb.errors import ValidationFailed

texts = st.text(st.characters(exclude_categories=["Cs"]))
plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | texts
    | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))


class Model(BaseModel):
    name: str
    count: int = 0
    maybe: float | None = None


class Aliased(BaseModel):
    file_name: str = Field(alias="fileName")


@dataclass
class Point:
    x: int
    tags: list[str] = field(default_factory=list[str])


class Typed(TypedDict):
    title: str
    done: bool


@given(values)
def test_any_json_comes_back_equal(value: Any) -> None:
    schema = Schema[Any](Any)
    assert schema.load(schema.dump(value, "it"), "it") == value


@given(texts, st.integers(), st.none() | st.floats(allow_nan=False, allow_infinity=False))
def test_a_model_comes_back_equal(name: str, count: int, maybe: float | None) -> None:
    schema = Schema[Model](Model)
    value = Model(name=name, count=count, maybe=maybe)
    assert schema.load(schema.dump(value, "it"), "it") == value


@pytest.mark.parametrize(
    ("declared", "value", "loaded"),
    [
        (Point, Point(1, ["a"]), Point(1, ["a"])),
        (Point, {"x": 1}, Point(1)),
        (Typed, {"title": "a", "done": True}, {"title": "a", "done": True}),
        (str | None, None, None),
        (str | None, "a", "a"),
        (Literal["a", "b"], "b", "b"),
        (list[Model], [{"name": "a"}], [Model(name="a")]),
        (tuple[int, str], (1, "a"), (1, "a")),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (Aliased, {"fileName": "a"}, Aliased(fileName="a")),
        (Aliased, {"file_name": "a"}, Aliased(fileName="a")),
        (Aliased, Aliased(fileName="a"), Aliased(fileName="a")),
    ],
)
def test_declared_types_of_every_kind_come_back(declared: Any, value: Any, loaded: Any) -> None:
    schema = Schema[Any](declared)
    assert schema.load(schema.dump(value, "it"), "it") == loaded


UNWRITABLE = [
    math.nan,
    math.inf,
    -math.inf,
    b"bytes",
    bytearray(b"x"),
    "\ud800",
    {"a": [b"x"]},
    [math.nan],
    {1, 2},
    object(),
]


@pytest.mark.parametrize(
    "value", [one for one in UNWRITABLE if not isinstance(one, set)], ids=lambda value: type(value).__name__
)
def test_what_json_cannot_carry_is_refused_for_any(value: Any) -> None:
    with pytest.raises(ValidationFailed):
        Schema[Any](Any).dump(value, "it")


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (str, b"bytes"),
        (str, "\udfff"),
        (float, math.nan),
        (bytes, b"x"),
        (Model, {"name": "a", "maybe": math.inf}),
        (Model, Model(name="a", maybe=math.nan)),
        (Model, {"name": b"a"}),
        (Model, {}),
        (Point, Point(1, [b"x"])),  # type: ignore[list-item]
        (Literal["a"], "b"),
        (Typed, {"title": "a"}),
    ],
)
def test_what_does_not_fit_or_cannot_be_written_is_refused(declared: Any, value: Any) -> None:
    with pytest.raises(ValidationFailed) as refused:
        Schema[Any](declared).dump(value, "The body")
    assert refused.value.full_code == "actor.validation_error"
    assert "The body" in refused.value.message


def test_a_field_assigned_badly_is_refused_when_it_is_written() -> None:
    value = Model(name="a")
    value.count = "not a number"  # type: ignore[assignment]
    with pytest.raises(ValidationFailed):
        Schema[Model](Model).encode(value, "it")


class WrongDefault(BaseModel):
    count: int = "many"  # type: ignore[assignment]


class Computing(BaseModel):
    count: int

    @computed_field
    @property
    def half(self) -> int:
        return "a half"  # type: ignore[return-value]


class Changing(BaseModel):
    count: int

    @field_validator("count")
    @classmethod
    def change(cls, count: int) -> Any:
        return [count]


class ChangingLater(BaseModel):
    count: int

    def model_post_init(self, context: Any) -> None:
        self.count = "later"  # type: ignore[assignment]


class Naming(BaseModel):
    """Fields that are called as the parts of pydantic's schemas are."""

    default: Computing
    metadata: int = 0


@pytest.mark.parametrize("declared", [WrongDefault, Computing, Changing, ChangingLater])
def test_what_a_type_makes_of_a_plain_value_is_refused_where_it_does_not_fit(declared: Any) -> None:
    value = {} if declared is WrongDefault else {"count": 1}
    with pytest.raises(ValidationFailed):
        Schema[Any](declared).dump(value, "it")
    with pytest.raises(ValidationFailed):
        Schema[Any](list[declared]).dump([value], "it")


def test_what_is_inside_is_looked_at_whatever_its_field_is_called() -> None:
    with pytest.raises(ValidationFailed):
        Schema[Any](Naming).dump({"default": {"count": 1}}, "it")


def test_a_field_assigned_badly_is_refused_deep_inside_too() -> None:
    value = Model(name="a")
    value.count = "not a number"  # type: ignore[assignment]
    with pytest.raises(ValidationFailed):
        Schema[Any](dict[str, list[Model]]).dump({"models": [value]}, "it")


@given(st.dictionaries(texts, st.none() | st.floats() | texts | st.binary(), max_size=3))
def test_a_plain_dict_is_written_or_refused_as_a_list_of_it_is(value: dict[str, Any]) -> None:
    schema, listed = Schema[Any](dict[str, Any]), Schema[Any](list[dict[str, Any]])
    try:
        expected = listed.dump([value], "it")[1:-1]
    except ValidationFailed:
        with pytest.raises(ValidationFailed):
            schema.dump(value, "it")
    else:
        assert schema.dump(value, "it") == expected


def test_the_name_of_a_value_is_made_for_an_error_only() -> None:
    asked: list[str] = []

    def what() -> str:
        asked.append("asked")
        return "The body"

    schema = Schema[Model](Model)
    schema.load(schema.dump({"name": "a"}, what), what)
    assert not asked
    for refused in (lambda: schema.dump({"name": b"a"}, what), lambda: schema.load(b"{}", what)):
        with pytest.raises(ValidationFailed, match="The body"):
            refused()


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValidationFailed):
        Schema[Any](Any).dump(loop, "it")


def test_a_refusal_says_where() -> None:
    with pytest.raises(ValidationFailed) as refused:
        Schema[Any](list[Model]).dump([{"name": "a", "count": "x"}], "The body")
    assert refused.value.metadata["errors"][0]["loc"] == [0, "count"]
    json.dumps(refused.value.metadata)
