"""Deadlock detection: a wait for a message that could never end is refused at once."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._runtime.invocation import Receiver, holding_here
from agentq_nb.errors import WaitWouldDeadlock

Holders = Callable[[ActorId, str], list[Receiver]]
"""Returns the receivers that currently block a queue of an actor."""


class WaitGraph:
    """The waits of one host: each is an edge from every receiver that it blocks to the queue waited for."""

    def __init__(self, holders: Holders) -> None:
        self._holders = holders
        self._edges: dict[Receiver, list[tuple[ActorId, str]]] = {}

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
        """Return the path from the queue back to one of the receivers, as text; empty if there is none."""
        seen: set[tuple[ActorId, str]] = set()
        pending: list[tuple[ActorId, str, list[str]]] = [(actor, queue, [])]
        while pending:
            actor, queue, way = pending.pop()
            if (actor, queue) in seen:
                continue
            seen.add((actor, queue))
            way = [*way, f"waits for queue '{queue}' of '{actor}'"]
            for holder in self._holders(actor, queue):
                if holder in held_up:
                    return [*way, "which moves only after this message settles"]
                pending += [(*edge, way) for edge in self._edges.get(holder, ())]
        return []
