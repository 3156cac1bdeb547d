"""Sheets of what commands give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentq_nb.commands.conversing import SessionTranscript
from agentq_nb.commands.doctor import Diagnosis
from agentq_nb.commands.equipping import AgentsHere
from agentq_nb.commands.looking import MessageDetails
from agentq_nb.commands.sheets import LONGEST_CELL, Sheet, error_text, pretty, shown, tone
from agentq_nb.commands.showing.sheets_by_kind import shows


@shows(Diagnosis)
def _diagnosis(diagnosis: Diagnosis) -> Sheet:
    return Sheet(
        columns=("what", "state", "found", "what to do"),
        rows=[(check.what, tone(check.state), check.found, check.advice) for check in diagnosis.checks],
        widest=LONGEST_CELL,
    )


@shows(AgentsHere)
def _agents(here: AgentsHere) -> Sheet:
    return Sheet(
        columns=("agent", "state", "version", "program", "what to do"),
        rows=[
            (check.agent, tone("ok" if check else "missing"), check.version, check.path, " ".join(check.missing))
            for check in here.checks
        ],
        widest=LONGEST_CELL,
    )


@shows(MessageDetails)
def _message(message: MessageDetails) -> Sheet:
    texts = [("Body", pretty(message.body))]
    if message.status == "completed":
        texts.append(("Reply", pretty(message.reply)))
    if message.error:
        texts.append(("Error", error_text(message.error)))
    return Sheet(
        title=f"Message {message.message_id}",
        facts=[
            ("status", tone(message.status)),
            ("actor", message.actor_id),
            ("queue", message.queue),
            ("created", message.created_at),
            ("started", message.started_at),
            ("finished", message.finished_at),
            *([("idempotency key", message.idempotency_key)] if message.idempotency_key else []),
        ],
        columns=("attempt", "started", "ended", "outcome", "error"),
        rows=[
            (a.attempt, a.started_at, a.ended_at, tone(a.outcome), (a.error or {}).get("message", ""))
            for a in message.attempts
        ],
        empty="Not started yet.",
        texts=texts,
    )


@shows(SessionTranscript)
def _transcript(transcript: SessionTranscript) -> Sheet:
    left_out = f"{transcript.left_out:,} earlier events are left out: --last COUNT shows more."
    return Sheet(
        title=f"Session {transcript.session_id}",
        facts=[("agent", transcript.agent), ("actor", transcript.actor_id), ("status", tone(transcript.status))],
        texts=[
            (f"{event.type}, {shown(event.time.replace(tzinfo=None))} UTC", _said(event.text, event.data))
            for event in transcript.events
        ],
        notes=[left_out] if transcript.left_out else ([] if transcript.events else ["Nothing was said yet."]),
    )


def _said(text: str | None, data: Mapping[str, Any]) -> str:
    return "\n".join([*([text] if text else []), *([pretty(dict(data))] if data else [])])
