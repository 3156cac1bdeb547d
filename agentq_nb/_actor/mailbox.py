"""``self.queue``: send to an actor's own queues, and receive from them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, Unpack

from agentq_nb._actor.message import Message
from agentq_nb._actor.send_options import SendOptions, shows_options
from agentq_nb._core import number_options
from agentq_nb._core.codec import Schema
from agentq_nb._core.ids import ActorId
from agentq_nb._core.suggestions import NearMisses, check_completable, read_names
from agentq_nb.errors import QueueHasHandler, QueueUnknown, ReplyNeeded

Names: TypeAlias = str | Sequence[str] | None


class DeclaredQueue(Protocol):
    """A queue's declaration as a mailbox uses it."""

    reply: Schema[Any]


class NamedHandler(Protocol):
    """A queue's handler as a mailbox uses it."""

    name: str


class MessageSource(Protocol):
    """The source of an actor's messages while it is awake. Callers check queue names."""

    @property
    def actor_id(self) -> ActorId: ...

    @property
    def queues(self) -> Mapping[str, DeclaredQueue]: ...

    @property
    def handlers(self) -> Mapping[str, NamedHandler]:
        """The handlers by the name of their queue: nothing else takes messages of those."""
        ...

    async def push(self, queue: str, body: Any, options: Mapping[str, Any]) -> Any:
        """Send to one of the actor's own queues, with the keywords of ``send``."""
        ...

    async def receive(
        self,
        names: frozenset[str] | None,
        count: int,
        timeout: float | None,
        completable: bool,
        until: asyncio.Event | None,
    ) -> list[Message[Any, Any]]:
        """Return up to ``count`` messages as one delivery; empty after ``timeout`` seconds.

        ``names`` None: of all queues without a handler. Raises ``actor.aborted`` once ``until`` is set.
        """
        ...

    def iterate(
        self, names: frozenset[str] | None, completable: bool, until: asyncio.Event | None
    ) -> AsyncIterator[Message[Any, Any]]:
        """Yield messages one by one while the actor is awake, and ``until`` is not set."""
        ...


class Mailbox(NearMisses):
    """``self.queue``: the actor's queues. All methods are coroutines, except ``iter``, which returns an iterator."""

    def __init__(self, source: MessageSource) -> None:
        self._source = source

    @shows_options
    async def push(
        self, name: str, body: Any, *, wait: bool = False, timeout: float | None = None, **options: Unpack[SendOptions]
    ) -> Any:
        """Send to a queue of this actor, and return what ``handle.send`` returns. The message is durable on return.

        :param name: the queue's name.
        :param body: the body; validated against the queue's type before anything is written.
        :param wait: whether to wait for the result, at most ``timeout`` seconds (None: no limit).
        :param idempotency_key: makes pushing twice safe: the same key and body are one message.
        :param priority: a whole number; higher ones are handed out first, equal ones in the order of sending.
        :param delay: seconds, or a timedelta, before which the message is not delivered.
        :param ttl: seconds, or a timedelta; a message that is not started within this time expires.
        :param after: receipts or ids of messages that must have completed first, one or a list.

        The options and errors are those of ``handle.send``, whose docstring says more about each.
        """
        return await self._source.push(name, body, {"wait": wait, "timeout": timeout, **options})

    def iter(
        self, names: Names = None, completable: bool = False, *, until: asyncio.Event | None = None
    ) -> AsyncIterator[Message[Any, Any]]:
        """``async for message in self.queue.iter()``: one message at a time, for as long as the actor is awake.

        :param names: the queues to take from; None: all that have no handler.
        :param completable: whether you end each attempt yourself, with ``complete``, ``fail`` or ``retry``. Otherwise a
            message is completed when the loop asks for the next one, or when ``run`` or the action returns.
        :param until: an ``asyncio.Event`` that ends the loop when it is set.

        The loop ends quietly when the actor sleeps, stops or is replaced by newer code.

        Raises ``queue.unknown``, ``queue.has_handler`` and ``queue.reply_needed`` at once: messages of a queue that
        declares a reply must be received with ``completable=True``. Raises ``queue.previous_message_not_completed`` when the
        loop asks for the next message before it has settled the last one.
        """
        check_completable(completable, names)
        return self._source.iterate(self._names(names, completable), completable, until)

    async def next(
        self,
        names: Names = None,
        timeout: float | None = None,
        completable: bool = False,
        *,
        until: asyncio.Event | None = None,
    ) -> Message[Any, Any] | None:
        """Return the next message, or None after ``timeout`` seconds.

        Raises ``actor.aborted`` when the actor is ending or the event ``until`` is set, and what :meth:`iter` raises.
        """
        received = await self.next_batch(1, names, timeout, completable, until=until)
        return received[0] if received else None

    async def next_batch(
        self,
        count: int,
        names: Names = None,
        timeout: float | None = None,
        completable: bool = False,
        *,
        until: asyncio.Event | None = None,
    ) -> list[Message[Any, Any]]:
        """Return up to ``count`` messages as one delivery; none after ``timeout`` seconds. It waits only for the first."""
        count, timeout = number_options.count("count", count), number_options.seconds("timeout", timeout)
        return await self._source.receive(self._names(names, completable), count, timeout, completable, until)

    async def try_next(self, names: Names = None, completable: bool = False) -> Message[Any, Any] | None:
        """Return the next message if one is due and available; never wait."""
        return await self.next(names, 0, completable)

    async def try_next_batch(
        self, count: int, names: Names = None, completable: bool = False
    ) -> list[Message[Any, Any]]:
        """Return up to ``count`` messages that are due and available; never wait."""
        return await self.next_batch(count, names, 0, completable)

    def __repr__(self) -> str:
        return f"<Mailbox of {self._source.actor_id}: {', '.join(self._source.queues) or 'no queues'}>"

    def _declared(self) -> Mapping[str, object]:
        return self._source.queues

    def _names(self, names: Names, completable: bool) -> frozenset[str] | None:
        """Return the requested queues; None for all without a handler.

        Raises QueueUnknown, QueueHasHandler and ReplyNeeded.
        """
        source = self._source
        declared, handlers = source.queues, source.handlers
        asked = (names,) if isinstance(names, str) else read_names(names)
        for name in asked:
            if name not in declared:
                raise QueueUnknown(source.actor_id, name, list(declared))
            if name in handlers:
                raise QueueHasHandler(source.actor_id, name, handlers[name].name)
        if not asked and handlers and len(handlers) == len(declared):
            raise QueueHasHandler(source.actor_id, *next((name, each.name) for name, each in handlers.items()))
        if not completable:
            self._check_replies(asked or [name for name in declared if name not in handlers])
        return frozenset(asked) if asked else None

    def _check_replies(self, names: Iterable[str]) -> None:
        """Raise ReplyNeeded where a message would complete without the reply that its queue declares."""
        declared = self._source.queues
        for name in names:
            if not declared[name].reply.takes_none:
                others = [other for other, queue in declared.items() if queue.reply.takes_none]
                raise ReplyNeeded(self._source.actor_id, name, declared[name].reply.name, others)
