"""Wait for many messages: all results in order, or each as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeVar, cast

from agentq_nb._client.receipt import Receipt, Result
from agentq_nb.errors import ValidationFailed

Reply = TypeVar("Reply")


async def gather(receipts: Iterable[Receipt[Reply]], *, timeout: float | None = None) -> list[Result[Reply]]:
    """Wait for the results of messages, and return them in the order of their receipts.

        receipts = [await runner.send("tasks", task) for task in tasks]
        results = await gather(receipts)

    A message that fails is a result, not an error: see ``Result.unwrap``.

    :param timeout: seconds after which the wait ends; messages that are not settled then have the status ``timed_out``,
        and the work goes on. None: no limit.
    """
    return list(await asyncio.gather(*(receipt.result(timeout) for receipt in _checked(receipts))))


async def as_completed(receipts: Iterable[Receipt[Reply]]) -> AsyncIterator[Result[Reply]]:
    """Yield the result of each message as it comes: ``async for result in as_completed(receipts)``.

    ``result.message_id`` is the ``id`` of its receipt.
    """
    waiting = {asyncio.ensure_future(receipt.result()) for receipt in _checked(receipts)}
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                yield one.result()
    finally:
        for one in waiting:
            one.cancel()


def _checked(receipts: object) -> list[Receipt[Any]]:
    """Return the receipts. Raises ``actor.validation_error`` for anything else, such as a single one."""
    given = list(cast("Iterable[object]", receipts)) if isinstance(receipts, Iterable) else [receipts]
    found: list[Receipt[Any]] = [one for one in given if isinstance(one, Receipt)]
    if len(found) < len(given) or not isinstance(receipts, Iterable):
        raise ValidationFailed(
            "gather and as_completed take a list of receipts, as send returns them. For anything else: asyncio.gather(...)."
        )
    return found
