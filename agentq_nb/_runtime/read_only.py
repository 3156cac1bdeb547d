"""Make a state object read-only, with all that is in it: it keeps its types, and changing it raises at once.

Copies of it are of the original types, and may be changed.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, cast
from weakref import WeakKeyDictionary

from pydantic import BaseModel

from agentq_nb.errors import StateReadOnly

Value = TypeVar("Value")


def _refuse(*_: object, **__: object) -> NoReturn:
    raise StateReadOnly()


def _without(base: type[Any], *names: str) -> type[Any]:
    """Return a subclass of a built-in type whose methods of these names raise."""
    own: dict[str, Any] = {"__slots__": (), "__reduce_ex__": _as(base), "__repr__": _shown_as(base)}
    return type(base.__name__, (base,), {**own, **dict.fromkeys(names, _refuse)})


def _shown_as(base: type[Any]) -> Callable[[Any], str]:
    return lambda value: repr(base(value))


def _as(base: type[Any]) -> Callable[[Any, Any], Any]:
    """Return how the copy module copies such an object: as one of ``base``."""
    return lambda value, _protocol: (base, (base(value),))


_LIST = _without(
    list,
    *("append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"),
    *("__delitem__", "__iadd__", "__imul__", "__setitem__"),
)
_DICT = _without(dict, *("clear", "pop", "popitem", "setdefault", "update"), *("__delitem__", "__ior__", "__setitem__"))
_SET = _without(
    set,
    *("add", "clear", "difference_update", "discard", "intersection_update", "pop", "remove"),
    *("symmetric_difference_update", "update", "__iand__", "__ior__", "__isub__", "__ixor__"),
)

_classes: WeakKeyDictionary[type[Any], type[Any]] = WeakKeyDictionary()
"""By the class of a user's object, a subclass of it whose attributes cannot be assigned."""


def read_only(value: Value) -> Value:
    """Return ``value``, or what equals it, so that it cannot be changed: neither itself nor what it holds."""
    return cast(Value, _made_read_only(value))


def _made_read_only(value: Any) -> Any:
    convert = _BUILT_IN.get(cast("type[Any]", type(value)))
    if convert is not None:
        return convert(value)
    if isinstance(value, BaseModel):
        names = [*type(value).model_fields, *(value.model_extra or ())]
    elif dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        return value
    for name in names:
        if hasattr(value, name):
            _set(value, name, _made_read_only(getattr(value, name)))
    object.__setattr__(value, "__class__", _class_of(type(value)))
    return value


def _set(value: Any, name: str, part: Any) -> None:
    """Assign without what the class does then: it may validate, or be frozen."""
    if isinstance(value, BaseModel) and name in (value.model_extra or ()):
        cast("dict[str, Any]", value.model_extra)[name] = part
    else:
        object.__setattr__(value, name, part)


def _class_of(cls: type[Any]) -> type[Any]:
    if cls not in _classes:
        meta: Any = type(cls)
        names: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
        names |= dict.fromkeys(("__setattr__", "__delattr__"), _refuse) | _copying(cls)
        if issubclass(cls, BaseModel):
            # This class validates nothing and is dumped as its base is, so no schema is built for it.
            names["model_config"] = {**cls.model_config, "defer_build": True}
            _classes[cls] = meta(cls.__name__, (cls,), names)
            for name in ("__pydantic_core_schema__", "__pydantic_serializer__", "__pydantic_validator__"):
                setattr(_classes[cls], name, getattr(cls, name))
        else:
            _classes[cls] = meta(cls.__name__, (cls,), {**names, "__slots__": ()})
    return _classes[cls]


class _Copied:
    """Is copied by these rules, whatever ``__copy__`` the class of the copy has."""

    def __init__(self, reduced: Any) -> None:
        self._reduced = reduced

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._reduced


def _copying(cls: type[Any]) -> dict[str, Any]:
    """Return methods by which copies, comparisons and new objects are those of ``cls``."""

    def reduced(self: Any, protocol: Any) -> Any:
        how: Any = object.__reduce_ex__(self, max(protocol, 2))
        function, arguments, state, *rest = how
        if isinstance(self, BaseModel):
            state = {name: copy.copy(part) for name, part in state.items()}
        return function, (cls, *arguments[1:]), state, *rest

    def copied(self: Any) -> Any:
        return copy.copy(_Copied(reduced(self, 4)))

    def deeply_copied(self: Any, memo: Any = None) -> Any:
        return copy.deepcopy(_Copied(reduced(self, 4)), memo)

    def equals(self: Any, other: Any) -> Any:
        return deeply_copied(self) == (copy.deepcopy(other) if type(other) is type(self) else other)

    def make(_cls: Any, /, *args: Any, **kwargs: Any) -> Any:
        return cls(*args, **kwargs)

    return {
        "__reduce_ex__": reduced,
        "__copy__": copied,
        "__deepcopy__": deeply_copied,
        "__eq__": equals,
        "__hash__": cls.__hash__,
        "__new__": make,
    }


_BUILT_IN: dict[type[Any], Callable[[Any], Any]] = {
    list: lambda value: _LIST(map(_made_read_only, value)),
    dict: lambda value: _DICT({key: _made_read_only(part) for key, part in value.items()}),
    set: lambda value: _SET(value),
    tuple: lambda value: tuple(map(_made_read_only, value)),
}
