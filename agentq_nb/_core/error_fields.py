"""Errors as JSON, and back: raised in another process, they are of the same classes as where they happened."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, cast

from agentq_nb import errors
from agentq_nb._core.tagged_values import dumped, revived
from agentq_nb.errors import AgentqError, InternalError, ValidationFailed


def error_json(error: AgentqError) -> bytes:
    """Return an error as :func:`error_of` reads it. Metadata that cannot be written is left out."""
    fields: dict[str, Any] = {"group": error.group, "code": error.code, "message": error.message}
    try:
        text = dumped({**fields, "metadata": error.metadata}, "The metadata")
    except ValidationFailed:
        text = dumped(fields, "The error")
    return text.encode("utf-8", "surrogatepass")


def error_of(body: bytes) -> AgentqError | None:
    """Return the error in a response; None if it holds none, so that something else has answered."""
    try:
        found = json.loads(body)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    fields = cast("dict[str, Any]", found)
    group, code, message = fields.get("group"), fields.get("code"), fields.get("message")
    if not isinstance(group, str) or not isinstance(code, str) or not isinstance(message, str):
        return None
    metadata = revived(fields.get("metadata"))
    return _made(group, code, message, cast("dict[str, Any]", metadata) if isinstance(metadata, dict) else {})


def _made(group: str, code: str, message: str, metadata: dict[str, Any]) -> AgentqError:
    if (group, code) == ("rivetkit", "internal_error"):
        group, code = InternalError.group, InternalError.code
        message = "The host met an unexpected error, whose text it shows only in its own notebook: %agentq status."
    kind = _classes().get((group, code)) or _groups().get(group, AgentqError)
    if kind is errors.GatewayError and isinstance(metadata.get("status"), int):
        kind = errors.Refused
    return errors.rebuilt(kind, message, group, code, metadata)


def _all(kind: type[AgentqError] = AgentqError) -> Iterator[type[AgentqError]]:
    for each in kind.__subclasses__():
        if each.__module__ == errors.__name__:
            yield each
        yield from _all(each)


@cache
def _classes() -> Mapping[tuple[str, str], type[AgentqError]]:
    found: dict[tuple[str, str], type[AgentqError]] = {}
    for each in _all():
        if "code" in vars(each):
            found.setdefault((each.group, each.code), each)
    return found


@cache
def _groups() -> Mapping[str, type[AgentqError]]:
    """The class of all errors of a group, for codes that users or newer hosts make."""
    found: dict[str, type[AgentqError]] = {}
    for each in _all():
        if (
            "group" in vars(each)
            and AgentqError in each.__bases__
            and ("code" not in vars(each) or each.group == "user")
        ):
            found.setdefault(each.group, each)
    return found
