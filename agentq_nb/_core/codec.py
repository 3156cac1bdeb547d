"""Validate values of declared types and convert them to JSON and back without loss.

pydantic writes NaN as null, accepts bytes for str, and only warns about an invalid assignment. None of that may reach a
queue, so each is an error here, before anything is written.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from functools import cached_property
from typing import Any, Generic, TypeAlias, TypeVar, cast

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import PydanticSerializationError, to_json

from agentq_nb._core.numpy_values import BYTES_INSTEAD, Converted, converted, is_foreign
from agentq_nb.errors import ValidationFailed

T = TypeVar("T")

What: TypeAlias = str | Callable[[], str]
"""The name of a value for error texts, or a function that makes it only when an error needs it."""

_WRONG_FIELD = re.compile(
    r"Expected `(?P<type>[^`]*)` .*field_name='(?P<field>[^']*)', input_value=(?P<value>.*), input_type="
)
_TYPES = frozenset(("str", "int", "float", "bool", "bytes", "list", "dict", "tuple", "set", "none"))
_UNKNOWN_TYPE = re.compile(r"Unable to serialize unknown type: <class '([^']*)'>")

_PLAIN = frozenset((str, int, float, bool, type(None)))

_PLAIN_OR_NESTED = _PLAIN | {dict, list, tuple}

_FAITHFUL = frozenset(
    (
        *("any", "none", "nullable", "bool", "int", "float", "str", "date", "time", "datetime", "timedelta", "uuid"),
        *("literal", "union", "list", "tuple", "dict", "definitions", "definition-ref", "default"),
        *("model", "model-fields", "model-field", "dataclass", "dataclass-args", "dataclass-field"),
        *("typed-dict", "typed-dict-field"),
    )
)
"""Kinds of pydantic's core schemas whose validated values always pass their own serializer."""

_NULLABLE = frozenset(("any", "none", "nullable", "float"))
"""Faithful kinds whose values may be written as null, as NaN is."""


class Schema(Generic[T]):
    """One declared type: a pydantic model, dataclass, TypedDict, union, ``Any`` (any JSON), …"""

    def __init__(self, declared: Any) -> None:
        self.declared = declared
        adapter: TypeAdapter[T] = TypeAdapter(declared)
        adapter.rebuild(raise_errors=True)
        self._adapter = adapter
        self._validator, self._serializer = adapter.validator, adapter.serializer
        self._is_faithful = _is_faithful(adapter.core_schema)
        kinds = frozenset(_kinds(adapter.core_schema))
        self._may_hold_bytes = "any" in kinds or _mentions_bytes(adapter)
        self._is_never_null = self._is_faithful and _NULLABLE.isdisjoint(kinds)
        self._converts = "is-instance" not in kinds
        """Whether values of numpy and similar libraries become JSON types; not where the type asks for one of them."""

    @property
    def name(self) -> str:
        """The declared type as users write it."""
        return getattr(self.declared, "__name__", str(self.declared))

    @cached_property
    def takes_none(self) -> bool:
        """Whether None is a value of the type."""
        try:
            self.validate(None, "None")
        except ValidationFailed:
            return False
        return True

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the values that :meth:`load` takes. Raises pydantic's PydanticInvalidForJsonSchema."""
        return self._adapter.json_schema()

    @property
    def fields(self) -> list[str]:
        """The names of the fields that values have when they are written; none for a type that is no model, dataclass or the like."""
        try:
            return list(self._adapter.json_schema(mode="serialization").get("properties", ()))
        except PydanticInvalidForJsonSchema:
            return []

    def validate(self, value: Any, what: What) -> T:
        """Return ``value`` as the declared type. Raises ``actor.validation_error`` naming ``what``."""
        return self._fitted(self._plain(value, what)[0], what)

    def _plain(self, value: Any, what: What) -> tuple[Any, bool]:
        """Convert foreign values inside ``value``; also return whether it held only JSON types."""
        is_plain, is_foreign = _inspected(value, what)
        return (self._converted(value, what).value if is_foreign and self._converts else value), is_plain

    def _converted(self, value: Any, what: What) -> Converted:
        try:
            return converted(value, _text(what))
        except RecursionError:
            raise _too_deep(what) from None

    def _fitted(self, value: Any, what: What) -> T:
        try:
            return self._validator.validate_python(value, by_alias=True, by_name=True)
        except ValidationError as error:
            if _has_redefined_class(error):
                _refuse_unwritable(value, what)
                return self.load(to_json(value, serialize_as_any=True), what)
            raise _failed(what, error) from None
        except RecursionError:
            raise _too_deep(what) from None
        except Exception as error:
            raise _not_checked(what, error) from error

    def encode(self, value: T, what: What) -> bytes:
        """Return a validated value as JSON. Raises ``actor.validation_error`` for what JSON cannot carry."""
        return self._encoded(value, what, fits=False)

    def _encoded(self, value: T, what: What, *, fits: bool) -> bytes:
        """Encode; ``fits`` means known to fit its type, so pydantic skips its check, which takes most of the time."""
        try:
            encoded = self._serializer.to_json(value, warnings=False if fits else "error")
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            value, encoded = self._encoded_when_converted(value, what, error)
        if (self._may_hold_bytes and not fits) or (b"null" in encoded and not (fits and self._is_never_null)):
            _refuse_unwritable(self._serializer.to_python(value, warnings=False), what)
        return encoded

    def _encoded_when_converted(self, value: T, what: What, error: Exception) -> tuple[T, bytes]:
        """Encode values of numpy and similar libraries inside a model or dataclass, which validation leaves alone."""
        failed = ValidationFailed(f"{_text(what)} cannot be written as JSON: {_reason(error)}")
        plain = self._converted(value, what) if self._converts else None
        if plain is None or not plain.changed:
            raise failed from None
        value = self._fitted(plain.value, what)
        return value, self._serializer.to_json(value, warnings="error")

    def dump(self, value: Any, what: What) -> bytes:
        """Validate and encode in one step."""
        value, is_plain = self._plain(value, what)
        return self._encoded(self._fitted(value, what), what, fits=is_plain and self._is_faithful)

    def load(self, encoded: bytes, what: What) -> T:
        """Decode JSON, perhaps written by an older version of the type. Raises ``actor.validation_error``."""
        try:
            return self._validator.validate_json(encoded, by_alias=True, by_name=True)
        except ValidationError as error:
            raise _failed(what, error) from None
        except Exception as error:
            raise _not_checked(what, error) from error


