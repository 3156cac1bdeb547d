"""Commands that send messages, wait for them, cancel them, redeliver dead letters, and show batches."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from agentq_nb._actor.send_options import SendOptions
from agentq_nb._commands.command_context import Command, CommandContext, Where, address, handle
from agentq_nb._commands.interpolation import filled_body
from agentq_nb._commands.message_body import json_or_text, read_body
from agentq_nb._commands.parser import UsageError, flag, option, rest, seconds, span, whole, word
from agentq_nb._core import ids
from agentq_nb._core.blocking import detachable
from agentq_nb._core.message_status import REDELIVERABLE
from agentq_nb._display.document import Document
from agentq_nb.errors import AgentqError, NoHost

if TYPE_CHECKING:
    from agentq_nb._actor.queue import Queue
    from agentq_nb._client.batch import Batch
    from agentq_nb._client.receipt import Receipt, Result
    from agentq_nb._core.result_table import Table


@dataclass(frozen=True, kw_only=True)
class Send(Command):
    """Put a message into a queue without waiting for it; gives its receipt.

    BODY is JSON, or plain text where the queue takes text. In a notebook, %%agentq send takes the text of the cell as
    the body. With --key the cell can be run again: the same key and body give the first message's receipt.

    In a notebook, {{name}} puts a variable in, also {{name.attribute}} and {{name[0]}}: where BODY is JSON as JSON, like
    {"file": {{path}}}, inside its texts and elsewhere as text, like Review {{path}}. {{{{ is two braces.
    """

    name: ClassVar[str] = "send"
    where: ClassVar[Where] = "both"
    needs_host: ClassVar[bool] = True

    actor: str = word("ACTOR/KEY", "which actor, like task_runner/main", convert=address, completes="actor")
    queue: str = word("QUEUE", "which of its queues", completes="queue")
    key: str | None = option(
        "--key", "KEY", "an idempotency key: names this message in its queue, until it fails or is cancelled"
    )
    priority: int = option(
        "--priority", "NUMBER", "higher ones are handed out first; without it 0", default=0, convert=whole
    )
    delay: float = option(
        "--delay", "TIME", "hand it out only after this time, like 90s, 10m, 2h or 1d", default=0.0, convert=span
    )
    ttl: float | None = option(
        "--ttl", "TIME", "do not start it after this time, like 90s, 10m, 2h or 1d: it expires", convert=span
    )
    body: str = rest("BODY", "JSON, or plain text")

    async def run(self, context: CommandContext) -> Receipt[Any]:
        options = SendOptions(idempotency_key=self.key, priority=self.priority, delay=self.delay, ttl=self.ttl)
        return await put(context, self.actor, self.queue, self.body, options)


@dataclass(frozen=True, kw_only=True)
class Ask(Command):
    """Put a message into a queue and wait for its result; fails when the work failed.

    BODY is as for send. Interrupting stops the waiting, never the work: the result can be had later with %agentq show.
    """

    name: ClassVar[str] = "ask"
    where: ClassVar[Where] = "both"
    needs_host: ClassVar[bool] = True
    only_waits: ClassVar[bool] = True

    actor: str = word("ACTOR/KEY", "which actor, like reviewer/main", convert=address, completes="actor")
    queue: str = word("QUEUE", "which of its queues", completes="queue")
    timeout: float | None = option(
        "--timeout", "SECONDS", "how long to wait; a timeout ends the wait, not the work", convert=seconds
    )
    key: str | None = option(
        "--key", "KEY", "an idempotency key: names this message in its queue, until it fails or is cancelled"
    )
    ttl: float | None = option(
        "--ttl", "TIME", "do not start it after this time, like 90s, 10m, 2h or 1d: it expires", convert=span
    )
    no_check: bool = flag("--no-check", "give the result also when the work failed")
    body: str = rest("BODY", "JSON, or plain text")

    async def run(self, context: CommandContext) -> Result[Any]:
        receipt = await detachable(
            put(context, self.actor, self.queue, self.body, SendOptions(idempotency_key=self.key, ttl=self.ttl))
        )
        try:
            result = await receipt.result(self.timeout)
        except asyncio.CancelledError:
            raise asyncio.CancelledError(
                f"Stopped waiting for message {receipt.id}, which is still being worked on. Look at it: %agentq show {receipt.id}"
            ) from None
        if not self.no_check:
            _check(result)
        return result


_STOPS_WITHIN = 6.0
"""Seconds until a cancelled handler has ended or is abandoned."""


@dataclass(frozen=True, kw_only=True)
class Cancel(Command):
    """Cancel a message: one that waits is settled, one that is handled is stopped first."""

    name: ClassVar[str] = "cancel"
    where: ClassVar[Where] = "both"

    message: str = word("MESSAGE", "the message's id")

    async def run(self, context: CommandContext) -> Receipt[Any]:
        receipt = receipt_of(context, self.message)
        if not await receipt.cancel() and (status := await receipt.status()) != "cancelled":
            raise UsageError(f"Message {self.message} is {status} already: nothing is left to cancel.")
        await receipt.result(_STOPS_WITHIN)
        return receipt


@dataclass(frozen=True, kw_only=True)
class Retry(Command):
    """Put a dead letter back into its queue and reset its attempts; with --all, every one, or those you name.

    %agentq retry MESSAGE puts back one message that failed or was cancelled. %agentq retry --all reviewer puts back the
    dead letters of all reviewers, %agentq retry --all reviewer/main tasks those of one queue.
    """

    name: ClassVar[str] = "retry"
    where: ClassVar[Where] = "both"

    target: str | None = word(
        "MESSAGE|ACTOR[/KEY]", "a message's id; with --all an actor or its name", optional=True, completes="actor"
    )
    queue: str | None = word("QUEUE", "with --all: only those of this queue", optional=True, completes="queue")
    every: bool = flag("--all", "all dead letters to which the rest applies")
    since: float | None = option(
        "--since", "TIME", "with --all: only those that failed within this time, like 90s, 10m, 2h or 1d", convert=span
    )
    error: str | None = option("--error", "TEXT", "with --all: only those whose error has this text")

    async def run(self, context: CommandContext) -> Receipt[Any] | Document:
        if self.every:
            return await self._all(context)
        if self.target is None or self.queue is not None or self.since is not None or self.error is not None:
            raise UsageError("Say which message, or add --all: retry MESSAGE, or retry --all [ACTOR[/KEY] [QUEUE]]")
        return await self._one(context, self.target)

    async def _all(self, context: CommandContext) -> Document:
        registry = context.host()
        moved = await registry.redeliver(
            None if self.target is None else _actors(self.target),
            self.queue,
            None if self.since is None else timedelta(seconds=self.since),
            self.error,
        )
        number = "1 dead letter" if moved == 1 else f"{moved:,} dead letters"
        return Document(
            notes=[f"Put {number} back." if moved else "No dead letter is meant by that: nothing was put back."]
        )

    async def _one(self, context: CommandContext, message: str) -> Receipt[Any]:
        receipt = receipt_of(context, message)
        status = await receipt.status()
        found = await context.host().sql("select actor_id from messages where message_id = ?", [message])
        if status not in REDELIVERABLE or not await handle(context, found.rows[0][0]).redeliver(message):
            raise UsageError(f"Message {message} is {status}: only those that ended without a reply can be retried.")
        return receipt


def _actors(text: str) -> str:
    """Return an actor, or the name of many. Raises UsageError."""
    try:
        return address(text)
    except ValueError as error:
        raise UsageError(f"With --all comes {error}, or a name alone for all of its actors, not {text}.") from None


def _check(result: Result[Any]) -> None:
    try:
        result.unwrap()
    except AgentqError as error:
        error.message = f"{error.message} All about it: %agentq show {result.message_id}"
        raise


def receipt_of(context: CommandContext, message: str) -> Receipt[Any]:
    """Return the receipt of any message of this host's file. Raises NoHost."""
    return context.client().receipt(message)


async def put(context: CommandContext, actor: str, queue: str, text: str, options: SendOptions) -> Receipt[Any]:
    """Send a typed body. Raises UsageError where the text is neither JSON that fits the queue nor text it takes."""
    target = handle(context, actor)
    declared = _declared(context, actor, queue)
    whole = filled_body(text, context.variables)
    body = read_body(whole, declared, queue) if declared is not None else json_or_text(whole)
    return await target.send(queue, body, **options)


def _declared(context: CommandContext, actor: str, queue: str) -> Queue[Any, Any] | None:
    """Return the queue's declaration; None where it is unknown, or another process's, which checks bodies itself."""
    try:
        actor_class = context.host().classes.get(ids.actor_name(actor))
    except NoHost:
        return None
    return None if actor_class is None else actor_class.declared.queues.get(queue)


@dataclass(frozen=True, kw_only=True)
class Batches(Command):
    """Show the batches of map and send_many, and how far they are; or the one of a name, whose rows
    batch = %agentq batches NAME makes available: await batch.frame().
    """

    name: ClassVar[str] = "batches"
    where: ClassVar[Where] = "both"
    only_waits: ClassVar[bool] = True

    batch: str | None = word("NAME", "only the batch of this name", optional=True)

    async def run(self, context: CommandContext) -> Table | Batch[object]:
        from agentq_nb._host.registry_batches import all_batches

        registry = context.host()
        return await all_batches(registry.host) if self.batch is None else await registry.batch(self.batch)
