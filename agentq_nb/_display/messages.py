"""Documents of messages, receipts, results, handles and errors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from agentq_nb._actor.message import Message
from agentq_nb._actor.queue import Queue
from agentq_nb._client.client import Client
from agentq_nb._client.handle import ActorHandle, ActorKind
from agentq_nb._client.receipt import Receipt, Result
from agentq_nb._core.safe_text import pretty
from agentq_nb._display.document import Document, error_text, moment_text, shows, tone
from agentq_nb.errors import AgentqError


@shows(Receipt)
def _receipt(receipt: Receipt) -> Document:
    return Document(
        title=f"Message {receipt.id}",
        notes=[f"It is on disk. Its result: await receipt.result(). All about it: %agentq show {receipt.id}"],
    )


@shows(Result)
def _result(result: Result[Any]) -> Document:
    texts: list[tuple[str, str]] = []
    if result.status == "completed":
        texts.append(("Response", _value(result.response)))
    if result.error:
        texts.append(("Error", error_text(result.error)))
    facts = [("status", tone(result.status)), ("message", result.message_id), ("attempts", result.attempts)]
    return Document(facts=facts, texts=texts, notes=[result.reason] if result.reason else [])


@shows(Message)
def _message(message: Message[Any, Any]) -> Document:
    return Document(
        title=f"Message {message.id}",
        facts=[
            ("queue", message.queue),
            ("attempt", message.attempt),
            ("created", f"{moment_text(message.created_at)} UTC"),
        ],
        texts=[("Body", _value(message.body))],
    )


@shows(ActorHandle)
def _handle(handle: ActorHandle) -> Document:
    return Document(title=f"Actor {handle.actor_id}", notes=["Its queues and its state: await handle.status()"])


@shows(Client)
def _client(client: Client) -> Document:
    return Document(title=repr(client).strip("<>"))


@shows(ActorKind)
def _kind(kind: ActorKind) -> Document:
    return Document(title=repr(kind).strip("<>"))


@shows(Queue)
def _queue(queue: Queue[Any, Any]) -> Document:
    return Document(title=repr(queue).strip("<>"))


@shows(AgentqError)
def _error(error: AgentqError) -> Document:
    return Document(facts=[("error", error.full_code)], notes=[error.message])


def _value(value: object) -> str:
    return value.model_dump_json(indent=2) if isinstance(value, BaseModel) else pretty(value)