def _reason(error: Exception) -> str:
    """Return pydantic's error text in plainer words where it is one we know."""
    text = str(error)
    if wrong := _WRONG_FIELD.search(text):
        return f"field '{wrong['field']}' should be {wrong['type']}, not {wrong['value']}."
    if unknown := _UNKNOWN_TYPE.search(text):
        return f"it holds a value of type {unknown[1]}. Convert it to a str, int, float, bool, list or dict."
    if "surrogates not allowed" in text:
        return (
            "it holds a lone surrogate (half a character), as text decoded with errors='surrogateescape' does. Replace "
            "it: text.encode('utf-8', 'replace').decode()"
        )
    if "depth exceeded" in text:
        return "it is nested too deeply, or holds itself. Send less of it, or save it and send the file's path."
    return text


def _has_redefined_class(error: ValidationError) -> bool:
    """Whether a value's class was redefined by running its cell again. Its values mean the same: their JSON decides."""
    return any(
        detail["type"] in ("model_type", "dataclass_type", "dataclass_exact_type")
        and detail.get("ctx", {}).get("class_name") == type(detail["input"]).__name__
        for detail in error.errors(include_url=False)
    )


def _text(what: What) -> str:
    return what if isinstance(what, str) else what()


def _failed(what: What, error: ValidationError) -> ValidationFailed:
    details = error.errors(include_url=False, include_input=False, include_context=False)
    problems = "; ".join(f"{place(detail['loc']) or 'value'}: {detail['msg']}" for detail in details[:5])
    more = f" (and {len(details) - 5} more)" if len(details) > 5 else ""
    return ValidationFailed(
        f"{_text(what)} does not fit its type: {problems}{more}.",
        metadata={"errors": [{**detail, "loc": list(detail["loc"])} for detail in details[:20]]},
    )


def place(location: Iterable[str | int]) -> str:
    """Return where in a value an error is, without the union member names that pydantic puts into the path."""
    return ".".join(str(part) for part in location if part not in _TYPES and not str(part).endswith("]"))


def _not_checked(what: What, error: Exception) -> ValidationFailed:
    """Return the error for a user's validator that raised something other than ValueError or AssertionError."""
    return ValidationFailed(
        f"{_text(what)} could not be checked: its type raised {type(error).__name__}: {error}. A validator refuses a value "
        f"by ValueError or AssertionError."
    )


