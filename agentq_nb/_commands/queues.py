"""Commands that pause, resume and purge queues, and that show and change their limits."""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where, address, handle
from agentq_nb._commands.parser import UsageError, flag, option, seconds, span, whole, word
from agentq_nb._display.document import Document
from agentq_nb.errors import ActorUnknown

if TYPE_CHECKING:
    from agentq_nb._brokers.statuses import LimitStatus, QueueStatus
    from agentq_nb._client.handle import ActorHandle
    from agentq_nb._core.result_table import Table
    from agentq_nb._host.registry_limits import RegistryLimits

_EXPECTED = "a time to come, like 18:30 or 2026-11-01T12:00"


def time_to_come(text: str) -> float:
    """Return ``18:30`` (the next one) or ``2026-11-01T12:00`` as seconds since 1970. A bare time is local."""
    now = datetime.now()  # users mean local time
    try:
        if re.fullmatch(r"\d\d?:\d\d", text, re.ASCII):
            hour, minute = map(int, text.split(":"))
            moment = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            moment += timedelta(days=1 if moment <= now else 0)
        else:
            moment = datetime.fromisoformat(text)
        seconds = moment.timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError(_EXPECTED) from None
    if seconds <= time.time():
        raise ValueError(_EXPECTED)
    return seconds


@dataclass(frozen=True, kw_only=True)
class _QueueCommand(Command):
    """The base of commands on one queue."""

    where: ClassVar[Where] = "both"

    actor: str = word("ACTOR/KEY", "which actor, like reviewer/main", convert=address, completes="actor")
    queue: str = word("QUEUE", "which of its queues", completes="queue")

    @contextmanager
    def target(self, context: CommandContext) -> Generator[ActorHandle]:
        """Yield the actor. Where no class is known, as in a shell, only queues that have messages are accepted."""
        try:
            yield handle(context, self.actor)
        except ActorUnknown:
            if context.works:
                raise
            raise UsageError(
                f"Queue '{self.queue}' of '{self.actor}' holds no messages in this file and is not paused. "
                f"agentq results {self.actor} shows what was settled."
            ) from None


@dataclass(frozen=True, kw_only=True)
class Pause(_QueueCommand):
    """Hand out no more messages of a queue; a running handler finishes, and messages can still be sent.

    It stays paused, also when the kernel is restarted, until %agentq resume, or until the time that is given here.
    Pausing again replaces that time.
    """

    name: ClassVar[str] = "pause"

    lasting: float | None = option("--for", "TIME", "how long, like 90s, 10m, 2h or 1d", convert=span)
    until: float | None = option(
        "--until", "TIME", "until when, like 18:30 or 2026-11-01T12:00 (local time)", convert=time_to_come
    )

    async def run(self, context: CommandContext) -> QueueStatus:
        if self.lasting is not None and self.until is not None:
            raise UsageError("Give --for or --until, not both.")
        from agentq_nb._client import handle_arguments

        until = self.until if self.lasting is None else handle_arguments.end_of_pause_for(self.lasting, time.time())
        with self.target(context) as actor:
            await actor.pause(self.queue, until)
            return await _queue_status(context, actor, self.queue)


@dataclass(frozen=True, kw_only=True)
class Resume(_QueueCommand):
    """Resume a paused queue; one that is not paused does not change."""

    name: ClassVar[str] = "resume"

    async def run(self, context: CommandContext) -> QueueStatus:
        with self.target(context) as actor:
            found = await _queue_status(context, actor, self.queue)
            await actor.resume(self.queue)
            return found._replace(paused=False, paused_until=None)


@dataclass(frozen=True, kw_only=True)
class Purge(_QueueCommand):
    """Cancel every waiting message of a queue; those that are being handled are left alone.

    Cancelled messages stay in the file: %agentq results lists them, %agentq retry puts one back.
    """

    name: ClassVar[str] = "purge"

    yes: bool = flag("--yes", "do it; without it you are only told how many messages wait")

    async def run(self, context: CommandContext) -> Document:
        with self.target(context) as actor:
            if not self.yes:
                found = await _queue_status(context, actor, self.queue)
                raise UsageError(
                    f"purge cancels what waits in queue '{self.queue}' of '{self.actor}': "
                    f"{_messages(found.ready + found.delayed + found.blocked)} just now. Add --yes to do that."
                )
            cancelled = await actor.purge(self.queue)
        return Document(notes=[f"Cancelled {_messages(cancelled)} of queue '{self.queue}' of '{self.actor}'."])


async def _queue_status(context: CommandContext, actor: ActorHandle, queue: str) -> QueueStatus:
    from agentq_nb._client import handle_arguments

    return handle_arguments.standing(await actor.status(), context.host().host.classes, actor.actor_id, queue)


def _messages(number: int) -> str:
    return "1 message" if number == 1 else f"{number:,} messages"


@dataclass(frozen=True, kw_only=True)
class Limits(Command):
    """Show the limits of queues: how much of each is in use, and when the next message may start.

    With a name, --count and --per change that limit at once, for every queue that shares it. The change lasts across
    restarts, until --reset, or until the limit is declared differently. --resume ends a pause because of a provider's
    limit. A limit without a name of its own goes by its queue: "worker/main tasks".

    --pauses lists what held queues up, by hand or because of a provider's limit, and for how long: all that the file
    has, or with a name those of that limit or queue.
    """

    name: ClassVar[str] = "limits"
    where: ClassVar[Where] = "both"
    needs_host: ClassVar[bool] = True

    limit: str | None = word("NAME", "which limit, like anthropic", optional=True)
    count: int | None = option("--count", "NUMBER", "how many starts, or messages at once", convert=whole)
    per: float | None = option("--per", "SECONDS", "in how many seconds", convert=seconds)
    reset: bool = flag("--reset", "go back to the limit as it is declared")
    resume: bool = flag("--resume", "end a pause because of a provider's limit")
    pauses: bool = flag("--pauses", "list pauses, with their reasons and how long they lasted")

    async def run(self, context: CommandContext) -> RegistryLimits | LimitStatus | Table:
        limits = context.host().limits
        changes = self.count is not None or self.per is not None
        if self.pauses:
            if changes or self.reset or self.resume:
                raise UsageError("--pauses only lists: give it alone, or with a name.")
            return replace(await limits.pauses_table(self.limit), empty="No queue has been paused.")
        if self.limit is None:
            if changes or self.reset or self.resume:
                raise UsageError("Name the limit: %agentq limits NAME --count 20. %agentq limits lists them.")
            return limits
        if changes and self.reset:
            raise UsageError("Give --reset, or --count and --per.")
        if self.reset:
            await limits.reset(self.limit)
        elif changes:
            await limits.change(self.limit, count=self.count, per=self.per)
        if self.resume:
            await limits.resume(self.limit)
        return await limits.find(self.limit)
