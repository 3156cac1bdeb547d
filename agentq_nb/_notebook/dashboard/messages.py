"""Read one page of the dashboard's table of messages from the log.

Settled messages are not in memory, so only this part of the dashboard queries the log: one page at a time, in a thread,
and the less often the longer it takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentq_nb._commands.queries import HEADLINE
from agentq_nb._core.message_status import ALL, LIVE, REDELIVERABLE, WAITING, MessageStatus, sql_list
from agentq_nb._display.document import safe
from agentq_nb._host.registry import Registry
from agentq_nb._notebook.dashboard import page_requests

PAGE = 20
_PREVIEW = 400

_WITHOUT_A_HANDLER: tuple[MessageStatus, ...] = ("cancelled", "expired")
FILTERS: Mapping[str, Sequence[MessageStatus]] = {
    "all": ALL,
    "waiting": WAITING,
    **{status: (status,) for status in ALL if status not in (*WAITING, *_WITHOUT_A_HANDLER)},
    "cancelled": _WITHOUT_A_HANDLER,
}
"""The statuses that each filter of the table shows."""


def _seconds(moment: str) -> str:
    return f"extract(epoch from {moment})::double precision"


_QUERY = f"""
select
    message_id, actor_id, queue, status, attempts, {_seconds("created_at")}, {_seconds("started_at")},
    {_seconds("finished_at")},
    left(body::varchar, {_PREVIEW}), left(reply::varchar, {_PREVIEW}), left({HEADLINE}, {_PREVIEW})
from messages {{where}} order by created_at desc, message_id desc limit {PAGE + 1} offset ?
"""


@dataclass(frozen=True)
class Page:
    """Which messages the table shows."""

    status: str = "all"
    search: str = ""
    offset: int = 0


def page_of(asked: Mapping[str, Any]) -> Page:
    """Return the page that a front end asks for. Raises ``ValidationFailed`` for an invalid request."""
    status = page_requests.text(asked, "status", "all")
    if status not in FILTERS:
        raise page_requests.unknown()
    search = page_requests.optional_text(asked, "search") or ""
    return Page(status, search[:200], page_requests.whole(asked, "offset"))


async def read(registry: Registry, page: Page) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the sections ``messages`` (rows by id) and ``table`` (their order, and which page this is)."""
    where, parameters = _where(page)
    found = await registry.sql(_QUERY.format(where=where), [*parameters, page.offset])
    rows = {row[0]: _row(*row[1:]) for row in found.rows[:PAGE]}
    table = {
        "order": list(rows),
        "more": len(found.rows) > PAGE,
        "status": page.status,
        "search": page.search,
        "offset": page.offset,
        "filters": list(FILTERS),
    }
    return {"messages": rows, "table": {"it": table}}


def _where(page: Page) -> tuple[str, list[str]]:
    """A condition, and the values of its parameters."""
    columns = "concat_ws(' ', message_id, actor_id, queue, status, body::varchar, reply::varchar, error::varchar)"
    words = [_searched(word) for word in page.search.split()]
    conditions = [f"status in {sql_list(FILTERS[page.status])}"] if page.status != "all" else []
    conditions += [f"position(? in lower({columns})) > 0" for _ in words]
    return f"where {' and '.join(conditions)}" if conditions else "", words


def _searched(word: str) -> str:
    """Return a word as JSON contains it: with its quotes, backslashes and control characters escaped."""
    return json.dumps(word.lower().encode("utf-8", "replace").decode(), ensure_ascii=False)[1:-1]


def _row(
    actor: str,
    queue: str,
    status: str,
    attempts: int,
    created: float,
    started: float | None,
    finished: float | None,
    body: str | None,
    reply: str | None,
    error: str | None,
) -> dict[str, Any]:
    return {
        "actor": safe(actor),
        "queue": safe(queue),
        "status": status,
        "live": status in LIVE,
        "redeliverable": status in REDELIVERABLE,
        "attempts": attempts,
        "created_at": created,
        "started_at": started,
        "finished_at": finished,
        "body": _line(body),
        "outcome": _line(error if error is not None else reply),
        "bad": error is not None,
    }


def _line(text: str | None) -> str:
    return "" if text is None else safe(" ".join(text.split()))
