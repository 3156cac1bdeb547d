"""Queue and Retry, an actor class's declaration of a queue, and BoundQueue, an actor's access to it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, Generic, Literal, Protocol, Self, TypeAlias, TypeVar, Unpack, get_args, overload

from pydantic.errors import PydanticUserError
from typing_extensions import TypeForm

from agentq_nb._actor.handler import mark
from agentq_nb._actor.mailbox import Mailbox
from agentq_nb._actor.message import Body, Message, Reply
from agentq_nb._actor.send_options import SendOptions, shows_options
from agentq_nb._core import number_options
from agentq_nb._core.codec import Schema
from agentq_nb._core.ids import declared_name
from agentq_nb._core.number_options import is_positive, is_whole
from agentq_nb._core.suggestions import NearMisses
from agentq_nb._policies.limits import Limit, checked_limits
from agentq_nb._policies.retry import Retry
from agentq_nb.errors import ValidationFailed

_Owner = TypeVar("_Owner")


class Placeholder:
    """The default of a parameter that was not given. ``help()`` shows its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"<{self._name}>"


_MISSING: Any = Placeholder("required")

OnFull: TypeAlias = Literal["raise", "wait"]

MAX_SIZE = 100_000
MAX_BYTES = 1024 * 1024 * 1024
MAX_MESSAGE_BYTES = 1024 * 1024
MAX_REPLY_BYTES = 16 * 1024 * 1024


def _schema(declared: Any, right: str) -> Schema[Any]:
    """Return the schema of a declared type. Raises TypeError for what is not a type."""
    wrong = ""
    if declared is _MISSING:
        wrong = "Queue() says nothing of its messages."
    elif isinstance(declared, (str, bytes, int, float, dict, list, tuple, set)):
        wrong = f"Queue(...) takes types, not {declared!r:.100}; its name is the variable's."
    else:
        try:
            return Schema(declared)
        except PydanticUserError as error:
            wrong = f"Queue(...) takes types that pydantic knows. {str(error).splitlines()[0]}"
    raise TypeError(f"{wrong} Write {right}, with a pydantic model, dataclass or other type; Any is any JSON.")


def _ttl(value: object) -> float | None:
    """Return a queue's ttl in seconds; None: no limit. Raises ValueError."""
    try:
        seconds = None if value is None else number_options.ttl("Queue(ttl=...)", value)
    except ValidationFailed as error:
        raise ValueError(error.message) from None
    return None if seconds == math.inf else seconds


class HasMailbox(Protocol):
    """An actor, as its queue declarations use it."""

    @property
    def queue(self) -> Mailbox: ...


