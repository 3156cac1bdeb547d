"""The Transport protocol: the calls that clients, handles and receipts make to a host."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from agentq_nb._actor.actor import Actor
from agentq_nb._brokers.batches import Batches
from agentq_nb._brokers.changes import Change
from agentq_nb._brokers.messages import NewMessage, StoredResult
from agentq_nb._client.broadcasts import Listener
from agentq_nb._client.status import ActorStatus
from agentq_nb._core.codec import Schema
from agentq_nb._core.ids import ActorId, MessageId, actor_name


class Standing(NamedTuple):
    """The status and result of a message, the type of its replies, if known, and why it is not settled yet."""

    stored: StoredResult
    replies: Schema[Any] | None = None
    reason: str | None = None


def standing_of(classes: Mapping[str, type[Actor]], stored: StoredResult) -> Standing:
    """Add the type of the replies, as the registered class declares it."""
    cls = classes.get(actor_name(stored.actor))
    queue = None if cls is None else cls.declared.queues.get(stored.queue)
    return Standing(stored, None if queue is None else queue.reply)


def registered_name(classes: Mapping[str, type[Actor]], cls: type[Actor]) -> str | None:
    """Return the name of a class, or of an earlier definition of it: running its cell again makes a new class object."""
    source = (cls.__module__, cls.__qualname__)
    for name, registered in list(classes.items()):
        if registered is cls or (registered.__module__, registered.__qualname__) == source:
            return name
    return None


class Transport(Protocol):
    """Access to a host. Its coroutines can be awaited on any event loop, and raise ``host.none`` where no host runs."""

    @property
    def classes(self) -> Mapping[str, type[Actor]]:
        """The actor classes that are registered with the host, by name. Raises NoHost."""
        ...

    @property
    def place(self) -> str:
        """The host in a few words: ``this kernel's host``, or its url."""
        ...

    @property
    def would_block(self) -> bool:
        """Whether the host could not answer while the current code blocks its thread. Raises NoHost."""
        ...

    def name_of(self, cls: type[Actor]) -> str | None:
        """Return the name that a class is registered under, or will be once it is deployed. Raises NoHost."""
        ...

    async def ready(self) -> Mapping[str, type[Actor]]:
        """Return :attr:`classes` once the host knows every class defined so far. Raises NoHost."""
        ...

    @property
    def batches(self) -> Batches:
        """The batches of the host's broker, for calls from any event loop. Raises NoHost."""
        ...

    def now(self) -> float:
        """Return the host's time, in seconds since 1970. Raises NoHost."""
        ...

    async def create(self, actor: ActorId, input: Any) -> None:
        """Wake an actor for the first time. Raises ActorDuplicate, and what its ``on_create`` raises."""
        ...

    async def require(self, actor: ActorId) -> None:
        """Raise ActorNotFound when the actor was never created."""
        ...

    async def ensure(self, actor: ActorId, input: Any) -> None:
        """Create the actor unless it exists."""
        ...

    def send(self, new_message: NewMessage, room_timeout: float | None = 0.0) -> Coroutine[Any, Any, MessageId]:
        """Send one message; durable on return. The id is an earlier message's if that has the same idempotency key.

        ``room_timeout`` is how many seconds to wait for room in a full queue (0: not at all; None: no limit).
        """
        ...

    async def send_and_wait(
        self, new_message: NewMessage, timeout: float | None, *, waits_for_room: bool = False
    ) -> Standing:
        """Send one message and wait for its result, at most ``timeout`` seconds, in which it may wait for room first."""
        ...

    async def standing(self, message: MessageId, timeout: float | None, *, explained: bool = False) -> Standing:
        """Return the message's result, or its status after ``timeout`` seconds. ``explained`` adds the reason."""
        ...

    async def cancel(self, message: MessageId) -> bool:
        """Cancel a message. Returns False when it was settled already."""
        ...

    async def change(self, actor: ActorId, change: Change) -> int:
        """Change messages or queues of an actor. Returns the number of messages or pauses that were changed."""
        ...

    async def call(
        self, actor: ActorId, action: str, args: Sequence[Any], kwargs: Mapping[str, Any], input: Any
    ) -> Any:
        """Call an action. ``input`` is used if the actor does not exist yet."""
        ...

    async def status(self, actor: ActorId) -> ActorStatus:
        """Return the status of an actor. Does not wake it."""
        ...

    def listen(self, actor: ActorId, event: str, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` for each broadcast. Returns a function to stop it. Raises NoHost."""
        ...


class OpenTransport(Protocol):
    """Returns the transport to a host: at a url with a token, or to the one that has a file open, by its local socket.

    Does not connect. ``use`` are classes that the caller has too, by name.
    """

    def __call__(self, host: str | Path, token: str | None, use: Mapping[str, type[Actor]] | None, /) -> Transport: ...


open_transport: OpenTransport | None = None
"""Set by the gateway, a higher layer, when the package is imported."""
