"""Deadlock detection: a wait for a message that could never end is refused at once."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeAlias

from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._runtime.invocation import Receiver, holding_here
from agentq_nb.errors import WaitWouldDeadlock

Place: TypeAlias = tuple[ActorId, str]
"""A queue of an actor."""

Holders = Callable[[ActorId, str], list[Receiver]]
"""Returns the receivers that currently block a queue of an actor."""


class WaitGraph:
    """The waits of one host: each is an edge from every receiver that it blocks to the queue waited for."""

    def __init__(self, holders: Holders) -> None:
        self._holders = holders
        self._edges: dict[Receiver, list[Place]] = {}

    @contextmanager
    def waiting(self, message: MessageId, actor: ActorId, queue: str, *, room: bool = False) -> Generator[None]:
        """Register a wait of the current task while it lasts. Raises WaitWouldDeadlock if it could never end.

        It is a wait for the message to be settled, or for ``room`` in the queue: messages of the queue must be settled
        either way.
        """
        held_up = holding_here()
        if held_up and (chain := self._cycle(held_up, actor, queue)):
            waiting = sorted(f"'{receiver.actor_id}'" for receiver in held_up)
            raise WaitWouldDeadlock(message, [*waiting, *chain], room=room)
        for receiver in held_up:
            self._edges.setdefault(receiver, []).append((actor, queue))
        try:
            yield
        finally:
            for receiver in held_up:
                edges = self._edges[receiver]
                edges.remove((actor, queue))
                if not edges:
                    del self._edges[receiver]

    def _cycle(self, held_up: frozenset[Receiver], actor: ActorId, queue: str) -> list[str]:
        """Return the path from the queue back to one of the receivers, as text; empty if the queue can move.

        A queue moves once any of its holders goes on; a holder goes on unless one of its own waits never ends.
        """
        holders = self._reachable(actor, queue)
        stuck = set(holders)
        while freed := {
            place
            for place in stuck
            if not holders[place] or any(self._goes_on(holder, held_up, stuck) for holder in holders[place])
        }:
            stuck -= freed
        return self._path((actor, queue), holders, stuck, held_up) if (actor, queue) in stuck else []

    def _reachable(self, actor: ActorId, queue: str) -> dict[Place, list[Receiver]]:
        """Return the queues that this one may have to wait for, itself included, each with the receivers that block it."""
        found: dict[Place, list[Receiver]] = {}
        pending = [(actor, queue)]
        while pending:
            place = pending.pop()
            if place not in found:
                found[place] = self._holders(*place)
                pending += [edge for holder in found[place] for edge in self._edges.get(holder, ())]
        return found

    def _goes_on(self, holder: Receiver, held_up: frozenset[Receiver], stuck: set[Place]) -> bool:
        return holder not in held_up and not any(edge in stuck for edge in self._edges.get(holder, ()))

    def _path(
        self,
        place: Place,
        holders: dict[Place, list[Receiver]],
        stuck: set[Place],
        held_up: frozenset[Receiver],
    ) -> list[str]:
        seen = {place}
        pending: list[tuple[Place, list[str]]] = [(place, [])]
        while pending:
            (actor, queue), way = pending.pop()
            way = [*way, f"waits for queue '{queue}' of '{actor}'"]
            for holder in holders[actor, queue]:
                if holder in held_up:
                    return [*way, "which moves only after this message settles"]
                edges = [edge for edge in self._edges.get(holder, ()) if edge in stuck and edge not in seen]
                seen.update(edges)
                pending += [(edge, way) for edge in edges]
        return [f"waits for queue '{place[1]}' of '{place[0]}'", "whose handlers all wait"]
