"""The client in the process of the host."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from agentq_nb.actor import Actor
from agentq_nb.client.access import Access
from agentq_nb.client.desk import LocalDesk
from agentq_nb.client.handles import ActorHandle, ActorKind
from agentq_nb.errors import ActorUnknown, NoHost
from agentq_nb.host import Host
from agentq_nb.naming import ActorId, MessageId, actor_key, actor_name
from agentq_nb.receipts import Receipt


class Client:
    """Handles to the actors of this process's host: ``client.task_runner.get_or_create(["main"])``.

    Made by ``create_client()``. It may be kept while the host is stopped and started again.
    """

    def __init__(self, host: Callable[[], Host], *, of_user: bool = False) -> None:
        self._host = Access(host, of_user=of_user)

    def __getattr__(self, name: str) -> ActorKind:
        if name.startswith("_"):  # IPython and copy probe for these: never an actor
            raise AttributeError(name)
        return ActorKind(self._host, name)

    def __dir__(self) -> list[str]:
        """With the names that actors are registered under, for those who complete with the keyboard."""
        names = [*super().__dir__()]
        with suppress(NoHost):
            names += self._host().classes
        return names

    def actor(self, cls: type[Actor] | str) -> ActorKind:
        """The actors of a class, or of the name it is registered under. Raises ``actor.unknown`` for a class."""
        if isinstance(cls, str):
            return ActorKind(self._host, cls)
        classes = self._host().classes
        for name, registered in list(classes.items()):
            if registered is cls or _same_definition(registered, cls):
                return ActorKind(self._host, name)
        if (name := self._host.name_of(cls)) is not None:
            return ActorKind(self._host, name)
        raise ActorUnknown(cls.__name__, list(classes))

    def handle_of(self, actor: ActorId) -> ActorHandle:
        """The handle of an actor id, as it stands in the log and in ``status()``."""
        return ActorHandle(self._host, actor_name(actor), actor_key(actor))

    def receipt(self, message_id: MessageId) -> Receipt[Any]:
        """The receipt of any message, after a restart too. Asking an unknown one raises ``queue.message_unknown``."""
        return Receipt(message_id, LocalDesk(self._host))

    def __repr__(self) -> str:
        return f"<Client of this kernel's host: {', '.join(sorted(self._host().classes)) or 'no actors yet'}>"


def _same_definition(registered: type[Actor], cls: type[Actor]) -> bool:
    """A cell that was run again has made a new class object of the same name."""
    return (registered.__module__, registered.__qualname__) == (cls.__module__, cls.__qualname__)