class Queue(Generic[Body, Reply]):
    """A queue that an actor class declares.

        class Reviewer(Actor):
            reviews = Queue(Task, reply=Review, retry=Retry(attempts=5), handler_timeout=600)

            @reviews.handler
            async def review(self, task: Task) -> Review: ...       # returns the reply, or raises

    Without a handler, ``run`` or an action takes the messages:

            async def run(self):
                async for message in self.reviews.iter(completable=True):
                    await message.complete(await answer(message.body))

    :param body: the type of the messages: any type that pydantic can validate; ``Any`` accepts any JSON.
    :param reply: the type of the reply given to ``message.complete(...)``; None accepts any JSON, or no reply. If
        you give a type that does not allow None, ``run`` must receive with ``completable=True``; handlers need nothing.
    :param name: the name that senders use, if it cannot be a Python name: ``"cmd.0"``. By default the attribute's name.
    :param max_size: how many unsettled messages the queue holds. A message is settled when it has
        completed, finally failed (a dead letter), expired or been cancelled.
    :param max_bytes: bytes of the bodies of all unsettled messages, as JSON (1 GiB); None: no limit.
    :param on_full: how a send to a full queue behaves: ``"raise"`` raises ``queue.full``; ``"wait"`` waits for room, first
        come, first served.
    :param max_message_bytes: bytes of the largest body, as JSON (1 MiB); ``queue.message_too_large`` refuses larger ones.
    :param max_reply_bytes: bytes of the largest reply, as JSON (16 MiB). If a handler returns a larger one, the message
        becomes a dead letter at once; its error keeps the reply's first 4 KiB.
    :param concurrency: how many messages of the queue one actor may handle at the same time. Above 1, ``self.state`` is
        read-only while such a message is handled: ``await message.complete(reply, update=f)`` changes it.
    :param retry: how failed attempts are repeated.
    :param ttl: seconds, or a timedelta. A message that is not started within this time expires. A send may give its own.
        None: no limit.
    :param handler_timeout: seconds that one attempt may take before its handler is cancelled and the attempt fails. A
        plain handler's thread cannot be stopped: the next attempt waits for its end.
    :param limits: rate and concurrency limits on starting messages: ``[RateLimit(50, per=60, name="anthropic"), ConcurrencyLimit(4)]``.
    :param max_pause: how many seconds consecutive pauses for a provider's limit may last in total (see ``RateLimited``).
        If a pause would exceed this, the attempt fails instead. None: no limit.
    :param stop_after: the queue stops once this many different messages in a row have failed with the same error: the same
        type of exception, raised at the same line. A refused API key or account stops it at the first failure. It stays
        stopped until you resume it. None: it never stops.

    Messages survive restarts. Declarations are code and do not: run the cell with the class again after a restart.
    Raises TypeError if ``body`` or ``reply`` is not a type, and for ``concurrency`` with ``Retry(in_order=True)``; raises
    ValueError for numbers out of range.
    """

    name: str
    attribute: str
    """The variable of the class that the queue is bound to."""

    @overload
    def __init__(
        self,
        body: TypeForm[Body],
        reply: None = None,
        *,
        name: str | None = ...,
        max_size: int = ...,
        max_bytes: int | None = ...,
        max_message_bytes: int = ...,
        max_reply_bytes: int = ...,
        concurrency: int = ...,
        on_full: OnFull = ...,
        retry: Retry | None = ...,
        ttl: float | timedelta | None = ...,
        handler_timeout: float | None = ...,
        limits: Sequence[Limit] = ...,
        max_pause: float | None = ...,
        stop_after: int | None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        body: TypeForm[Body],
        reply: TypeForm[Reply],
        *,
        name: str | None = ...,
        max_size: int = ...,
        max_bytes: int | None = ...,
        max_message_bytes: int = ...,
        max_reply_bytes: int = ...,
        concurrency: int = ...,
        on_full: OnFull = ...,
        retry: Retry | None = ...,
        ttl: float | timedelta | None = ...,
        handler_timeout: float | None = ...,
        limits: Sequence[Limit] = ...,
        max_pause: float | None = ...,
        stop_after: int | None = ...,
    ) -> None: ...
    def __init__(
        self,
        body: Any = _MISSING,
        reply: Any = None,
        *,
        name: str | None = None,
        max_size: int = MAX_SIZE,
        max_bytes: int | None = MAX_BYTES,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_reply_bytes: int = MAX_REPLY_BYTES,
        concurrency: int = 1,
        on_full: OnFull = "raise",
        retry: Retry | None = None,
        ttl: float | timedelta | None = None,
        handler_timeout: float | None = None,
        limits: Sequence[Limit] = (),
        max_pause: float | None = None,
        stop_after: int | None = None,
    ) -> None:
        sizes = {
            "max_size": max_size,
            "max_message_bytes": max_message_bytes,
            "max_reply_bytes": max_reply_bytes,
            "concurrency": concurrency,
        }
        unless_none = {"max_bytes": max_bytes, "stop_after": stop_after}
        sizes |= {name: size for name, size in unless_none.items() if size is not None}
        for option, size in sizes.items():
            if not is_whole(size):
                raise ValueError(f"Queue({option}=...) must be a whole number from 1 up, not {size!r:.100}.")
        if on_full not in get_args(OnFull):
            raise ValueError(f'Queue(on_full=...) must be "raise" or "wait", not {on_full!r:.100}.')
        if handler_timeout is not None and not is_positive(handler_timeout):
            raise ValueError("Queue(handler_timeout=...) must be more than 0 seconds, or None.")
        if max_pause is not None and not is_positive(max_pause):
            raise ValueError("Queue(max_pause=...) must be more than 0 seconds, or None.")
        self.body: Schema[Body] = _schema(body, "Queue(dict)")
        self.reply: Schema[Reply] = _schema(Any if reply is None else reply, "Queue(dict, reply=str)")
        self._given_name = None if name is None else declared_name(name, "Queue")
        self.max_size = max_size
        self.max_bytes = max_bytes
        self.largest_body = max_message_bytes if max_bytes is None else min(max_message_bytes, max_bytes)
        """Bytes of the largest body that the queue takes."""
        self.on_full: OnFull = on_full
        self.ttl = _ttl(ttl)
        self.max_message_bytes = max_message_bytes
        self.max_reply_bytes = max_reply_bytes
        self.concurrency = concurrency
        self.retry = retry or Retry()
        if concurrency > 1 and self.retry.in_order:
            raise TypeError(
                f"Queue(concurrency={concurrency}) and Retry(in_order=True) exclude each other: messages that are handled "
                "at the same time end in any order. Leave out one of them."
            )
        self.handler_timeout = number_options.seconds("handler_timeout", handler_timeout)
        self.limits = checked_limits(limits)
        self.max_pause = number_options.seconds("max_pause", max_pause)
        self.stop_after = stop_after

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = name
        self.name = self._given_name or name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: HasMailbox, owner: type) -> BoundQueue[Body, Reply]: ...
    def __get__(self, instance: HasMailbox | None, owner: type) -> Any:
        """Return the declaration itself on the class, and the :class:`BoundQueue` of the actor on an instance."""
        return self if instance is None else BoundQueue(instance.queue, self)

    @overload
    def handler(
        self, function: Callable[[_Owner, Body], Coroutine[Any, Any, Reply]], /
    ) -> Callable[[_Owner, Body], Coroutine[Any, Any, Reply]]: ...
    @overload
    def handler(
        self, function: Callable[[_Owner, Body, Message[Body, Reply]], Coroutine[Any, Any, Reply | None]], /
    ) -> Callable[[_Owner, Body, Message[Body, Reply]], Coroutine[Any, Any, Reply | None]]: ...
    @overload
    def handler(self, function: Callable[[_Owner, Body], Reply], /) -> Callable[[_Owner, Body], Reply]: ...
    @overload
    def handler(
        self, function: Callable[[_Owner, Body, Message[Body, Reply]], Reply], /
    ) -> Callable[[_Owner, Body, Message[Body, Reply]], Reply]: ...
    def handler(self, function: Any = _MISSING, /) -> Any:
        """Make a method the handler of this queue: it is called for each message, in place of a loop in ``run``.

            @tasks.handler
            async def work(self, task: Task) -> Review: ...            # or (self, task, message)

        The value it returns is the reply, which is validated and completes the message. An exception fails the attempt. A
        plain function runs in a thread. Raises TypeError for anything but a method with these parameters.
        """
        if function is _MISSING:
            raise TypeError(
                "Write @tasks.handler without (): it takes no options. Those of the queue are in Queue(...)."
            )
        return mark(function, self)

    def __repr__(self) -> str:
        return f"<Queue {getattr(self, 'name', '?')}: {self.body.name}>"


