"""Calls to actors that other hosts of the same queues run, made by a host or by a client without one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import TypeAdapter

from agentq_nb._brokers.exchange import Exchange, Request, Verb
from agentq_nb._client.status import ActorStatus
from agentq_nb._core.ids import ActorId, mint_id
from agentq_nb._core.origin import current_origin
from agentq_nb._core.tagged_values import dumped, loaded
from agentq_nb.errors import AgentqError, Unavailable

_STATUS_WITHIN = 2.0
"""Seconds in which a host must answer with an actor's status."""

_STATUS = TypeAdapter(ActorStatus)
write_status = _STATUS.dump_json
read_status = _STATUS.validate_json


class OutgoingCalls:
    """Has other hosts carry out calls, each at most once. Raises what they raise; Unavailable if one of them died."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._withdrawals: set[asyncio.Task[None]] = set()

    async def call(
        self,
        actor: ActorId,
        action: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        input: Any,
        *,
        stoppable: bool,
    ) -> Any:
        """Call an action and return its result, as plain values.

        ``stoppable``: cancelling the caller stops the action. Raises ``actor.validation_error`` for arguments that cannot
        be sent.
        """
        what = f"The arguments of action `{action}`"
        texts = dumped(list(args), what), dumped(dict(kwargs), what), dumped(input, "The input")
        asking = self._ask(actor, "call", f"[{','.join((json.dumps(action), *texts))}]", stoppable=stoppable)
        return loaded(await asking)

    async def create(self, actor: ActorId, input: Any, *, must_be_new: bool) -> None:
        """Create an actor. Raises ActorDuplicate if it ``must_be_new`` and exists."""
        verb: Verb = "create" if must_be_new else "ensure"
        text = dumped(input, f"The input of actor '{actor}'")
        await self._ask(actor, verb, f"[{text}]")

    async def status(self, actor: ActorId) -> ActorStatus | None:
        """Return the status of an actor that another host runs, as that host says it; None if it does not say it soon."""
        if not await self._exchange.is_awake(actor):
            return None
        try:
            async with asyncio.timeout(_STATUS_WITHIN):
                return read_status(await self._ask(actor, "status", "null", stoppable=True))
        except (TimeoutError, AgentqError, ValueError):  # the host is blocked, has died, or is of another version
            return None

    async def _ask(self, actor: ActorId, verb: Verb, text: str, *, stoppable: bool = False) -> bytes:
        request = Request(mint_id(), actor, verb, text.encode("utf-8", "surrogatepass"), current_origin.get())
        try:
            return await self._exchange.ask(request)
        except asyncio.CancelledError:
            if stoppable:
                self._keep(self._withdraw(request.id))
            raise

    async def _withdraw(self, request: str) -> None:
        with suppress(Unavailable):  # then the action ends by itself
            await self._exchange.withdraw(request)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._withdrawals.add(task)
        task.add_done_callback(self._withdrawals.discard)
