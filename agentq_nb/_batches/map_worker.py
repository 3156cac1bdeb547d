"""The actor class that works on one ``map``: it calls the function for each row."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from agentq_nb._actor.actor import Actor
from agentq_nb._actor.message import Message
from agentq_nb._actor.queue import Queue
from agentq_nb._policies.retry import Retry
from agentq_nb._runtime.invocation import current_receiver
from agentq_nb._runtime.user_threads import in_user_thread
from agentq_nb.errors import RepositoryError

QUEUE = "rows"
_UNLIMITED = 2**62
"""A map has no ``max_size``."""
_LARGEST_ITEM = 64 << 20
_WORK = "__agentq_map__"
"""The attribute of a worker's class that has its work."""


@dataclass(frozen=True)
class Work:
    """What a map does.

    :ivar call: the function, called with the actor, an item and its message; ``is_async``: awaited, else in a thread.
    :ivar clean_up: called like it when a row has completed.
    :ivar body: the type of the items.
    """

    actor_name: str
    call: Callable[[Actor, Any, Message[Any, Any]], Any]
    is_async: bool
    body: Any
    reply: Any
    concurrency: int
    retry: Retry
    timeout: float | None
    limits: Sequence[Any]
    stop_after: int | None
    digest: str
    clean_up: Callable[[Actor, Any, Message[Any, Any]], Awaitable[None]] | None = None


def actor_name_of(name: str) -> str:
    """Return the name under which the actor of a map is registered: readable, and different for different maps."""
    plain = re.sub(r"\W", "_", name)
    if plain != name:
        plain = f"{plain}_{hashlib.sha256(name.encode()).hexdigest()[:4]}"
    return f"map_{plain}"


def worker_class(work: Work, concurrency: int, *, first: Callable[[], Awaitable[None]] | None = None) -> type[Actor]:
    """Return the actor class, with so many rows at a time.

    :param first: called when the first row has succeeded, before it is settled. It replaces the class by one that works on
        more rows at a time: then no second row has been started by this one.
    """
    limits: dict[str, Any] = {"limits": list(work.limits)} if work.limits else {}
    declared: Any = Queue(
        work.body,
        reply=work.reply,
        max_size=_UNLIMITED,
        max_bytes=None,
        max_message_bytes=_LARGEST_ITEM,
        retry=work.retry,
        handler_timeout=work.timeout,
        concurrency=concurrency,
        stop_after=work.stop_after,
        **limits,
    )

    class MapWorker(Actor):
        rows = declared

        @declared.handler
        async def work(self, item: Any, message: Message[Any, Any]) -> Any:
            try:
                reply = await _called(work, self, item, message)
            except RepositoryError as error:
                # Asking the agent again would cost money and not help; its work stays in the VM.
                await message.fail(error)
                return None
            if first is not None:
                declared.reply.validate(reply, f"The reply of {work.actor_name}")
                await first()
            if work.clean_up is None:
                return reply
            await message.complete(reply)  # only what is settled may be removed
            await work.clean_up(self, item, message)
            return None

    setattr(MapWorker, _WORK, work)
    MapWorker.__name__ = MapWorker.__qualname__ = work.actor_name
    return MapWorker


def is_same_work(deployed: type[Actor] | None, wanted: type[Actor]) -> bool:
    """Whether a class that is deployed does what another would do, with the same code and options."""
    now: Work | None = getattr(deployed, _WORK, None)
    new: Work = getattr(wanted, _WORK)
    return now is not None and _options(now) == _options(new)


def _options(work: Work) -> tuple[Any, ...]:
    declared = (work.concurrency, work.retry, work.timeout, list(work.limits), work.stop_after)
    return work.digest, work.body, work.reply, *declared


async def _called(work: Work, actor: Actor, item: Any, message: Message[Any, Any]) -> Any:
    if work.is_async:
        return await work.call(actor, item, message)
    receiver = current_receiver.get()
    assert receiver is not None
    return await in_user_thread(receiver.call, partial(work.call, actor, item, message))