class BoundQueue(NearMisses, Generic[Body, Reply]):
    """``self.tasks`` of an actor: its mailbox restricted to one queue, with the types that the queue declares."""

    def __init__(self, mailbox: Mailbox, queue: Queue[Body, Reply]) -> None:
        self._mailbox = mailbox
        self._queue = queue

    @shows_options
    async def push(
        self,
        body: Body | dict[str, Any],
        *,
        wait: bool = False,
        timeout: float | None = None,
        **options: Unpack[SendOptions],
    ) -> Any:
        """Send a message to this queue; durable on return: see :meth:`Mailbox.push`."""
        return await self._mailbox.push(self._queue.name, body, wait=wait, timeout=timeout, **options)

    def iter(
        self, completable: bool = False, *, until: asyncio.Event | None = None
    ) -> AsyncIterator[Message[Body, Reply]]:
        """Iterate over the queue's messages: see :meth:`Mailbox.iter`."""
        return self._mailbox.iter(self._queue.name, completable, until=until)

    async def next(
        self, timeout: float | None = None, completable: bool = False, *, until: asyncio.Event | None = None
    ) -> Message[Body, Reply] | None:
        """Return the next message, or None after ``timeout`` seconds: see :meth:`Mailbox.next`."""
        return await self._mailbox.next(self._queue.name, timeout, completable, until=until)

    async def next_batch(
        self,
        count: int,
        timeout: float | None = None,
        completable: bool = False,
        *,
        until: asyncio.Event | None = None,
    ) -> list[Message[Body, Reply]]:
        """Return up to ``count`` messages as one delivery: see :meth:`Mailbox.next_batch`."""
        return await self._mailbox.next_batch(count, self._queue.name, timeout, completable, until=until)

    async def try_next(self, completable: bool = False) -> Message[Body, Reply] | None:
        """Return the next message if one is due and available: see :meth:`Mailbox.try_next`."""
        return await self._mailbox.try_next(self._queue.name, completable)

    async def try_next_batch(self, count: int, completable: bool = False) -> list[Message[Body, Reply]]:
        """Return up to ``count`` messages that are due and available: see :meth:`Mailbox.try_next_batch`."""
        return await self._mailbox.try_next_batch(count, self._queue.name, completable)

    @property
    def _written(self) -> str:
        return f"self.{self._queue.attribute}"

    def __repr__(self) -> str:
        return f"<queue {self._queue.name} of {self._mailbox!r}>"
