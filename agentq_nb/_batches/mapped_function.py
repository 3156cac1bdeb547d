"""The function that ``map`` calls for each item: what it takes, how it is called, and whether it has changed."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import inspect
import textwrap
from collections.abc import Callable
from types import CodeType
from typing import Any, get_type_hints, is_typeddict

from pydantic import BaseModel

from agentq_nb.errors import ValidationFailed


@dataclasses.dataclass(frozen=True)
class MappedFunction:
    """A function of one item.

    :ivar body: the type of the items: that of its parameter if it is a model, dataclass or TypedDict; else any JSON.
    :ivar digest: a hash that changes when the function's code does.
    """

    name: str
    call: Callable[[Any], Any]
    is_async: bool
    body: Any
    digest: str
    is_pure: bool
    """Whether its code is all there is: no values are bound to it, as in closures, partials and objects."""


def mapped_function(function: object) -> MappedFunction:
    """Look at a function. Raises ``actor.validation_error`` for what cannot be called with one item."""
    if not callable(function):
        raise ValidationFailed(
            f"map takes a function of one item, plain or async, or an agent such as agents.claude; not {function!r:.100}."
        )
    code = _code_of(function)
    name = getattr(code, "__name__", type(function).__name__)
    if inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code):
        raise ValidationFailed(f"{name} yields; map takes a function that returns one value for an item, its reply.")
    return MappedFunction(
        name=name,
        call=function,
        is_async=inspect.iscoroutinefunction(code),
        body=_type_of_items(function, code, name),
        digest=_digest(code),
        is_pure=code is function
        and getattr(code, "__closure__", None) is None
        and getattr(code, "__defaults__", None) is None,
    )


def _code_of(function: Callable[..., Any]) -> Any:
    """Return the function that has the code, below partials, decorators and callable objects."""
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not inspect.isroutine(inner) and not inspect.isclass(inner):
        inner = type(inner).__call__
    return inspect.unwrap(inner)


def _type_of_items(function: Callable[..., Any], code: Any, name: str) -> Any:
    """Return the type of the first parameter, as far as it shapes the items. Raises ``actor.validation_error``."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions have none
        return Any
    try:
        signature.bind(object())
    except TypeError as error:
        raise ValidationFailed(
            f"map calls {name} with one item, and {name}{signature} cannot be called so: {error}. For more arguments: "
            f"lambda item: {name}(item, ...), or functools.partial."
        ) from None
    parameter = next(iter(signature.parameters.values()))
    annotation: Any = parameter.annotation
    if isinstance(annotation, str):
        try:
            annotation = get_type_hints(code).get(parameter.name, Any)
        except Exception:  # a name that is only there for type checkers
            return Any
    return annotation if _shapes(annotation) else Any


def _shapes(annotation: Any) -> bool:
    if not inspect.isclass(annotation):
        return False
    return issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation) or is_typeddict(annotation)


def _digest(code: Any) -> str:
    """Return a hash of the function's source without comments and layout; of its bytecode where there is no source."""
    try:
        if getattr(code, "__name__", "") == "<lambda>":  # its source is the whole statement around it
            raise OSError
        text = ast.dump(ast.parse(textwrap.dedent(inspect.getsource(code))))
    except (OSError, TypeError, SyntaxError, ValueError):
        text = _bytecode(getattr(code, "__code__", None)) or str(getattr(code, "__qualname__", code))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _bytecode(code: CodeType | None) -> str:
    if code is None:
        return ""
    inner = [_bytecode(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return repr((code.co_code, code.co_names, inner))
