"""The client of a host: returns handles to actors, and receipts of messages."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from agentq_nb._actor.actor import Actor
from agentq_nb._client.batch import Batch
from agentq_nb._client.handle import ActorHandle, ActorKind
from agentq_nb._client.receipt import Receipt
from agentq_nb._client.transport import Transport
from agentq_nb._core.blocking import block_on
from agentq_nb._core.ids import ActorId, MessageId, actor_key, actor_name
from agentq_nb.errors import ActorUnknown, NoHost, WouldBlockHost

Returned = TypeVar("Returned")


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
        if (name := self._transport.name_of(cls)) is None:
            raise ActorUnknown(cls.__name__, list(self._transport.classes))
        return ActorKind(self._transport, name)

    def handle_of(self, actor: ActorId) -> ActorHandle:
        """Return the handle of an actor id, as in the log and in ``status()``: ``"task_runner/main"``."""
        return ActorHandle(self._transport, actor_name(actor), actor_key(actor))

    def receipt(self, message_id: MessageId) -> Receipt[Any]:
        """Return the receipt of any message, also after a restart. Its methods raise ``queue.message_unknown``."""
        return Receipt(message_id, self._transport)

    def __repr__(self) -> str:
        names: list[str] = []
        with suppress(NoHost):
            names = sorted(self._transport.classes)
        return f"<Client of {self._transport.place}: {', '.join(names) or 'no actors yet'}>"


class RemoteClient(Client):
    """A client that ``create_client(url)`` or ``create_client(store=...)`` made.

    It does what a registry does in the host's own process: it finds batches, and runs calls where ``await`` is not allowed.
    Actors that are called like one of its methods are reached by ``client.actor("batch")``.
    """

    async def batch(self, name: str) -> Batch[Any]:
        """Return the batch of this name, also after a restart. Raises ``batch.unknown``."""
        await self._transport.ready()
        return Batch(self._transport, await self._transport.batches.find(name))

    def run(self, work: Coroutine[Any, Any, Returned]) -> Returned:
        """Do what ``await`` does, in code that cannot await: ``client.run(runner.send("tasks", task, wait=True))``.

        It blocks the calling thread. Raises ``host.would_block`` if the host runs in this thread: use ``await`` instead.
        An interrupt ends the wait, not the work.
        """
        try:
            if self._transport.would_block:
                raise WouldBlockHost()
        except BaseException:
            work.close()
            raise
        return block_on(work)
