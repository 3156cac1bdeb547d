"""``{{name}}`` in what is typed: the notebook's variable in its place. Pure functions.

Only names, their attributes and items are taken, never expressions: a body may be anything, and runs nothing.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from agentq_nb._commands.parser import UsageError

# Four braces stand for two; with nothing or a line's end between them, two braces stand for themselves.
_BRACES = re.compile(r"\{\{\{\{(?:(?P<as_is>[^{}\n]*)\}\}\}\})?|\{\{(?P<named>\s*[^{}\s][^{}\n]*)\}\}")


@dataclass(frozen=True)
class _Place:
    """Where a value goes, and the value."""

    named: str
    value: Any


def filled_body(template: str, variables: Mapping[str, Any]) -> str:
    """``template`` with each ``{{name}}`` replaced, also ``{{name.attribute}}`` and ``{{name[0]}}``.

    A body that is JSON then gets JSON: ``{"file": {{path}}}``, and inside a text ``{"prompt": "Review {{path}}"}`` the
    value's own text. Any other body gets the value's text. ``{{{{`` stands for two braces. Raises UsageError, naming what
    is not there.
    """
    pieces = list(_pieces(template, variables))
    as_json, unfit = _as_json(pieces)
    if len(pieces) > 1 and _is_json(as_json):
        if unfit is not None:
            raise UsageError(
                f"{{{{{unfit.named}}}}} is of type {type(unfit.value).__name__}, which JSON has no form for. "
                f"Put what is meant of it into a variable, as text, number, list or dict."
            )
        return as_json
    return _as_text(pieces)


def filled_word(template: str, variables: Mapping[str, Any]) -> str:
    """A word of a command, not its body, with each ``{{name}}`` replaced by the value's text. Raises UsageError."""
    return _as_text(_pieces(template, variables))


def _as_text(pieces: Iterable[str | _Place]) -> str:
    return "".join(piece if isinstance(piece, str) else str(piece.value) for piece in pieces)


def _pieces(template: str, variables: Mapping[str, Any]) -> Iterator[str | _Place]:
    """The template in order: text that stays, and places."""
    begin = 0
    for found in _BRACES.finditer(template):
        yield template[begin : found.start()]
        begin = found.end()
        named, as_is = found["named"], found["as_is"]
        if named is not None:
            yield _Place(named.strip(), _value(named.strip(), variables))
        else:
            yield "{{" if as_is is None else f"{{{{{as_is}}}}}"
    yield template[begin:]


# --- values -----------------------------------------------------------------------------------------------------------


def _value(named: str, variables: Mapping[str, Any]) -> Any:
    try:
        return _of(ast.parse(named, mode="eval").body, variables)
    except (SyntaxError, ValueError):
        raise UsageError(
            f"{{{{{named}}}}} names no variable, as {{{{name}}}}, {{{{name.attribute}}}} and {{{{name[0]}}}} do. "
            f"Put its value into a variable first, or type {{{{{{{{ where two braces are meant."
        ) from None
    except _NoVariable as error:
        raise UsageError(
            f"There is no variable '{error}' here for {{{{{named}}}}}. Type {{{{{{{{ where two braces are meant."
        ) from None
    except (AttributeError, LookupError, TypeError) as error:
        raise UsageError(f"{{{{{named}}}}} has no value: {type(error).__name__}: {error}") from None


class _NoVariable(Exception):
    """Its message is the name."""


def _of(node: ast.expr, variables: Mapping[str, Any]) -> Any:
    match node:
        case ast.Name(id=name):
            if name not in variables:
                raise _NoVariable(name)
            return variables[name]
        case ast.Attribute(value=inner, attr=name):
            return getattr(_of(inner, variables), name)
        case ast.Subscript(value=inner, slice=index):
            return _of(inner, variables)[ast.literal_eval(index)]
        case _:
            raise ValueError


# --- JSON -------------------------------------------------------------------------------------------------------------


def _as_json(pieces: list[str | _Place]) -> tuple[str, _Place | None]:
    """The pieces as they would stand in JSON, and the first that cannot."""
    made, inside, unfit = "", False, None
    for piece in pieces:
        if isinstance(piece, str):
            made += piece
            inside = _ends_inside_text(piece, inside)
        elif inside:
            made += json.dumps(str(piece.value))[1:-1]
        else:
            try:
                made += json.dumps(to_jsonable_python(piece.value, fallback=_plain), allow_nan=False)
            except (PydanticSerializationError, ValueError, TypeError):
                made, unfit = made + "null", unfit or piece
    return made, unfit


def _plain(value: Any) -> Any:
    """Numbers and columns of numpy and pandas as Python's own."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"JSON has no form for {type(value).__name__}")


def _ends_inside_text(piece: str, inside: bool) -> bool:
    """Whether a quote is open at the end of a piece of JSON, given whether one was open before it."""
    quotes = sum(found == '"' for found in re.findall(r'\\.|"', piece, re.DOTALL))
    return inside ^ (quotes % 2 == 1)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
