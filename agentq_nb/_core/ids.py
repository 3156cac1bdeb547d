"""Names and addresses: actor ids, message ids, class names as users type them. Pure functions.

An actor id is ``name/part/part``: the registered name and the parts of its key. ``%`` and ``/`` inside a part, and
control characters, are percent-encoded, so two different keys never share an id (in RivetKit ``["x,y"]`` and
``["x", "y"]`` reach the same actor).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from typing import TypeAlias
from urllib.parse import unquote

from agentq_nb.errors import ValidationFailed

ActorId: TypeAlias = str
"""``name/part/part``, as made by :func:`actor_id`."""

MessageId: TypeAlias = str
"""25 hexadecimal digits, minted by the sender before any I/O, as made by :func:`mint_id`."""

Key: TypeAlias = str | Sequence[str]
"""What users give as a key: a bare str is a one-part key."""

_ESCAPED = re.compile(r"[%/\x00-\x1f\x7f]")
_MAX_ID_BYTES = 1024


def key_parts(key: Key) -> tuple[str, ...]:
    """The key as a tuple of str. Raises ``actor.validation_error`` for anything else than str or a sequence of str."""
    if isinstance(key, str):
        return (_checked(key),)
    try:
        return tuple(_checked(part) for part in key)
    except TypeError:
        raise ValidationFailed(f"An actor's key is a str or a list of str, not {key!r}.") from None


def _checked(part: object) -> str:
    if not isinstance(part, str):
        raise ValidationFailed(f"An actor's key is a str or a list of str, not {part!r}. Convert it with str(...).")
    try:
        part.encode()
    except UnicodeEncodeError:
        raise ValidationFailed(f"An actor's key must be valid Unicode; {part!r} has a lone surrogate.") from None
    return part


def actor_id(name: str, key: Key) -> ActorId:
    """The id of the actor ``name`` with ``key``. Raises ``actor.validation_error`` for a bad or too long key."""
    parts = key_parts(key)
    made = "/".join((name, *(_ESCAPED.sub(lambda found: f"%{ord(found[0]):02X}", part) for part in parts)))
    if len(made.encode()) > _MAX_ID_BYTES:
        raise ValidationFailed(
            f"A key of actor '{name:.100}' takes {len(made.encode()):,} bytes with its name, and may take {_MAX_ID_BYTES:,}: "
            f"use a shorter key, and send long text in messages."
        )
    return made


def actor_name(actor: ActorId) -> str:
    """The registered name in an actor id."""
    return actor.partition("/")[0]


def actor_key(actor: ActorId) -> tuple[str, ...]:
    """The key in an actor id; the inverse of :func:`actor_id`."""
    _, slash, rest = actor.partition("/")
    return tuple(unquote(part) for part in rest.split("/")) if slash else ()


def mint_id() -> MessageId:
    """A new id: 40 bits of milliseconds, so that ids made later sort later, then 60 random bits."""
    try:
        random = _drawn.pop()
    except IndexError:
        random = _draw()
    return f"{time.time_ns() // 1_000_000 & 0xFFFFFFFFFF:010x}{random}"


_drawn: list[str] = []
# A child must not mint the ids that its parent mints too.
os.register_at_fork(after_in_child=_drawn.clear)


def _draw() -> str:
    """15 random hexadecimal digits, and those of the next 255 ids: the system is asked once for all."""
    digits = os.urandom(8 * 256).hex()
    _drawn.extend(digits[start : start + 15] for start in range(16, len(digits), 16))
    return digits[:15]


def earliest_id() -> MessageId:
    """An id that none minted from now on sorts before."""
    return mint_id()[:10] + "0" * 15


def snake_case(class_name: str) -> str:
    """``TaskRunner`` → ``task_runner``, ``HTTPServer`` → ``http_server``: the name a class is registered under."""
    words = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", class_name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", words).lower()
