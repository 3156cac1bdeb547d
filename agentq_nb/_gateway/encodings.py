"""The three encodings of RivetKit's protocol: bare, cbor and json, for requests, responses and WebSocket frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeGuard, cast

from agentq_nb._core.tagged_values import as_json, read_json, revived
from agentq_nb._gateway import cbor
from agentq_nb._gateway.bare_encoding import BareReader, BareWriter
from agentq_nb.errors import BadRequest

EncodingName: TypeAlias = Literal["bare", "cbor", "json"]


class QueueSend(NamedTuple):
    """A message to send. ``timeout`` is in seconds."""

    body: Any
    wait: bool
    timeout: float | None


class ActionRequest(NamedTuple):
    """An action that a connection asks for. Its answer carries the same number."""

    id: int
    name: str
    args: list[Any]


class Subscription(NamedTuple):
    """Begins or ends the delivery of one event to a connection."""

    event: str
    subscribe: bool


class Missing(NamedTuple):
    """In place of a reply: there is none."""


class WireError(NamedTuple):
    """An error as clients see it."""

    group: str
    code: str
    message: str
    metadata: Any


class Encoding(Protocol):
    """Reads what clients send, and writes what they get. Values are plain; reading raises BadRequest."""

    @property
    def content_type(self) -> str: ...
    @property
    def is_text(self) -> bool:
        """Whether WebSocket frames are text."""
        ...

    def read_send(self, body: bytes) -> QueueSend: ...
    def read_action(self, body: bytes) -> list[Any]: ...
    def read_frame(self, frame: bytes) -> ActionRequest | Subscription: ...
    def sent(self, status: str, response: Any) -> bytes:
        """Write the answer to a send. ``response`` is a :class:`Missing` where there is no reply."""
        ...

    def action_result(self, output: Any) -> bytes: ...
    def init_frame(self, actor: str, connection: str) -> bytes: ...
    def result_frame(self, id: int, output: Any) -> bytes: ...
    def event_frame(self, name: str, args: list[Any]) -> bytes: ...
    def error_frame(self, error: WireError, id: int | None) -> bytes: ...


class Bare:
    """The client's default: structs, whose values are CBOR."""

    content_type = "application/octet-stream"
    is_text = False

    def read_send(self, body: bytes) -> QueueSend:
        reader = _reader(body)
        value = reader.data()
        reader.optional(reader.str)
        wait = reader.optional(reader.bool) or False
        timeout = reader.optional(reader.u64)
        reader.end()
        return QueueSend(_of_cbor(value), wait, None if timeout is None else timeout / 1000)

    def read_action(self, body: bytes) -> list[Any]:
        reader = _reader(body)
        args = reader.data()
        reader.end()
        return _args(_of_cbor(args))

    def read_frame(self, frame: bytes) -> ActionRequest | Subscription:
        reader = _reader(frame)
        tag = reader.u8()
        if tag == 0:
            number, name, args = reader.uint(), reader.str(), reader.data()
            reader.end()
            return ActionRequest(number, name, _args(_of_cbor(args)))
        if tag == 1:
            subscription = Subscription(reader.str(), reader.bool())
            reader.end()
            return subscription
        raise BadRequest(f"A frame of kind {tag} is unknown.")

    def sent(self, status: str, response: Any) -> bytes:
        reply = None if isinstance(response, Missing) else cbor.encode(response)
        return BareWriter().str(status).optional_data(reply).encoded

    def action_result(self, output: Any) -> bytes:
        return BareWriter().data(cbor.encode(output)).encoded

    def init_frame(self, actor: str, connection: str) -> bytes:
        return BareWriter().u8(0).str(actor).str(connection).encoded

    def error_frame(self, error: WireError, id: int | None) -> bytes:
        writer = BareWriter().u8(1).str(error.group).str(error.code).str(error.message)
        metadata = None if error.metadata is None else cbor.encode(error.metadata)
        return writer.optional_data(metadata).optional_uint(id).u8(0).encoded

    def result_frame(self, id: int, output: Any) -> bytes:
        return BareWriter().u8(2).uint(id).data(cbor.encode(output)).encoded

    def event_frame(self, name: str, args: list[Any]) -> bytes:
        return BareWriter().u8(3).str(name).data(cbor.encode(args)).encoded


