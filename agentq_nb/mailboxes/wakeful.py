"""Hints for hosts: actors that have due work and that nobody runs."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from agentq_nb.mailboxes.memory import Shelf, wanted
from agentq_nb.naming import ActorId


class Wakeful:
    """One subscription: an async iterator of actor ids, each given once however often it is hinted before it is read.

    :param queues: by actors' name, the queues whose due messages are worth a hint; None: any.
    """

    def __init__(self, queues: Mapping[str, Collection[str] | None]) -> None:
        self._queues = dict(queues)
        self._hints: dict[ActorId, None] = {}
        self._news = asyncio.Event()
        self._closed = False

    def look_at(self, shelf: Shelf) -> None:
        """Something may be due in a queue whose actor nobody runs."""
        queues = self._queues.get(shelf.box.name, ())
        if (queues is None or wanted(shelf.name, queues)) and shelf.head() is not None:
            self._hints[shelf.box.actor] = None
            self._news.set()

    def close(self) -> None:
        """End the iteration."""
        self._closed = True
        self._news.set()

    def __aiter__(self) -> Wakeful:
        return self

    async def __anext__(self) -> ActorId:
        while not self._hints:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        actor = next(iter(self._hints))
        del self._hints[actor]
        return actor
