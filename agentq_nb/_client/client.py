"""The client of a host: returns handles to actors, and receipts of messages."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from agentq_nb._actor.actor import Actor
from agentq_nb._client.handle import ActorHandle, ActorKind
from agentq_nb._client.receipt import Receipt
from agentq_nb._client.transport import Transport
from agentq_nb._core.ids import ActorId, MessageId, actor_key, actor_name
from agentq_nb.errors import ActorUnknown, NoHost


class Client:
    """A client of a host, made by ``create_client()``: ``client.task_runner.get_or_create("main")`` returns a handle.

    Each name that actors are registered under is an attribute. You can keep the client while the host is stopped and
    started again.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> ActorKind:
        if name.startswith("_"):  # IPython and copy look for these: never an actor
            raise AttributeError(name)
        return ActorKind(self._transport, name)

    def __dir__(self) -> list[str]:
        """Include the names that actors are registered under, for completion."""
        names = [*super().__dir__()]
        with suppress(NoHost):
            names += self._transport.classes
        return names

    def actor(self, cls: type[Actor] | str) -> ActorKind:
        """Return the actors of a class, or of a name. Raises ``actor.unknown`` for a class that is not registered."""
        if isinstance(cls, str):
            return ActorKind(self._transport, cls)
        classes = self._transport.classes
        for name, registered in list(classes.items()):
            if registered is cls or _same_definition(registered, cls):
                return ActorKind(self._transport, name)
        if (name := self._transport.name_of(cls)) is not None:
            return ActorKind(self._transport, name)
        raise ActorUnknown(cls.__name__, list(classes))

    def handle_of(self, actor: ActorId) -> ActorHandle:
        """Return the handle of an actor id, as in the log and in ``status()``: ``"task_runner/main"``."""
        return ActorHandle(self._transport, actor_name(actor), actor_key(actor))

    def receipt(self, message_id: MessageId) -> Receipt[Any]:
        """Return the receipt of any message, also after a restart. Its methods raise ``queue.message_unknown``."""
        return Receipt(message_id, self._transport)

    def __repr__(self) -> str:
        return f"<Client of this kernel's host: {', '.join(sorted(self._transport.classes)) or 'no actors yet'}>"


def _same_definition(registered: type[Actor], cls: type[Actor]) -> bool:
    """Whether both are the same class in the source: running its cell again makes a new class object."""
    return (registered.__module__, registered.__qualname__) == (cls.__module__, cls.__qualname__)
