"""Parse a typed message body: JSON that fits its queue, or plain text where the queue takes text. Pure functions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agentq_nb._commands.parser import UsageError
from agentq_nb.errors import ValidationFailed

if TYPE_CHECKING:
    from agentq_nb._actor.queue import Queue


def read_body(text: str, queue: Queue[Any, Any], name: str) -> Any:
    """Return the body for this queue. Raises UsageError when ``text`` fits neither as JSON nor as text."""
    what = f"The message for queue '{name}'"
    broken = ""
    try:
        value = _strict_json(text)
    except ValueError as error:
        broken = str(error)
    else:
        try:
            return queue.body.validate(value, what)
        except ValidationFailed as error:
            if not _takes_text(queue, text):
                raise UsageError(error.message) from None
            return text
    if queue.body.declared is Any:
        return json_or_text(text)
    if _takes_text(queue, text):
        return text
    wanted = getattr(queue.body.declared, "__name__", str(queue.body.declared))
    raise UsageError(f"Queue '{name}' takes JSON for {wanted}, and this is none: {broken}.")


def json_or_text(text: str) -> Any:
    """Return JSON where the text is JSON, else the text. Raises UsageError for JSON that is clearly broken."""
    try:
        return _strict_json(text)
    except ValueError as error:
        if text.lstrip().startswith(("{", "[", '"')):
            raise UsageError(f"The body looks like JSON and is none: {error}.") from None
        return text


def _takes_text(queue: Queue[Any, Any], text: str) -> bool:
    try:
        return isinstance(queue.body.validate(text, "text"), str)
    except ValidationFailed:
        return False


def _strict_json(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
