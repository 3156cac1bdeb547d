"""Render the last state of a live view as HTML and as text that need no kernel: no script, everything escaped.

Saved, reopened, converted and untrusted notebooks show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from agentq_nb._display.document import Cell, Document, as_text, duration, tone
from agentq_nb._display.html import as_html
from agentq_nb._notebook.dashboard.patch import Row, Sections

_MOST_ROWS = 50
_MOST_SESSIONS, _MOST_MESSAGES = 8, 10  # few, so that the static view stays short


def as_page(documents: Sequence[Document], kind: str) -> str:
    """Return the documents as one HTML element."""
    return f'<div data-agentq-picture="{kind}">{"".join(map(as_html, documents))}</div>'


def as_plain(documents: Sequence[Document]) -> str:
    """Return the documents as text."""
    return "\n\n".join(map(as_text, documents))


def of_dashboard(sections: Sections, at: float) -> list[Document]:
    """Return documents of the host, its troubles, permission requests, queues, sessions and latest messages."""
    host = sections.get("host", {}).get("it")
    if host is None:
        return [Document(title="agentq dashboard", notes=["It has shown nothing yet."])]
    documents = [_head(host, sections, at)]
    if queues := _rows(sections, "queues"):
        documents.append(_queues(queues, at))
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
    said = [(block["type"].replace("_", " "), block["text"] or block["data"]) for block in _rows(sections, "blocks")]
    facts = [("agent", row["agent"]), ("status", tone(row["status"])), ("VM", row["actor"])]
    return [
        Document(title=f"Session {row['id']}", facts=facts, columns=("", "said"), rows=said, empty="Nothing was said.")
    ]


def _head(host: Row, sections: Sections, at: float) -> Document:
    facts: list[tuple[str, Any]] = [("file", host["store"]), ("as of", f"{_clock(at)} UTC")]
    if host["trouble"]:
        facts.append(("trouble", Cell(host["trouble"], "bad")))
    for actor in _rows(sections, "actors"):
        facts.append((actor["actor"], Cell(actor["error"] or actor["state"], "bad" if actor["error"] else "busy")))
    for request in _rows(sections, "requests"):
        facts.append(("asked, not answered", Cell(request["title"], "busy")))
    return Document(title="agentq dashboard", facts=facts)


def _queues(queues: Sequence[Row], at: float) -> Document:
    return Document(
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
        *(["paused"] if row["paused"] else []),
        *([f"{row['expired']:,} expired"] if row.get("expired") else []),
    ]
    return Cell(f"{row['queue']} ({', '.join(remarks)})", "busy") if remarks else row["queue"]


def _progress(row: Row) -> str:
    done = row["completed"] + row["dead"]
    return f"{done:,} of {done + row['ready'] + row['delayed'] + row['running']:,}"


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
    return list(sections.get(name, {}).values())[:_MOST_ROWS]


def _clock_of_day(moment: float, at: float) -> str:
    """Return the time, and the day only if it is not that of the static view: the table is wide enough."""
    day, _, time = _clock(moment).partition(" ")
    return time if _clock(at).startswith(day) else f"{day} {time}"


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"