def _inspected(value: Any, what: What) -> tuple[bool, bool]:
    """Return whether a value is made of JSON types only, and whether it holds values of numpy and similar libraries.

    Raises ``actor.validation_error`` for bytes: pydantic would silently decode them where the type is str.
    """
    if type(value) in _PLAIN:
        return True, False
    if type(value) is dict:
        for field in cast(dict[Any, Any], value).values():
            if type(field) not in _PLAIN:
                break
        else:
            return True, False
    if isinstance(value, BaseModel):
        return False, False
    pending: list[Any] = [value]
    plain, foreign, seen = True, False, 0
    while pending:
        item = pending.pop()
        if type(cast(object, item)) not in _PLAIN_OR_NESTED:
            plain = False
            if isinstance(item, (bytes, bytearray, memoryview)):
                raise _holds_bytes(what)
            foreign = foreign or is_foreign(item)
        if isinstance(item, dict):
            pending.extend(cast(dict[Any, Any], item).values())
        elif isinstance(item, (list, tuple, set, frozenset)):
            pending.extend(cast("list[Any]", item))
        seen += 1
        if seen > 1_000_000:
            raise ValidationFailed(f"{_text(what)} is too large, or holds itself.")
    return plain, foreign


def _holds_bytes(what: What) -> ValidationFailed:
    return ValidationFailed(f"{_text(what)} holds bytes, which JSON cannot carry: {BYTES_INSTEAD}.")


def _too_deep(what: What) -> ValidationFailed:
    return ValidationFailed(f"{_text(what)} is nested too deeply, or holds itself.")


def _refuse_unwritable(value: Any, what: What) -> None:
    """Raise for NaN and infinity, which would become null (or text, as Decimals), and for bytes, which would be str."""
    pending: list[Any] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, float) and (item != item or item in (float("inf"), float("-inf"))):
            raise ValidationFailed(f"{_text(what)} holds {item}, which JSON cannot carry: send None or a str instead.")
        if isinstance(item, Decimal) and not item.is_finite():
            raise ValidationFailed(f"{_text(what)} holds {item}, which JSON cannot carry: send None or a str instead.")
        if isinstance(item, (bytes, bytearray, memoryview)):
            raise _holds_bytes(what)
        if isinstance(item, BaseModel):
            pending.extend(item.__dict__.values())
        elif dataclasses.is_dataclass(item):
            pending.extend(vars(item).values())
        elif isinstance(item, dict):
            pending.extend(cast(dict[Any, Any], item).values())
        elif isinstance(item, (list, tuple, set, frozenset)):
            pending.extend(cast("list[Any]", item))


def _mentions_bytes(adapter: TypeAdapter[Any]) -> bool:
    return "'bytes'" in repr(adapter.core_schema)


def _kinds(schema: Any) -> Iterator[str]:
    """Yield every kind in a core schema of pydantic."""
    if isinstance(schema, list):
        for part in cast("list[Any]", schema):
            yield from _kinds(part)
    elif isinstance(schema, Mapping):
        parts = cast(Mapping[str, Any], schema)
        if isinstance(kind := parts.get("type"), str):
            yield kind
        for part in parts.values():
            yield from _kinds(part)


def _is_faithful(schema: Any) -> bool:
    """Whether a plain value that passed this core schema's validator always fits its serializer too.

    False where user code has the last word, or where a default, which is not validated, has another type.
    """
    if isinstance(schema, list):
        return all(_is_faithful(part) for part in cast("list[Any]", schema))
    if not isinstance(schema, Mapping):
        return True
    parts = cast(Mapping[str, Any], schema)
    kind = parts.get("type")
    if isinstance(kind, str) and kind not in _FAITHFUL:
        return False
    if parts.get("custom_init") or parts.get("post_init") or parts.get("computed_fields") or "serialization" in parts:
        return False
    if kind == "default" and not _fits_by_default(parts):
        return False
    values = ("default", "expected", "metadata") if isinstance(kind, str) else ()  # elsewhere they are fields' names
    return all(_is_faithful(part) for name, part in parts.items() if name not in values)


def _fits_by_default(schema: Mapping[str, Any]) -> bool:
    inner = schema["schema"]
    kind = inner["type"]
    if schema.get("validate_default"):
        return True
    if (factory := schema.get("default_factory")) is not None:
        return (kind, factory) in (("list", list), ("dict", dict))
    default = schema.get("default")
    if default is None:
        return kind in ("nullable", "none", "any")
    if kind == "literal":
        return default in inner["expected"]
    if kind in ("list", "dict"):
        return default in ([], {})
    return kind == type(default).__name__ and type(default) in _PLAIN
