"""Deadlock detection: a wait for a message that could never end is refused at once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

from agentq_nb._brokers import messages
from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._runtime.invocation import Receiver, holding_here
from agentq_nb.errors import WaitWouldDeadlock


class Place(NamedTuple):
    """A queue of an actor; with ``message``, that one message of it, which a receiver holds."""

    actor: ActorId
    queue: str
    message: MessageId | None = None

    def __str__(self) -> str:
        queue = f"queue '{self.queue}' of '{self.actor}'"
        return queue if self.message is None else f"message {self.message} of {queue}"


Holders = Callable[[ActorId, str], list[Receiver]]
"""Returns the receivers that currently block a queue of an actor."""

FullLimits = Callable[[ActorId, str], Mapping[str, list[Receiver]]]
"""Returns the concurrency limits of a queue that have no free place, each with the receivers that have the places."""

Holder = Callable[[ActorId, MessageId], Receiver | None]
"""Returns the receiver that holds a message of an actor."""

Groups: TypeAlias = Mapping[str | None, list[Receiver]]
"""The receivers that block a queue itself (None), and those that have the places of each of its full limits."""


class WaitGraph:
    """The waits of one host: each is an edge from every receiver that it blocks to the queue waited for."""

    def __init__(
        self,
        holders: Holders,
        full_limits: FullLimits = lambda actor, queue: {},
        holder: Holder = lambda actor, message: None,
    ) -> None:
        self._holders = holders
        self._full_limits = full_limits
        self._holder = holder
        self._edges: dict[Receiver, list[Place]] = {}

    @contextmanager
    def waiting(
        self,
        message: MessageId,
        actor: ActorId,
        queue: str,
        *,
        room: bool = False,
        before: Iterable[messages.Place] = (),
    ) -> Generator[None]:
        """Register a wait of the current task while it lasts. Raises WaitWouldDeadlock if it could never end.

        It is a wait for the message to be settled, or for ``room`` in the queue: messages of the queue must be settled
        either way. Without a message, it is a wait for the start of a call that shares limits with queues. ``before`` are
        the unsettled messages that the message itself waits for: each of them must be settled, too.
        """
        held_up = holding_here()
        places = [Place(actor, queue)]
        if held_up and before:
            places = list(dict.fromkeys([*places, *map(self._place_of, before)]))
        for place in places if held_up else ():
            if chain := self._cycle(held_up, place):
                waiting = sorted(f"'{receiver.actor_id}'" for receiver in held_up)
                raise WaitWouldDeadlock(message, [*waiting, *chain], room=room)
        for receiver in held_up:
            self._edges.setdefault(receiver, []).extend(places)
        try:
            yield
        finally:
            for receiver in held_up:
                edges = self._edges[receiver]
                for place in places:
                    edges.remove(place)
                if not edges:
                    del self._edges[receiver]

    def _place_of(self, before: messages.Place) -> Place:
        held = self._holder(before.actor, before.message) is not None
        return Place(before.actor, before.queue, before.message if held else None)

    def _cycle(self, held_up: frozenset[Receiver], start: Place) -> list[str]:
        """Return the path from the place back to one of the receivers, as text; empty if the place can move.

        A queue moves once any of its holders goes on, and any of those who have the places of each full limit; a holder
        goes on unless one of its own waits never ends.
        """
        groups = self._reachable(start)
        stuck = set(groups)
        while freed := {
            place for place in stuck if all(self._gives_way(group, held_up, stuck) for group in groups[place].values())
        }:
            stuck -= freed
        return self._path(start, groups, stuck, held_up) if start in stuck else []

    def _reachable(self, start: Place) -> dict[Place, Groups]:
        """Return the places that this one may have to wait for, itself included, each with the receivers that block it."""
        found: dict[Place, Groups] = {}
        pending = [start]
        while pending:
            place = pending.pop()
            if place not in found:
                found[place] = self._groups(place)
                holders = [holder for group in found[place].values() for holder in group]
                pending += [edge for holder in holders for edge in self._edges.get(holder, ())]
        return found

    def _groups(self, place: Place) -> Groups:
        if place.message is not None and (holder := self._holder(place.actor, place.message)) is not None:
            return {None: [holder]}
        return {None: self._holders(place.actor, place.queue), **self._full_limits(place.actor, place.queue)}

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
            waited_for, way = pending.pop()
            way = [*way, f"waits for {waited_for}"]
            for limit, group in groups[waited_for].items():
                if self._gives_way(group, held_up, stuck):
                    continue
                so_far = way if limit is None else [*way, f"which needs a place of limit '{limit}'"]
                if not held_up.isdisjoint(group):
                    return [*so_far, "which moves only after this message settles"]
                edges = [edge for holder in group for edge in self._edges.get(holder, ()) if edge in stuck]
                pending += [(edge, so_far) for edge in edges if edge not in seen]
                seen.update(edges)
        return [f"waits for {place}", "whose handlers all wait"]
