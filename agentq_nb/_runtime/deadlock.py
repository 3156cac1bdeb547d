"""Who waits for whom: waits that could never end are refused at once instead of hanging for ever."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from agentq_nb._core.ids import ActorId, MessageId
from agentq_nb._runtime.invocation import Receiver, holding_here
from agentq_nb.errors import WaitWouldDeadlock

Holders = Callable[[ActorId, str], list[Receiver]]
"""The receivers that keep a queue of an actor from moving just now."""


class WaitGraph:
    """The waits of one host. A wait is an edge from each receiver that is held up by it to the queue waited on."""

    def __init__(self, holders: Holders) -> None:
        self._holders = holders
        self._edges: dict[Receiver, list[tuple[ActorId, str]]] = {}

    @contextmanager
    def waiting(self, message: MessageId, actor: ActorId, queue: str) -> Generator[None]:
        """Note a wait by the present task for as long as it lasts. Raises WaitWouldDeadlock if it could never end."""
        held_up = holding_here()
        if held_up and (chain := self._cycle(held_up, actor, queue)):
            waiting = sorted(f"'{receiver.actor_id}'" for receiver in held_up)
            raise WaitWouldDeadlock(message, [*waiting, *chain])
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
        """The way from the queue back to one of the receivers, or nothing."""
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
