"""Commands that pause, resume and purge queues."""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where, address, handle
from agentq_nb._commands.parser import UsageError, flag, option, span, word
from agentq_nb._display.document import Document
from agentq_nb.errors import ActorUnknown

if TYPE_CHECKING:
    from agentq_nb._brokers.values import QueueStatus
    from agentq_nb._client.handle import ActorHandle

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
            if context.in_kernel:
                raise
            raise UsageError(
                f"Queue '{self.queue}' of '{self.actor}' holds no messages in this file and is not paused. "
                f"agentq results {self.actor} shows what was settled."
            ) from None


@dataclass(frozen=True, kw_only=True)
class Pause(_QueueCommand):
    """Hand out no more messages of a queue; what is being handled is finished, and sending goes on.

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
        from agentq_nb._client import queue_lookup

        until = self.until if self.lasting is None else queue_lookup.end_of_pause_for(self.lasting, time.time())
        with self.target(context) as actor:
            await actor.pause(self.queue, until)
            return await _queue_status(context, actor, self.queue)


@dataclass(frozen=True, kw_only=True)
class Resume(_QueueCommand):
    """Go on with a paused queue; one that is not paused stays as it is."""

    name: ClassVar[str] = "resume"

    async def run(self, context: CommandContext) -> QueueStatus:
        with self.target(context) as actor:
            found = await _queue_status(context, actor, self.queue)
            await actor.resume(self.queue)
            return found._replace(paused=False, paused_until=None)


@dataclass(frozen=True, kw_only=True)
class Purge(_QueueCommand):
    """Cancel every message of a queue that nobody handles just now.

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
                    f"{_messages(found.ready + found.delayed)} just now. Add --yes to do that."
                )
            cancelled = await actor.purge(self.queue)
        return Document(notes=[f"Cancelled {_messages(cancelled)} of queue '{self.queue}' of '{self.actor}'."])


async def _queue_status(context: CommandContext, actor: ActorHandle, queue: str) -> QueueStatus:
    from agentq_nb._client import queue_lookup

    return queue_lookup.standing(await actor.status(), context.host().host.classes, actor.actor_id, queue)


def _messages(number: int) -> str:
    return "1 message" if number == 1 else f"{number:,} messages"
