"""Render the last state of a live view as HTML and as text that need no kernel: no script, everything escaped.

Saved, reopened, converted and untrusted notebooks show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from agentq_nb._client.progress import three_digits
from agentq_nb._display.document import Cell, Document, as_text, duration, tone
from agentq_nb._display.html import as_html
from agentq_nb._notebook.dashboard.patch import Row, Sections
from agentq_nb._policies.budget import dollars

_MOST_ROWS = 50
_MOST_BATCHES, _MOST_LIMITS, _MOST_SESSIONS, _MOST_MESSAGES = 8, 8, 8, 10  # few, so that the static view stays short
_MOST_QUEUES, _MOST_PAUSES = 20, 5


def as_page(documents: Sequence[Document], kind: str) -> str:
    """Return the documents as one HTML element."""
    return f'<div data-agentq-picture="{kind}">{"".join(map(as_html, documents))}</div>'


def as_plain(documents: Sequence[Document]) -> str:
    """Return the documents as text."""
    return "\n\n".join(map(as_text, documents))


def of_dashboard(sections: Sections, at: float) -> list[Document]:
    """Return documents of the host and its troubles, batches, queues, limits, sessions and latest messages."""
    host = sections.get("host", {}).get("it")
    if host is None:
        return [Document(title="agentq dashboard", notes=["It has shown nothing yet."])]
    documents = [_head(host, sections, at)]
    if batches := _rows(sections, "batches"):
        documents.append(_batches(batches))
    if queues := _rows(sections, "queues")[:_MOST_QUEUES]:
        documents.append(_queues(queues, at, len(sections["queues"]) - len(queues) + host.get("left_out", 0)))
    if limits := _rows(sections, "limits"):
        documents.append(_limits(limits))
    if sessions := _rows(sections, "sessions"):
        documents.append(_sessions(sessions))
    if messages := _rows(sections, "messages"):
        documents.append(_messages(messages, at))
    return documents


def of_message(sections: Sections, at: float) -> list[Document]:
    """Return the document of one message, for its receipt."""
    row = sections.get("message", {}).get("it")
    if row is None:
        return []
    facts = [("status", tone(row["status"])), ("queue", f"{row['queue']} of {row['actor']}"), ("message", row["id"])]
    texts = [(name, row[key]) for name, key in (("Reply", "reply"), ("Error", "error")) if row[key]]
    return [Document(facts=facts, texts=texts, notes=[f"All about it: %agentq show {row['id']}"])]


def of_session(sections: Sections, at: float) -> list[Document]:
    """Return the document of one session with the end of its transcript."""
    row = sections.get("session", {}).get("it")
    if row is None:
        return []
    said = [
        (block["type"].replace("_", " "), block["text"] or block["data"])
        for block in _rows(sections, "blocks")[-_MOST_ROWS:]
    ]
    facts = [("agent", row["agent"]), ("status", tone(row["status"])), ("VM", row["actor"])]
    return [
        Document(title=f"Session {row['id']}", facts=facts, columns=("", "said"), rows=said, empty="Nothing was said.")
    ]


def _head(host: Row, sections: Sections, at: float) -> Document:
    facts: list[tuple[str, Any]] = [("file", host["store"]), ("as of", f"{_clock(at)} UTC")]
    if host.get("cost") is not None:
        facts.append(("cost of language models", dollars(host["cost"])))
    if host["trouble"]:
        facts.append(("trouble", Cell(host["trouble"], "bad")))
    for actor in _rows(sections, "actors")[:_MOST_ROWS]:
        facts.append((actor["actor"], Cell(actor["error"] or actor["state"], "bad" if actor["error"] else "busy")))
    pauses = _rows(sections, "pauses")
    for pause in pauses[:_MOST_PAUSES]:
        stopped = pause["stopped"]
        facts.append(
            (
                f"{'stopped' if stopped else 'paused'}: {pause['name']}",
                Cell(_pause(pause, at), "bad" if stopped else "busy"),
            )
        )
    if len(pauses) > _MOST_PAUSES:
        facts.append(("paused", f"{len(pauses) - _MOST_PAUSES} more: %agentq limits"))
    for request in _rows(sections, "requests")[:_MOST_ROWS]:
        facts.append(("asked, not answered", Cell(request["title"], "busy")))
    return Document(title="agentq dashboard", facts=facts)


def _pause(pause: Row, at: float) -> str:
    until = "" if pause["until"] is None else f"until {_clock_of_day(pause['until'], at)} UTC: "
    return f"{until}{pause['reason']}"


def _batches(batches: Sequence[Row]) -> Document:
    """Return the document of the batches, those with work left first."""
    return Document(
        title="Batches",
        notes=["There are more: %agentq batches"] if len(batches) > _MOST_BATCHES else [],
        columns=("batch", "done", "failed", "waiting", "running", "per min", "failures"),
        rows=[
            (
                Cell(f"{row['name']} (stopped)", "busy") if row["stopped"] else row["name"],
                f"{row['done']:,} of {row['total']:,}"
                + (f", {row['cancelled']:,} cancelled" if row["cancelled"] else ""),
                Cell(f"{row['failed']:,}", "bad") if row["failed"] else "",
                row["waiting"],
                row["running"],
                three_digits(row["per_minute"]) if row["per_minute"] else "",
                "; ".join(f"{_rows_of(group['count'])}: {group['what']}" for group in row["failures"]),
            )
            for row in batches[:_MOST_BATCHES]
        ],
    )


def _rows_of(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _limits(limits: Sequence[Row]) -> Document:
    """Return the document of the limits, those that hold messages first."""
    return Document(
        title="Limits",
        columns=("limit", "in use", "next start (UTC)", "queues waiting"),
        rows=[
            (
                Cell(f"{row['name']} (paused)", "busy") if row["paused_until"] else row["name"],
                _use(row),
                "" if row["next_start"] is None else _clock(row["next_start"]).rpartition(" ")[2],
                row["waiting"] or "",
            )
            for row in limits[:_MOST_LIMITS]
        ],
        notes=["There are more: %agentq limits"] if len(limits) > _MOST_LIMITS else [],
    )


def _use(row: Row) -> str:
    """Return the use of a limit: ``3 of 20 (declared 50) per 60 s``."""
    declared = f" (declared {row['declared_count']:,})" if row["count"] != row["declared_count"] else ""
    if row["per"] is None:
        return f"{row['used']:,} of {row['count']:,}{declared} at work"
    period = f" (declared {row['declared_per']:g} s)" if row["per"] != row["declared_per"] else ""
    return f"{row['used']:,} of {row['count']:,}{declared} per {row['per']:g} s{period}"


def _queues(queues: Sequence[Row], at: float, left_out: int) -> Document:
    return Document(
        notes=[f"There are {left_out:,} more: %agentq status"] if left_out else [],
        title="Queues",
        columns=("actor", "queue", "done", "failed", "waiting", "running", "oldest"),
        rows=[
            (
                row["actor"],
                _queue_name(row),
                _progress(row),
                Cell(str(row["dead"]), "bad") if row["dead"] else "",
                row["ready"] + row["delayed"],
                row["running"],
                duration(None if row["oldest_at"] is None else max(0.0, at - row["oldest_at"])),
            )
            for row in queues
        ],
    )


def _queue_name(row: Row) -> str | Cell:
    remarks = [
        *(
            ["stopped" if row.get("stopped") else "paused"]
            if row["paused"]
            else [f"waits for {row['limit']}"]
            if row.get("limit")
            else []
        ),
        *([f"{row['expired']:,} expired"] if row.get("expired") else []),
        *([f"on {row['host']}"] if row.get("host") else []),
    ]
    return Cell(f"{row['queue']} ({', '.join(remarks)})", "busy") if remarks else row["queue"]


def _progress(row: Row) -> str:
    done = row["completed"] + row["dead"]
    return f"{done:,} of {done + row['ready'] + row['delayed'] + row['blocked'] + row['running']:,}"


def _sessions(sessions: Sequence[Row]) -> Document:
    """Return the document of the sessions, open ones first."""
    shown = sorted(sessions, key=lambda row: row["status"] == "closed")[:_MOST_SESSIONS]
    return Document(
        title="Sessions",
        columns=("agent", "VM", "status", "said last"),
        rows=[(row["agent"], row["actor"], tone(row["status"]), row["said"]) for row in shown],
        notes=["There are more: %agentq sessions"] if len(sessions) > len(shown) else [],
    )


def _messages(messages: Sequence[Row], at: float) -> Document:
    return Document(
        title="Messages",
        notes=["There are more: %agentq results"] if len(messages) > _MOST_MESSAGES else [],
        columns=("sent (UTC)", "queue", "status", "body", "reply or error"),
        rows=[
            (
                _clock_of_day(row["created_at"], at),
                f"{row['actor']} {row['queue']}",
                tone(row["status"]),
                row["body"],
                Cell(row["outcome"], "bad") if row["bad"] else row["outcome"],
            )
            for row in messages[:_MOST_MESSAGES]
        ],
    )


def _rows(sections: Sections, name: str) -> list[Row]:
    return list(sections.get(name, {}).values())


def _clock_of_day(moment: float, at: float) -> str:
    """Return the time, and the day only if it is not that of the static view: the table is wide enough."""
    day, _, time = _clock(moment).partition(" ")
    return time if _clock(at).startswith(day) else f"{day} {time}"


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"
