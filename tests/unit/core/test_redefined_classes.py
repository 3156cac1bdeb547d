"""A notebook's cell that is run again makes a new class of the same name: its values still fit what was declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from agentq_nb._core.codec import Schema
from agentq_nb.errors import ValidationFailed


class Cell(NamedTuple):
    """What one run of the cell defines."""

    review: type[Any]
    item: type[Any]
    point: type[Any]
    other: type[Any]


def run_cell() -> Cell:
    class Item(BaseModel):
        weight: float

    class Review(BaseModel):
        summary: str
        items: list[Item] = []

    class Other(BaseModel):
        summary: str

    @dataclass
    class Point:
        x: int

    return Cell(Review, Item, Point, Other)


def test_values_of_the_class_of_a_later_run_fit() -> None:
    first, second = run_cell(), run_cell()
    schema = Schema[Any](first.review)
    assert schema.dump(second.review(summary="a"), "It") == b'{"summary":"a","items":[]}'
    assert type(schema.validate(second.review(summary="a"), "It")) is first.review
    assert Schema[Any](first.review | None).dump(second.review(summary="a"), "It") == b'{"summary":"a","items":[]}'


def test_they_fit_inside_other_values_too() -> None:
    first, second = run_cell(), run_cell()
    inside = {"summary": "a", "items": [second.item(weight=1), first.item(weight=2)]}
    expected = b'{"summary":"a","items":[{"weight":1.0},{"weight":2.0}]}'
    assert Schema[Any](first.review).dump(inside, "It") == expected
    assert Schema[Any](list[first.point]).dump([second.point(1)], "It") == b'[{"x":1}]'


def test_their_fields_are_still_checked() -> None:
    first, second = run_cell(), run_cell()
    for wrong in (
        second.review.model_construct(summary=3),
        second.review.model_construct(summary=b"bytes"),
        {"summary": "a", "items": [second.item.model_construct(weight=float("nan"))]},
        second.point("one"),
    ):
        with pytest.raises(ValidationFailed):
            Schema[Any](first.review if not isinstance(wrong, second.point) else first.point).dump(wrong, "It")


def test_a_class_of_another_name_does_not_fit_however_equal_its_fields() -> None:
    with pytest.raises(ValidationFailed, match="instance of Review"):
        Schema[Any](run_cell().review).dump(run_cell().other(summary="a"), "It")


def test_they_may_be_put_into_a_state_that_was_there_before() -> None:
    first, second = run_cell(), run_cell()
    state = first.review(summary="a")
    state.items.append(second.item(weight=1))
    assert Schema[Any](first.review).encode(state, "State") == b'{"summary":"a","items":[{"weight":1.0}]}'


@pytest.mark.parametrize("wrong", ["seven", "5", float("nan"), object()])
def test_a_state_with_a_value_of_another_type_is_refused(wrong: object) -> None:
    cell = run_cell()
    item = cell.item(weight=1)
    item.weight = wrong
    with pytest.raises(ValidationFailed):
        Schema[Any](cell.item).encode(item, "State")
