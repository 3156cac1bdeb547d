"""Values of declared types to JSON and back, strictly: what is written can be read again and means the same.

pydantic writes NaN as null, takes bytes for str, and writes an invalid assignment with a mere warning; none of that may
reach a queue, so each is an error here, before anything is written.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from agentq_nb.errors import ValidationFailed

T = TypeVar("T")

_PLAIN = frozenset((str, int, float, bool, type(None)))


class Schema(Generic[T]):
    """One declared type: a pydantic model, dataclass, TypedDict, union, ``Any`` (any JSON), …"""

    def __init__(self, declared: Any) -> None:
        self.declared = declared
        adapter: TypeAdapter[T] = TypeAdapter(declared)
        adapter.rebuild(raise_errors=True)
        self._validator, self._serializer = adapter.validator, adapter.serializer
        self._may_hold_bytes = _mentions_bytes(adapter)

    def validate(self, value: Any, what: str) -> T:
        """``value`` as the declared type. Raises ``actor.validation_error`` naming ``what``."""
        if not isinstance(value, BaseModel):
            _refuse_bytes(value, what)
        try:
            return self._validator.validate_python(value, by_alias=True, by_name=True)
        except ValidationError as error:
            if _meets_a_redefined_class(error):
                _refuse_unwritable(value, what)
                return self.load(to_json(value, serialize_as_any=True), what)
            raise _failed(what, error) from None
        except RecursionError:
            raise ValidationFailed(f"{what} is nested too deeply, or holds itself.") from None

    def encode(self, value: T, what: str) -> bytes:
        """A validated value as JSON. Raises ``actor.validation_error`` for what JSON cannot carry."""
        try:
            encoded = self._serializer.to_json(value, warnings="error")
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise ValidationFailed(f"{what} cannot be written as JSON: {error}") from None
        if b"null" in encoded or self._may_hold_bytes:
            _refuse_unwritable(self._serializer.to_python(value), what)
        return encoded

    def dump(self, value: Any, what: str) -> bytes:
        """Validate and encode in one go."""
        return self.encode(self.validate(value, what), what)

    def load(self, encoded: bytes, what: str) -> T:
        """The value of JSON written earlier, perhaps by an older type. Raises ``actor.validation_error``."""
        try:
            return self._validator.validate_json(encoded, by_alias=True, by_name=True)
        except ValidationError as error:
            raise _failed(what, error) from None


def _meets_a_redefined_class(error: ValidationError) -> bool:
    """A cell that was run again has made another class of the same name. Its values mean the same: their JSON decides."""
    return any(
        detail["type"] in ("model_type", "dataclass_type", "dataclass_exact_type")
        and detail.get("ctx", {}).get("class_name") == type(detail["input"]).__name__
        for detail in error.errors(include_url=False)
    )


def _failed(what: str, error: ValidationError) -> ValidationFailed:
    details = error.errors(include_url=False, include_input=False, include_context=False)
    told = "; ".join(f"{'.'.join(map(str, detail['loc'])) or 'value'}: {detail['msg']}" for detail in details[:5])
    more = f" (and {len(details) - 5} more)" if len(details) > 5 else ""
    return ValidationFailed(
        f"{what} does not fit its type: {told}{more}.",
        metadata={"errors": [{**detail, "loc": list(detail["loc"])} for detail in details[:20]]},
    )


def _refuse_bytes(value: Any, what: str) -> None:
    """pydantic would quietly decode bytes given for a str."""
    if type(value) is dict and all(type(item) in _PLAIN for item in cast(dict[Any, Any], value).values()):
        return
    pending: list[Any] = [value]
    seen = 0
    while pending:
        item = pending.pop()
        if isinstance(item, (bytes, bytearray, memoryview)):
            raise ValidationFailed(f"{what} holds bytes, which JSON cannot carry: decode them, or send a file's path.")
        if isinstance(item, dict):
            pending.extend(cast(dict[Any, Any], item).values())
        elif isinstance(item, (list, tuple, set, frozenset)):
            pending.extend(cast("list[Any]", item))
        seen += 1
        if seen > 1_000_000:
            raise ValidationFailed(f"{what} is too large, or holds itself.")


def _refuse_unwritable(value: Any, what: str) -> None:
    """NaN and infinity would become null, bytes would become str."""
    pending: list[Any] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, float) and (item != item or item in (float("inf"), float("-inf"))):
            raise ValidationFailed(f"{what} holds {item}, which JSON cannot carry: send None or a str instead.")
        if isinstance(item, (bytes, bytearray, memoryview)):
            raise ValidationFailed(f"{what} holds bytes, which JSON cannot carry: decode them, or send a file's path.")
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
