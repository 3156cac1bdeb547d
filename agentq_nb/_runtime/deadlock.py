"""Deadlock detection: a wait for a message that could never end is refused at once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._runtime.invocation import Receiver, holding_here
from agentq_nb.errors import WaitWouldDeadlock

Place: TypeAlias = tuple[ActorId, str]
"""A queue of an actor."""

Holders = Callable[[ActorId, str], list[Receiver]]
"""Returns the receivers that currently block a queue of an actor."""

FullLimits = Callable[[ActorId, str], Mapping[str, list[Receiver]]]
"""Returns the concurrency limits of a queue that have no free place, each with the receivers that have the places."""

Groups: TypeAlias = Mapping[str | None, list[Receiver]]
"""The receivers that block a queue itself (None), and those that have the places of each of its full limits."""


class WaitGraph:
    """The waits of one host: each is an edge from every receiver that it blocks to the queue waited for."""

    def __init__(self, holders: Holders, full_limits: FullLimits = lambda actor, queue: {}) -> None:
        self._holders = holders
        self._full_limits = full_limits
        self._edges: dict[Receiver, list[Place]] = {}

    @contextmanager
    def waiting(self, message: MessageId, actor: ActorId, queue: str, *, room: bool = False) -> Generator[None]:
        """Register a wait of the current task while it lasts. Raises WaitWouldDeadlock if it could never end.

        It is a wait for the message to be settled, or for ``room`` in the queue: messages of the queue must be settled
        either way. Without a message, it is a wait for the start of a call that shares limits with queues.
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

        A queue moves once any of its holders goes on, and any of those who have the places of each full limit; a holder
        goes on unless one of its own waits never ends.
        """
        groups = self._reachable(actor, queue)
        stuck = set(groups)
        while freed := {
            place for place in stuck if all(self._gives_way(group, held_up, stuck) for group in groups[place].values())
        }:
            stuck -= freed
        return self._path((actor, queue), groups, stuck, held_up) if (actor, queue) in stuck else []

    def _reachable(self, actor: ActorId, queue: str) -> dict[Place, Groups]:
        """Return the queues that this one may have to wait for, itself included, each with the receivers that block it."""
        found: dict[Place, Groups] = {}
        pending = [(actor, queue)]
        while pending:
            place = pending.pop()
            if place not in found:
                found[place] = {None: self._holders(*place), **self._full_limits(*place)}
                holders = [holder for group in found[place].values() for holder in group]
                pending += [edge for holder in holders for edge in self._edges.get(holder, ())]
        return found

    def _gives_way(self, group: list[Receiver], held_up: frozenset[Receiver], stuck: set[Place]) -> bool:
        return not group or any(self._goes_on(holder, held_up, stuck) for holder in group)

    def _goes_on(self, holder: Receiver, held_up: frozenset[Receiver], stuck: set[Place]) -> bool:
        return holder not in held_up and not any(edge in stuck for edge in self._edges.get(holder, ()))

    def _path(
        self, place: Place, groups: dict[Place, Groups], stuck: set[Place], held_up: frozenset[Receiver]
    ) -> list[str]:
        seen = {place}
        pending: list[tuple[Place, list[str]]] = [(place, [])]
        while pending:
            (actor, queue), way = pending.pop()
            way = [*way, f"waits for queue '{queue}' of '{actor}'"]
            for limit, group in groups[actor, queue].items():
                if self._gives_way(group, held_up, stuck):
                    continue
                so_far = way if limit is None else [*way, f"which needs a place of limit '{limit}'"]
                if not held_up.isdisjoint(group):
                    return [*so_far, "which moves only after this message settles"]
                edges = [edge for holder in group for edge in self._edges.get(holder, ()) if edge in stuck]
                pending += [(edge, so_far) for edge in edges if edge not in seen]
                seen.update(edges)
        return [f"waits for queue '{place[1]}' of '{place[0]}'", "whose handlers all wait"]
