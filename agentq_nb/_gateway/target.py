"""The actor that a request is for: named by a key in the URL's query or in JSON, or by its id in the path."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from agentq_nb._core.ids import ActorId, actor_id, actor_key, key_parts, snake_case
from agentq_nb._core.tagged_values import revived
from agentq_nb._gateway import cbor
from agentq_nb.errors import BadRequest

Method: TypeAlias = Literal["get", "getOrCreate", "id"]

_KEPT = re.compile(rb"[A-Za-z0-9_-]")
_WIRE_ID = re.compile(r"(?:[A-Za-z0-9_.-]|~[0-9A-F]{2})+")
_ESCAPED = re.compile(r"~([0-9A-F]{2})")


@dataclass(frozen=True)
class Target:
    """The actor of a request.

    :ivar spelling: the actors' name as the client writes it, ``taskRunner`` perhaps.
    :ivar method: whether the actor is created when it is missing. One that is named by its id is not.
    """

    spelling: str
    key: tuple[str, ...]
    method: Method
    input: Any = None

    def actor(self, names: Collection[str]) -> ActorId:
        """Return the actor's id, with its name as it is registered. Raises ``actor.validation_error``."""
        return actor_id(python_name(self.spelling, names), self.key)

    @property
    def wire_id(self) -> str:
        """The id that clients see. It fits into a path as it is, also where a proxy decodes and encodes paths."""
        encoded = actor_id(self.spelling, self.key).encode()
        return "".join(_escaped(byte) for byte in encoded)

    @property
    def wire_key(self) -> str:
        """The key in RivetKit's one-line form, in which no two keys are the same."""
        if not self.key:
            return "/"
        return "/".join(part.replace("\\", "\\\\").replace("/", "\\/") or "\\0" for part in self.key)


def _escaped(byte: int) -> str:
    if _KEPT.match(bytes((byte,))):
        return chr(byte)
    return "." if byte == ord("/") else f"~{byte:02X}"


def python_name(spelling: str, names: Collection[str]) -> str:
    """Return the one of ``names`` that a client means by ``taskRunner`` or ``task_runner``; itself if there is none."""
    if spelling not in names and (snake := snake_case(spelling)) in names:
        return snake
    return spelling


def target_of(segment: str, query: Mapping[str, str]) -> Target:
    """Return the target of ``/gateway/{segment}/...``: a name if the query has a method, else an id, without token.

    Raises BadRequest.
    """
    method = query.get("rvt-method")
    if method is None:
        return of_wire_id(segment)
    if method not in ("get", "getOrCreate"):
        raise BadRequest(f"rvt-method is get or getOrCreate, not {method!r:.40}.")
    key = tuple(query["rvt-key"].split(",")) if "rvt-key" in query else ()
    return Target(_name(segment), key, method, _input(query.get("rvt-input"), urlsafe=True))


def of_wire_id(wire_id: str) -> Target:
    """Return the target that has this id. Raises BadRequest for what is no id."""
    if not _WIRE_ID.fullmatch(wire_id):
        raise BadRequest(f"{wire_id!r:.100} is no actor's id.")
    encoded = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), wire_id.replace(".", "/")).encode("latin-1")
    try:
        actor = encoded.decode()
    except UnicodeDecodeError:
        raise BadRequest(f"{wire_id!r:.100} is no actor's id.") from None
    name, _, _ = actor.partition("/")
    return Target(_name(name), actor_key(actor), "id")


def of_description(described: Mapping[str, Any], method: Method) -> Target:
    """Return the target that a JSON object describes by ``name``, ``key`` and ``input``. Raises BadRequest."""
    name, key, encoded = described.get("name"), described.get("key", "/"), described.get("input")
    if not isinstance(name, str) or not isinstance(key, str) or not isinstance(encoded, str | None):
        raise BadRequest("An actor is described by its name, its key and its input, as text.")
    return Target(_name(name), read_key(key), method, _input(encoded, urlsafe=False))


def _name(name: str) -> str:
    if not name:
        raise BadRequest("The name of the actor is empty.")
    return name


def read_key(text: str) -> tuple[str, ...]:
    r"""Return the key that RivetKit writes as ``a/b\/c``: the inverse of ``wire_key``."""
    if text in ("", "/"):
        return ()
    parts, current, position = list[str](), list[str](), 0
    while position < len(text):
        char = text[position]
        if char == "/":
            parts.append("".join(current))
            current = []
        elif char == "\\":
            position += 1
            following = text[position : position + 1]
            if following != "0":
                current.append(following or "\\")
        else:
            current.append(char)
        position += 1
    return key_parts([*parts, "".join(current)])


def _input(encoded: str | None, *, urlsafe: bool) -> Any:
    if encoded is None:
        return None
    try:
        padded = encoded + "=" * (-len(encoded) % 4)
        found = base64.b64decode(padded, b"-_" if urlsafe else None, validate=True)
    except (ValueError, binascii.Error):
        raise BadRequest("The actor's input is no base64.") from None
    return revived(cbor.decode(found))
