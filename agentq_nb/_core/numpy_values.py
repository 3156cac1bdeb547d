"""Convert scalars of numpy, pandas and similar libraries to JSON types; collections are refused.

None of these libraries is imported here: a program that holds such a value has imported its library already.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, cast

from pydantic import BaseModel

from agentq_nb.errors import ValidationFailed

_LIBRARIES = frozenset(
    ("numpy", "pandas", "polars", "pyarrow", "torch", "jax", "jaxlib", "tensorflow", "xarray", "decimal")
)

_MISSING = frozenset(("NaTType", "NAType", "NAScalar"))

_PYTHON = (str, int, float, type(None), date, time, timedelta, Decimal)
"""Types that pydantic writes as JSON in one obvious form."""


def is_foreign(item: Any) -> bool:
    """Whether a value's type belongs to one of these libraries, or is derived from one of their types."""
    return any(base.__module__.partition(".")[0] in _LIBRARIES for base in type(item).__mro__)


class Converted(NamedTuple):
    """The result of a conversion. ``changed``: whether there was anything to convert."""

    value: Any
    changed: bool


def converted(value: Any, what: str) -> Converted:
    """Return a copy of ``value`` with such scalars converted; models and dataclasses become dicts.

    A missing value (``NaT``, ``NA``) becomes None, a timestamp becomes ISO text to the microsecond. A Decimal stays: it
    is written as text, digit for digit, which a field of type Decimal reads back. Raises ``actor.validation_error`` for
    collections.
    """
    conversion = _Conversion(what)
    return Converted(conversion.value(value, ""), conversion.changed)


class _Conversion:
    def __init__(self, what: str) -> None:
        self._what = what
        self.changed = False

    def value(self, item: Any, place: str) -> Any:
        """Convert ``item`` and everything in it; ``place`` is its path from the root."""
        if is_foreign(item):
            return self._scalar(item, place)
        if isinstance(item, BaseModel) or (dataclasses.is_dataclass(item) and not isinstance(item, type)):
            return self._fields(cast(dict[Any, Any], vars(item)).items(), place)
        if isinstance(item, dict):
            return self._fields(cast(dict[Any, Any], item).items(), place)
        if isinstance(item, (list, tuple, set, frozenset)):
            return [self.value(part, f"{place}[{index}]") for index, part in enumerate(cast("list[Any]", item))]
        return item

    def _fields(self, fields: Iterable[tuple[Any, Any]], place: str) -> dict[Any, Any]:
        return {
            self._scalar(key, place) if is_foreign(key) else key: self.value(
                part, f"{place}.{key}" if place else f"{key}"
            )
            for key, part in fields
        }

    def _scalar(self, item: Any, place: str) -> Any:
        self.changed = True
        if type(item).__name__ in _MISSING:
            return None
        if hasattr(item, "dtype") and getattr(item, "ndim", None) == 0:
            item = _item(item)
        if isinstance(item, Decimal) and not item.is_finite():
            raise ValidationFailed(
                f"{self._what} holds {item}{_at(place)}, which JSON cannot carry: send None or a str instead."
            )
        if isinstance(item, _PYTHON):
            return item
        raise ValidationFailed(
            f"{self._what} holds {_a(item)}{_at(place)}, which JSON cannot carry: {_instead(item)}.",
            metadata={"place": place},
        )


def _item(scalar: Any) -> Any:
    """Return a numpy scalar, or an array with one element, as a Python value, truncated to the microsecond."""
    if scalar.dtype.kind not in "mM":
        return scalar.item()
    if scalar != scalar:
        return None
    python = scalar.item()
    return scalar.astype(f"{scalar.dtype.kind}8[us]").item() if isinstance(python, int) else python


def _at(place: str) -> str:
    return f" at `{place}`" if place else ""


def _a(item: Any) -> str:
    if isinstance(item, (bytes, bytearray, memoryview)):
        return "bytes"
    kind = type(cast(object, item))
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__.partition('.')[0]} {kind.__qualname__}"
    )
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _instead(item: Any) -> str:
    """Return advice on what to send in place of this value."""
    if isinstance(item, (bytes, bytearray, memoryview)):
        return BYTES_INSTEAD
    if hasattr(item, "columns") and hasattr(item, "to_dict"):
        if hasattr(item, "to_dicts"):
            return "send x.to_dicts(), or a message for each row; for a large one, save it and send the file's path"
        return (
            'send x.to_dict("records"), or a message for each row; for a large one, save it and send the file\'s path'
        )
    for method in ("tolist", "to_list", "to_pylist"):
        if getattr(item, "ndim", 1) != 0 and hasattr(item, method):
            return f"send x.{method}(); for a large one, save it and send the file's path"
    if hasattr(item, "__float__") and not isinstance(item, complex):
        return "send float(x)"
    return "send str(x), or a dict or list of what matters in it"


BYTES_INSTEAD = "decode them to a str, or save them and send the file's path"
