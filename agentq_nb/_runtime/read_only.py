"""Make a state object read-only, with all that is in it: it keeps its types, and changing it raises at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, cast
from weakref import WeakKeyDictionary

from pydantic import BaseModel

from agentq_nb.errors import StateReadOnly

Value = TypeVar("Value")


def _refuse(*_: object, **__: object) -> NoReturn:
    raise StateReadOnly()


def _without(base: type, *names: str) -> type[Any]:
    return type(base.__name__, (base,), {"__slots__": (), **dict.fromkeys(names, _refuse)})


_LIST = _without(
    list,
    *("append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"),
    *("__delitem__", "__iadd__", "__imul__", "__setitem__"),
)
_DICT = _without(
    dict, *("clear", "pop", "popitem", "setdefault", "update"), *("__delitem__", "__ior__", "__setitem__")
)
_SET = _without(
    set,
    *("add", "clear", "difference_update", "discard", "intersection_update", "pop", "remove"),
    *("symmetric_difference_update", "update", "__iand__", "__ior__", "__isub__", "__ixor__"),
)

_classes: WeakKeyDictionary[type, type] = WeakKeyDictionary()
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
    found = _classes.get(cls)
    if found is None:
        names: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
        names |= {"__setattr__": _refuse, "__delattr__": _refuse, "__doc__": cls.__doc__}
        if issubclass(cls, BaseModel):
            # Nothing is validated by this class, so its schema is never built; it is dumped as its base is.
            names["model_config"] = {**cls.model_config, "defer_build": True}
            found = type(cls)(cls.__name__, (cls,), names)
            for name in ("__pydantic_core_schema__", "__pydantic_serializer__", "__pydantic_validator__"):
                setattr(found, name, getattr(cls, name))
        else:
            names |= {"__slots__": ()} | {name: _as_before(cls, name) for name in ("__eq__", "__hash__")}
            found = type(cls)(cls.__name__, (cls,), names)
        _classes[cls] = found
    return found


def _as_before(cls: type[Any], name: str) -> Any:
    return getattr(cls, name)


_BUILT_IN: dict[type[Any], Callable[[Any], Any]] = {
    list: lambda value: _LIST(map(_made_read_only, value)),
    dict: lambda value: _DICT({key: _made_read_only(part) for key, part in value.items()}),
    set: lambda value: _SET(value),
    tuple: lambda value: tuple(map(_made_read_only, value)),
}
