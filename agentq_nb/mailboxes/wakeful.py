"""Hints for hosts: actors that have due work and that nobody runs."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from agentq_nb.naming import ActorId, actor_name


class Wakeful:
    """One subscription: an async iterator of actor ids, each given once however often it is hinted before it is read."""

    def __init__(self, names: Collection[str], known: Iterable[ActorId]) -> None:
        self._names = frozenset(names)
        self._hints: dict[ActorId, None] = {}
        self._news = asyncio.Event()
        self._closed = False
        for actor in known:
            self.hint(actor)

    def hint(self, actor: ActorId) -> None:
        if actor_name(actor) in self._names:
            self._hints[actor] = None
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
