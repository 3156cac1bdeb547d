"""Replace ``{{name}}`` in typed text with the notebook's variable. Pure functions.

Only names, their attributes and items are allowed, never expressions: a body may contain anything, and runs nothing.
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

# Four braces are an escape for two; with nothing or a line's end between them, two braces are literal.
_BRACES = re.compile(r"\{\{\{\{(?:(?P<as_is>[^{}\n]*)\}\}\}\})?|\{\{(?P<named>\s*[^{}\s][^{}\n]*)\}\}")


@dataclass(frozen=True)
class _Place:
    """A placeholder and its value."""

    named: str
    value: Any


def filled_body(template: str, variables: Mapping[str, Any]) -> str:
    """Return ``template`` with each ``{{name}}`` replaced, also ``{{name.attribute}}`` and ``{{name[0]}}``.

    If the body is JSON, so is the value: ``{"file": {{path}}}``; inside a string, as in ``{"prompt": "Review
    {{path}}"}``, it is the value's own text. Any other body gets the value's text. ``{{{{`` is an escape for two
    braces. Raises UsageError, naming the missing variable.
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
    """Return a command's word, not its body, with each ``{{name}}`` replaced by the value's text. Raises UsageError."""
    return _as_text(_pieces(template, variables))


def _as_text(pieces: Iterable[str | _Place]) -> str:
    return "".join(piece if isinstance(piece, str) else str(piece.value) for piece in pieces)


def _pieces(template: str, variables: Mapping[str, Any]) -> Iterator[str | _Place]:
    """Yield the template's parts in order: literal text, and placeholders."""
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
    """A variable is missing; the message is its name."""


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
    """Return the template as JSON, and the first placeholder whose value has no JSON form."""
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
    """Convert numbers and columns of numpy and pandas to Python's own."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"JSON has no form for {type(value).__name__}")


def _ends_inside_text(piece: str, inside: bool) -> bool:
    """Whether a string is open at the end of a piece of JSON, given whether one was open before it."""
    quotes = sum(found == '"' for found in re.findall(r'\\.|"', piece, re.DOTALL))
    return inside ^ (quotes % 2 == 1)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
