"""What may be a tool, what an agent is told of it, how bad arguments are answered, and how values are shown."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import functools
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import pandas
import pytest
from pydantic import BaseModel, Field, ImportString

from agentq_nb import agent_os
from agentq_nb.agent_os.tools.render import LARGEST, as_json, shown
from agentq_nb.agent_os.tools.tool import HostTool
from agentq_nb.errors import ValidationFailed


class Point(BaseModel):
    x: float
    y: float = 0.0


@dataclasses.dataclass
class Named:
    name: str
    at: Point


class Colour(enum.Enum):
    RED = "red"


def plot(
    points: list[Point],
    colour: Colour | None = None,
    scale: Annotated[float, Field(gt=0, description="Metres a pixel.")] = 1.0,
    kind: Literal["line", "bar"] = "line",
) -> str:
    """Draw points.

    The first one is the origin.
    """
    return f"{[(point.x, point.y) for point in points]} {colour} {scale} {kind}"


def called(function: Callable[..., Any], **arguments: Any) -> Any:
    return asyncio.run(HostTool(function).call(arguments))


def test_the_signature_and_the_docstring_are_what_an_agent_is_told() -> None:
    tool = HostTool(plot)
    assert tool.name == "plot"
    assert tool.description == "Draw points.\n\nThe first one is the origin."
    assert tool.schema["required"] == ["points"]
    assert tool.schema["additionalProperties"] is False
    properties = tool.schema["properties"]
    assert properties["points"]["items"] == {"$ref": "#/$defs/Point"}
    assert properties["scale"] == {
        "default": 1.0,
        "description": "Metres a pixel.",
        "exclusiveMinimum": 0,
        "type": "number",
    }
    assert properties["kind"] == {"default": "line", "enum": ["line", "bar"], "type": "string"}
    assert json.loads(json.dumps(tool.schema)) == tool.schema


def test_arguments_arrive_as_the_annotations_say() -> None:
    assert called(plot, points=[{"x": "1"}], colour="red", kind="bar") == "[(1.0, 0.0)] Colour.RED 1.0 bar"


def test_an_argument_may_be_a_dataclass_which_holds_others() -> None:
    def greet(who: Named, others: Sequence[Named] = ()) -> str:
        return f"{who} {others}"

    assert HostTool(greet).schema["$defs"]["Named"]["required"] == ["name", "at"]
    ada = {"name": "Ada", "at": {"x": 1}}
    assert called(greet, who=ada, others=[ada]) == f"{Named('Ada', Point(x=1))} [{Named('Ada', Point(x=1))}]"
    with pytest.raises(ValidationFailed, match=r"who\.at\.x: Field required"):
        called(greet, who={"name": "Ada", "at": {}})


def test_a_function_without_annotations_or_docstring_is_a_tool_too() -> None:
    def add(a, b=2):  # type: ignore[no-untyped-def]  # that is what this is about
        return a + b

    tool = HostTool(add)
    assert tool.schema["properties"] == {"a": {}, "b": {"default": 2}}
    assert tool.description == ""
    assert called(add, a=1) == 3


def test_a_function_without_arguments_has_a_schema() -> None:
    def now() -> str:
        return "now"

    assert HostTool(now).schema == {"additionalProperties": False, "properties": {}, "type": "object"}


def test_arguments_may_be_called_like_things_of_pydantic() -> None:
    def odd(schema: int, model_config: int, _private: int, json: int = Field(4, ge=0), self: int = 5) -> list[int]:
        return [schema, model_config, _private, json, self]

    assert set(HostTool(odd).schema["properties"]) == {"schema", "model_config", "_private", "json", "self"}
    assert called(odd, schema=1, model_config=2, _private=3) == [1, 2, 3, 4, 5]


def test_a_default_is_passed_as_it_is_even_if_it_is_not_json() -> None:
    nothing = object()

    def find(what: Any = nothing) -> bool:
        return what is nothing

    assert called(find)
    assert HostTool(find).schema["properties"] == {"what": {}}


def test_methods_and_coroutine_functions_are_tools() -> None:
    class Shop:
        """A shop."""

        def __init__(self) -> None:
            self.prices = {"tea": 3}

        async def price(self, of: str) -> int:
            """What it costs."""
            return self.prices[of]

    tool = HostTool(Shop().price)
    assert list(tool.schema["properties"]) == ["of"]
    assert tool.description == "What it costs."
    assert called(Shop().price, of="tea") == 3


def test_bad_arguments_are_refused_in_words_that_say_how_it_is_done() -> None:
    with pytest.raises(ValidationFailed) as refused:
        called(plot, points=[{"x": "one"}], scale=0, colour="blue", size=3)
    text = refused.value.message
    assert text.startswith("plot was not called, its arguments do not fit:\n")
    assert "- points.0.x: Input should be a valid number" in text
    assert "- scale: Input should be greater than 0" in text
    assert "- size: Extra inputs are not permitted" in text
    assert "It is plot(points: list[" in text
    with pytest.raises(ValidationFailed, match="- points: Field required"):
        called(plot)


def generates():
    yield 1


async def generates_later():
    yield 1


def takes_any(*args: int) -> None: ...


def takes_more(**kwargs: int) -> None: ...


def takes_by_position(a: int, /) -> None: ...


def takes_a_frame(frame: pandas.DataFrame) -> None: ...


def takes_a_function(then: Callable[[int], int]) -> None: ...


def imports(what: ImportString[Any]) -> None: ...


class Imports(BaseModel):
    names: dict[str, list[Annotated[ImportString[Callable[..., Any]], "checked"] | None]] = {}


def imports_within(settings: Annotated[Imports | None, "more"] = None) -> None: ...


def größe() -> int:
    return 1


def named_far_too_long_for_what_language_models_take_as_a_name() -> None: ...


def annotated_with_what_is_not_there(a: Missing) -> None: ...  # noqa: F821  # type: ignore[name-defined]  # the point


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (plot, r"a list of functions, as in tools=\[f, g\]"),
        ("plot", r"a list of functions, as in tools=\[f, g\]"),
        ({"plot": plot}, r"a list of functions, as in tools=\[f, g\]"),
        ([3], "takes functions, not 3: write a function"),
        ([Point], "takes functions, not <class .*Point'>: write a function"),
        ([lambda: 1], "A tool needs a name.*`def name"),
        ([functools.partial(plot, [])], "A tool needs a name.*`def name"),
        ([plot, plot], "Two tools are called 'plot': give one of the functions another name"),
        ([größe], "'größe' cannot be the name of a tool"),
        ([named_far_too_long_for_what_language_models_take_as_a_name], "up to 48 letters"),
        ([generates], "'generates' yields.*return a list"),
        ([generates_later], "'generates_later' yields.*return a list"),
        ([takes_any], r"takes \*arguments, but agents give arguments by name"),
        ([takes_more], r"takes \*\*arguments, but agents give arguments by name"),
        ([takes_by_position], "by its position only, but agents give arguments by name"),
        ([takes_a_frame], "cannot write as JSON.*DataFrame.*find the object by that"),
        ([takes_a_function], "cannot write as JSON.*find the object by that"),
        ([imports], "'imports' takes an ImportString.*any module.*a name"),
        ([imports_within], "'imports_within' takes an ImportString"),
        ([annotated_with_what_is_not_there], "annotation 'Missing'.* is not defined.*at the top level"),
        ([print], r"Tool 'print' takes \*arguments"),
        ([max], "does not tell its arguments.*wrap it in a `def`"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_when_the_vm_is_made(given: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        agent_os(tools=given)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "done"),
        ("as it is", "as it is"),
        ("", ""),
        (True, "true"),
        (0.1, "0.1"),
        (float("nan"), "NaN"),
        ([1, "zwei", None, {"a": (1,)}], '[1,"zwei",null,{"a":[1]}]'),
        (Point(x=1), '{"x":1.0,"y":0.0}'),
        (Named("here", Point(x=1)), '{"name":"here","at":{"x":1.0,"y":0.0}}'),
        ({"when": datetime.date(2026, 1, 2)}, '{"when":"2026-01-02"}'),
        ({"what": object}, '{"what":"<class \'object\'>"}'),
        (b"\xff", "b'\\xff'"),
        ([b"\xff"], '["_w=="]'),
        (Point, repr(Point)),
        (pandas.Series([1, 2]).sum(), "3"),
        (pandas.Series([1.5]).max(), "1.5"),
        ((pandas.Series([1, 2]) > 1).any(), "true"),
        (3 + 4j, "(3+4j)"),
    ],
)
def test_a_value_is_shown_as_text_that_a_model_can_read(value: Any, text: str) -> None:
    assert shown(value) == text


def test_tables_are_shown_whole_when_small_and_in_part_when_large() -> None:
    small = pandas.DataFrame({"name": ["tea", "milk"], "price": [3, 1]})
    assert shown(small) == "2 rows, 2 columns\n   name  price\n0   tea      3\n1  milk      1"
    large = shown(pandas.DataFrame({f"column {index}": range(100_000) for index in range(100)}))
    assert large.startswith("100000 rows, 100 columns\n")
    assert len(large) < LARGEST
    assert "99999" in large
    assert "..." in large
    assert shown(small["price"]) == "2 values\n0    3\n1    1"
    # Numbers and tables of pandas inside other data.
    assert json.loads(shown({"sum": small["price"].sum(), "rows": small.head(1)})) == {
        "sum": 4,
        "rows": "1 rows, 2 columns\n  name  price\n0  tea      3",
    }


def test_what_is_too_long_is_cut_and_says_so() -> None:
    text = shown("x" * 1_000_000)
    assert text.endswith("\n[cut: these are the first 32,768 of 1,000,000 characters]")
    assert len(text) < LARGEST + 100
    assert shown("x" * LARGEST) == "x" * LARGEST


def test_data_that_holds_itself_is_shown_all_the_same() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert shown(loop) == "[[...]]"
    assert as_json(loop) == "[[...]]"
