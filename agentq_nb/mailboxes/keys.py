"""Idempotency keys: which message a key of a queue names, while that message is live or completed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from agentq_nb.naming import ActorId, MessageId


def digest(body: bytes) -> bytes:
    """Equal for bodies that are equal as JSON values, however they are written."""
    canonical = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Keys:
    """The keys of every queue. Those of work settled in earlier runs are read from the log when a first key is used."""

    def __init__(self) -> None:
        self.complete = False
        self._named: dict[tuple[ActorId, str, str], tuple[MessageId, bytes]] = {}
        self._freed: set[MessageId] = set()

    def find(self, actor: ActorId, queue: str, key: str) -> tuple[MessageId, bytes] | None:
        """The message that has the key, and the digest of its body."""
        return self._named.get((actor, queue, key))

    def name(self, actor: ActorId, queue: str, key: str, message: MessageId, body: bytes) -> None:
        self._named[actor, queue, key] = (message, digest(body))
        self._freed.discard(message)

    def free(self, actor: ActorId, queue: str, key: str, message: MessageId) -> None:
        """The message failed, was cancelled or expired: its key may name another."""
        self._freed.add(message)
        if (named := self._named.get((actor, queue, key))) is not None and named[0] == message:
            del self._named[actor, queue, key]

    def learn(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add what the log knows; what happened since it was read wins."""
        for actor, queue, key, message, body in rows:
            if message not in self._freed and (actor, queue, key) not in self._named:
                self._named[actor, queue, key] = (message, digest(body.encode()))
        self.complete = True
        self._freed.clear()
