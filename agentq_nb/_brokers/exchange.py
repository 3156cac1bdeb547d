"""What hosts of the same queues exchange besides messages: calls to actors, events, and descriptions of classes.

Hosts cannot reach each other, so all of it goes through the broker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Literal, NamedTuple, Protocol, TypeAlias

from agentq_nb._brokers.messages import Answer
from agentq_nb._brokers.statuses import Elsewhere
from agentq_nb._core.ids import ActorId
from agentq_nb._core.origin import PROCESS, Origin

Verb: TypeAlias = Literal["call", "create", "ensure", "status"]
"""What a request asks for: an action, the creation of an actor (``ensure``: unless it exists), or its status."""


class Request(NamedTuple):
    """A call to an actor that its caller does not run. The caller makes the id. ``asked`` holds the arguments, as JSON."""

    id: str
    actor: ActorId
    verb: Verb
    asked: bytes
    origin: Origin = PROCESS


class Exchange(Protocol):
    """The calls and events of one host, or of a client without one.

    :ivar on_withdrawn: called with the id of a request that its caller has withdrawn.
    :ivar on_event: called with the actor, the name and the payload, as JSON, of an event of another host's actor.
    """

    on_withdrawn: Callable[[str], None]
    on_event: Callable[[ActorId, str, bytes], None]

    # --- calls --------------------------------------------------------------------------------------------------------

    async def ask(self, request: Request) -> bytes:
        """Have another host carry out a request, at most once, and return its answer, as JSON.

        Raises the error that it raised. Raises Unavailable if no host has begun it in time (then it never is), or if the
        host that did has died or lost the actor (then it is unknown how far it came).
        """
        ...

    async def is_awake(self, actor: ActorId) -> bool:
        """Whether a host that is alive runs the actor. Raises Unavailable."""
        ...

    async def withdraw(self, request: str) -> None:
        """Have the host that carries out the request stop it; if none has begun, none will."""
        ...

    def requests(self, names: Callable[[], Collection[str]], begun: Collection[str]) -> AsyncIterator[Request]:
        """Yield requests for actors of these names that this host may run. It alone has each, until it answers.

        ``begun`` are those that it got before and has not answered; it is read whenever it is needed. Raises
        Unavailable: subscribe again.
        """
        ...

    async def answer(self, answer: Answer) -> None:
        """Answer a request of :meth:`requests`, unless a commit has. Raises Unavailable."""
        ...

    async def give_back(self, request: str) -> None:
        """Leave a request that was not begun to other hosts. Raises Unavailable."""
        ...

    # --- events -------------------------------------------------------------------------------------------------------

    def wants(self, actor: ActorId, event: str) -> bool:
        """Whether other hosts or clients listen to this event."""
        ...

    def broadcast(self, actor: ActorId, event: str, payload: bytes) -> None:
        """Send an event to them, soon, in the order of these calls."""
        ...

    async def listen(self, actor: ActorId, event: str) -> None:
        """Have events of this name passed to :attr:`on_event`, those that what is asked next causes too. Raises Unavailable."""
        ...

    async def ignore(self, actor: ActorId, event: str) -> None:
        """End :meth:`listen`. Raises Unavailable."""
        ...

    # --- classes ------------------------------------------------------------------------------------------------------

    async def describe(self, classes: Mapping[str, bytes]) -> None:
        """Publish the descriptions of this host's classes, as JSON, by name. Raises Unavailable."""
        ...

    async def elsewhere(self, actor: ActorId | None = None) -> Elsewhere:
        """Return which classes other hosts have, and which actors are awake in them: of all actors, or of one.

        Raises Unavailable.
        """
        ...

    async def described(self) -> Mapping[str, bytes]:
        """Return the latest description of each class that a host has published. Raises Unavailable."""
        ...
