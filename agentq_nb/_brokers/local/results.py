"""Results of messages: recent ones in memory, older ones read from the log, and the futures that wait for them."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, cast

from agentq_nb._actor.failure_record import FAILURES
from agentq_nb._brokers.local.batch_index import BatchIndex
from agentq_nb._brokers.local.dependents import Dependents
from agentq_nb._brokers.messages import StoredResult, stopped_waiting
from agentq_nb._core.ids import MessageId
from agentq_nb._core.message_status import STATUS_AFTER, MessageStatus

_REMEMBERED = 2048
_LARGEST_REMEMBERED_BYTES = 8192


class Results:
    """Results being written, futures of those waited for, and a bounded cache of recent ones."""

    def __init__(self, batches: BatchIndex, dependents: Dependents) -> None:
        self._batches = batches
        self._dependents = dependents
        self.settling: dict[MessageId, StoredResult] = {}
        """Settled but still being written: a crash may undo it, so it is not visible yet."""
        self.remembered: OrderedDict[MessageId, StoredResult] = OrderedDict()
        """Recent results that are durable."""
        self._waiting: dict[MessageId, list[asyncio.Future[StoredResult]]] = {}

    def get(self, message: MessageId) -> StoredResult | None:
        return self.remembered.get(message)

    def forget(self, message: MessageId) -> None:
        """Drop a result, since the message is live again."""
        self.remembered.pop(message, None)

    def knows(self, message: MessageId) -> bool:
        """Whether the message was settled recently."""
        return message in self.settling or message in self.remembered

    def publish(self, results: Iterable[StoredResult]) -> None:
        """Deliver durable results to their waiters."""
        for result in results:
            self.settling.pop(result.message, None)
            self._remember(result)
            if self._waiting:
                for future in self._waiting.pop(result.message, ()):
                    if not future.done():
                        future.set_result(result)
            self._dependents.settled(result)
            if result.batch is not None:
                self._batches.settled(result.batch, result.message, result.status)
            if result.status == "failed":
                FAILURES.note_message(result.message, result.actor, result.queue, result.error)

    def _remember(self, result: StoredResult) -> None:
        if result.reply is None or len(result.reply) <= _LARGEST_REMEMBERED_BYTES:
            self.remembered[result.message] = result
            if len(self.remembered) > _REMEMBERED:
                self.remembered.popitem(last=False)

    def waiting(self, message: MessageId) -> asyncio.Future[StoredResult]:
        """Return a future of the result; call :meth:`leave` when the wait ends early."""
        future: asyncio.Future[StoredResult] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(message, []).append(future)
        return future

    def leave(self, message: MessageId, future: asyncio.Future[StoredResult]) -> None:
        futures = self._waiting.get(message, [])
        if future in futures:
            futures.remove(future)
            if not futures:
                del self._waiting[message]

    def waited_for(self) -> list[MessageId]:
        return list(self._waiting)

    def give_up(self, message: MessageId, error: Exception) -> None:
        """Fail all waits for a message whose result will not come."""
        for future in self._waiting.pop(message, ()):
            if not future.done():
                future.set_exception(error)

    def close(self) -> None:
        for message in self.waited_for():
            self.give_up(message, stopped_waiting(message))


def read(message: MessageId, rows: Iterable[tuple[Any, ...]]) -> StoredResult | None:
    """Return a message's status and result from its rows; None when there are none."""
    queue: str | None = None
    actor = ""
    status: MessageStatus = "queued"
    attempts = 0
    facts: dict[str, Any] = {}
    for _seq, _time, kind, row_actor, _id, data in rows:
        if kind == "message.queued":
            queue, actor = cast(str, json.loads(data)["queue"]), row_actor
        elif kind == "message.started":
            attempts, status = json.loads(data)["attempt"], "running"
        elif kind in STATUS_AFTER:
            status, facts = STATUS_AFTER[kind], json.loads(data)
        elif kind != "message.cancel_requested":
            status, facts = "queued", {}
    if queue is None:
        return None
    reply = json.dumps(facts["reply"], ensure_ascii=False).encode() if "reply" in facts else None
    return StoredResult(message, actor, queue, status, attempts, reply, facts.get("error"))