def _reader(body: bytes) -> BareReader:
    reader = BareReader(body)
    reader.version()
    return reader


def _of_cbor(encoded: bytes) -> Any:
    return revived(cbor.decode(encoded))


@dataclass(frozen=True)
class Objects:
    """Objects with named fields, written as a whole: the encodings cbor and json."""

    content_type: str
    is_text: bool
    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]

    def read_send(self, body: bytes) -> QueueSend:
        fields = self._fields(body)
        wait, timeout = fields.get("wait"), fields.get("timeout")
        if not isinstance(wait, bool | None) or not (timeout is None or _is_number(timeout)):
            raise BadRequest("wait is true or false, and timeout a number of milliseconds.")
        if "body" not in fields:
            raise BadRequest('The body of the message is missing: {"body": ...}.')
        return QueueSend(fields["body"], bool(wait), None if timeout is None else timeout / 1000)

    def read_action(self, body: bytes) -> list[Any]:
        return _args(self._fields(body).get("args", []))

    def read_frame(self, frame: bytes) -> ActionRequest | Subscription:
        body = self._fields(frame).get("body")
        inner = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
        tag, value = inner.get("tag"), inner.get("val")
        if not isinstance(value, dict):
            raise BadRequest("A frame is an object with a body that has a tag and a val.")
        fields = cast("dict[str, Any]", value)
        if tag == "ActionRequest":
            number, name = fields.get("id"), fields.get("name")
            if not _is_number(number) or number != int(number) or number < 0 or not isinstance(name, str):
                raise BadRequest("An ActionRequest has an id and a name.")
            return ActionRequest(int(number), name, _args(fields.get("args", [])))
        if tag == "SubscriptionRequest":
            event, subscribe = fields.get("eventName"), fields.get("subscribe")
            if not isinstance(event, str) or not isinstance(subscribe, bool):
                raise BadRequest("A SubscriptionRequest has an eventName and a subscribe.")
            return Subscription(event, subscribe)
        raise BadRequest(f"A frame of kind {tag!r:.40} is unknown.")

    def sent(self, status: str, response: Any) -> bytes:
        reply = {} if isinstance(response, Missing) else {"response": response}
        return self.write({"status": status, **reply})

    def action_result(self, output: Any) -> bytes:
        return self.write({"output": output})

    def init_frame(self, actor: str, connection: str) -> bytes:
        return self._frame("Init", {"actorId": actor, "connectionId": connection})

    def error_frame(self, error: WireError, id: int | None) -> bytes:
        number = None if id is None else _big(id)
        return self._frame("Error", {**error._asdict(), "actionId": number})

    def result_frame(self, id: int, output: Any) -> bytes:
        return self._frame("ActionResponse", {"id": _big(id), "output": output})

    def event_frame(self, name: str, args: list[Any]) -> bytes:
        return self._frame("Event", {"name": name, "args": args})

    def _frame(self, tag: str, value: dict[str, Any]) -> bytes:
        return self.write({"body": {"tag": tag, "val": value}})

    def _fields(self, encoded: bytes) -> Mapping[str, Any]:
        found = self.read(encoded)
        if not isinstance(found, dict):
            raise BadRequest("The body is an object with named fields.")
        return cast("dict[str, Any]", found)


def _big(id: int) -> list[str]:
    return ["$BigInt", str(id)]


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _args(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadRequest("The arguments of an action are a list.")
    return cast("list[Any]", value)


# The client tags values itself for bare and json; for cbor it leaves them to CBOR's own types.
_ENCODINGS: Mapping[str, Encoding] = {
    "bare": Bare(),
    "cbor": Objects("application/octet-stream", False, cbor.decode, cbor.encode),
    "json": Objects("application/json", True, read_json, as_json),
}


def encoding_of(name: str | None) -> Encoding:
    """Return the encoding of this name; json where none is named. Raises BadRequest."""
    found = _ENCODINGS.get(name or "json")
    if found is None:
        raise BadRequest(f"The encoding is bare, cbor or json, not {name!r:.40}.")
    return found
