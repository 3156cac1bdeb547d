"""Commands that show messages: settled ones, dead letters, and one in detail."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from agentq_nb._actor.message import headline
from agentq_nb._client.branch_columns import branches_of, with_columns
from agentq_nb._commands.command_context import Command, CommandContext, Where, address
from agentq_nb._commands.parser import count, option, word
from agentq_nb._core.safe_text import pretty
from agentq_nb._display.document import Document, error_text, shows, tone
from agentq_nb._display.repositories import counted
from agentq_nb.errors import MessageUnknown

if TYPE_CHECKING:
    from agentq_nb._core.result_table import Table
    from agentq_nb._host.registry import Registry

HEADLINE = """
    case when error is not null then
        concat_ws(': ', nullif(nullif(error->>'type', 'str'), error->>'message'), error->>'message')
    end
"""
"""The SQL form of :func:`agentq_nb._actor.message.headline` for a stored error. DuckDB and PostgreSQL both understand it."""

_ONLY = "($actor::varchar is null or actor_id = $actor) and ($queue::varchar is null or queue = $queue)"

_MOST = 1000
_MOST_AFTER = 10


@dataclass(frozen=True, kw_only=True)
class _Listing(Command):
    """The base of commands that list settled messages."""

    where: ClassVar[Where] = "both"
    only_waits: ClassVar[bool] = True

    actor: str | None = word(
        "ACTOR/KEY", "only those of this actor, like reviewer/main", convert=address, optional=True, completes="actor"
    )
    queue: str | None = word("QUEUE", "only those of this queue", optional=True, completes="queue")
    last: int = option("--last", "COUNT", f"how many (default {_MOST})", default=_MOST, convert=count)

    @property
    def _parameters(self) -> dict[str, Any]:
        return {"actor": self.actor, "queue": self.queue, "last": self.last}


@dataclass(frozen=True, kw_only=True)
class Results(_Listing):
    """Show settled messages with their replies, the latest first. In a notebook, .frame() makes a DataFrame of them.

    Where replies name the branch with the work, as those of map over a repository do, it and the size of its diff are shown.
    """

    name: ClassVar[str] = "results"

    async def run(self, context: CommandContext) -> Table:
        found = await context.host().sql(
            f"select message_id, actor_id, queue, status, attempts, finished_at, reply, {HEADLINE} as error, tokens, cost"
            f" from results where {_ONLY} order by finished_at desc limit $last",
            self._parameters,
        )
        where = _of(self.actor, self.queue)
        found = _with_branches(_without_empty(found, ("tokens", "cost")))
        return replace(found, empty=f"No message{where} is done yet. Messages are listed here when they are settled.")


@dataclass(frozen=True, kw_only=True)
class Dead(_Listing):
    """Show the dead letters: messages that failed and are not tried again. %agentq retry MESSAGE puts one back, %agentq retry --all
    every one.
    """

    name: ClassVar[str] = "dead"

    async def run(self, context: CommandContext) -> Table:
        found = await context.host().sql(
            f"select message_id, actor_id, queue, attempts, finished_at, {HEADLINE} as error, body"
            f" from messages where status = 'failed' and {_ONLY} order by finished_at desc limit $last",
            self._parameters,
        )
        where = _of(self.actor, self.queue)
        return replace(
            found, empty=f"No dead letters{where}. Messages that failed and are not tried again are listed here."
        )


@dataclass(frozen=True)
class Attempt:
    """One attempt at a message. Times are UTC; ``error`` is a JSON object."""

    attempt: int
    started_at: datetime
    ended_at: datetime | None
    outcome: str
    error: dict[str, Any] | None


@dataclass(frozen=True)
class MessageDetails:
    """A message as the log records it. Times are UTC; ``body`` and ``reply`` are JSON values.

    :ivar after: the messages that it was sent after, in the order given, each with its status.
    """

    message_id: str
    actor_id: str
    queue: str
    status: str
    attempts: Sequence[Attempt]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    idempotency_key: str | None
    body: Any
    reply: Any
    error: dict[str, Any] | None
    after: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class Show(Command):
    """Show all about one message: body, reply, attempts, and the traceback where it failed."""

    name: ClassVar[str] = "show"
    where: ClassVar[Where] = "both"
    only_waits: ClassVar[bool] = True

    message: str = word("MESSAGE", "the message's id")

    async def run(self, context: CommandContext) -> MessageDetails:
        return await details_of(context.host(), self.message)


async def details_of(registry: Registry, message: str) -> MessageDetails:
    """Return a message as the log records it. Raises MessageUnknown."""
    found = await registry.sql(
        "select message_id, actor_id, queue, status, created_at, started_at, finished_at, idempotency_key,"
        " after, body::varchar, reply::varchar, error::varchar from messages where message_id = ?",
        [message],
    )
    if not found.rows:
        raise MessageUnknown(message)
    attempts = await registry.sql(
        "select attempt, started_at, ended_at, outcome, error::varchar from attempts where message_id = ?"
        " order by started_at",
        [message],
    )
    *known, body, reply, error = found.rows[0]
    message_id, actor_id, queue, status, created_at, started_at, finished_at, idempotency_key, after = known
    return MessageDetails(
        message_id=message_id,
        actor_id=actor_id,
        queue=queue,
        status=status,
        attempts=[
            Attempt(attempt, began, ended, outcome, _value(failure))
            for attempt, began, ended, outcome, failure in attempts.rows
        ],
        created_at=created_at,
        started_at=started_at,
        finished_at=finished_at,
        idempotency_key=idempotency_key,
        after=await _statuses(registry, after or ()),
        body=_value(body),
        reply=_value(reply),
        error=_value(error),
    )


async def _statuses(registry: Registry, messages: Sequence[str]) -> Mapping[str, str]:
    """Return the status of each of these messages, in their order."""
    if not messages:
        return {}
    query = "select message_id, status from messages where message_id = any(?::varchar[])"
    found: dict[str, str] = dict((await registry.sql(query, [list(messages)])).rows)  # type: ignore[arg-type]  # rows of two
    return {message: found.get(message, "pruned") for message in messages}


def _of(actor: str | None, queue: str | None) -> str:
    """Return the selection of messages as part of a sentence."""
    of_actor = "" if actor is None else f" of {actor}"
    return of_actor if queue is None else f"{of_actor}, queue '{queue}'"


def _with_branches(table: Table) -> Table:
    """Return the table with the branches that replies name and the sizes of their diffs, before the replies, if there are any."""
    branches = branches_of(table)
    if not any(branches):
        return table
    cells = [
        branch and (branch.branch, counted(branch.files, branch.insertions, branch.deletions)) for branch in branches
    ]
    return with_columns(table, table.columns.index("reply"), {"branch": "VARCHAR", "diff": "VARCHAR"}, cells)


def _without_empty(table: Table, columns: Sequence[str]) -> Table:
    """Return the table without those of these columns, at its end, in which no row has a value."""
    kept = [
        place
        for place, name in enumerate(table.columns)
        if name not in columns or any(row[place] is not None for row in table.rows)
    ]
    return replace(
        table,
        columns=[table.columns[place] for place in kept],
        rows=[tuple(row[place] for place in kept) for row in table.rows],
        types=[table.types[place] for place in kept] if table.types else (),
    )


def _value(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _in_short(after: Mapping[str, str]) -> str:
    """Return the first messages that do not let it be due, or else the first ones."""
    found = sorted(after.items(), key=lambda one: one[1] == "completed")
    more = f" and {len(found) - _MOST_AFTER:,} more" if len(found) > _MOST_AFTER else ""
    return ", ".join(f"{message} ({status})" for message, status in found[:_MOST_AFTER]) + more


@shows(MessageDetails)
def _message(message: MessageDetails) -> Document:
    texts = [("Body", pretty(message.body))]
    if message.status == "completed":
        texts.append(("Reply", pretty(message.reply)))
    if message.error:
        texts.append(("Error", error_text(message.error)))
    return Document(
        title=f"Message {message.message_id}",
        facts=[
            ("status", tone(message.status)),
            ("actor", message.actor_id),
            ("queue", message.queue),
            ("created", message.created_at),
            ("started", message.started_at),
            ("finished", message.finished_at),
            *([("idempotency key", message.idempotency_key)] if message.idempotency_key else []),
            *([("sent after", _in_short(message.after))] if message.after else []),
        ],
        columns=("attempt", "started", "ended", "outcome", "error"),
        rows=[
            (
                attempt.attempt,
                attempt.started_at,
                attempt.ended_at,
                tone(attempt.outcome),
                headline(attempt.error) if attempt.error else "",
            )
            for attempt in message.attempts
        ],
        empty="Not started yet.",
        texts=texts,
    )
