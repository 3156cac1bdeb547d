"""What the dashboard's buttons do. Every one goes through the host's one door; errors are AgentqError, shown in one line."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from agentq_nb.client.handles import ActorHandle
from agentq_nb.errors import ValidationFailed
from agentq_nb.host import Host
from agentq_nb.mailboxes.protocol import Cancel, Redeliver

_LONGEST_PAUSE = 366 * 24 * 3600.0


async def perform(host: Host, asked: Mapping[str, Any]) -> str:
    """Do what a page asks for; what was done, in a few words.

    ``deed`` is ``pause`` (``seconds`` or for good), ``resume`` or ``purge`` with a queue's ``key``; ``cancel`` or
    ``retry`` with a ``message``; ``answer`` with ``actor``, ``session``, a permission's ``ask`` and ``allow``; ``stop`` with
    ``actor`` and ``session``, which cancels the prompt that runs.
    """
    deed = asked.get("deed")
    if deed in ("pause", "resume", "purge"):
        actor, _, queue = _text(asked, "key").rpartition(" ")
        return await _with_queue(host.client.handle_of(actor), deed, queue, asked.get("seconds"))
    if deed in ("cancel", "retry"):
        return await _with_message(host, deed, _text(asked, "message"))
    handle: ActorHandle = host.client.handle_of(_text(asked, "actor"))
    if deed == "answer":
        answer = "allow" if asked.get("allow") is True else "deny"
        await handle.respond_permission(_text(asked, "session"), _text(asked, "ask"), answer)
        return "Allowed." if answer == "allow" else "Refused."
    if deed == "stop":
        stopped = await handle.cancel_prompt(_text(asked, "session"))
        return "The prompt was cancelled." if stopped else "No prompt runs in this session."
    raise ValidationFailed("The page asked for something that this version does not know: reload it.")


async def _with_queue(handle: ActorHandle, deed: str, queue: str, seconds: Any) -> str:
    if deed == "pause":
        lasting = isinstance(seconds, (int, float)) and 0 < seconds <= _LONGEST_PAUSE
        await handle.pause(queue, time.time() + seconds if lasting else None)
        return f"Paused {queue}: what is being handled is finished."
    if deed == "resume":
        await handle.resume(queue)
        return f"{queue} goes on."
    number = await handle.purge(queue)
    return f"Cancelled {number:,} message{'' if number == 1 else 's'} of {queue}."


async def _with_message(host: Host, deed: str, message: str) -> str:
    standing = await host.enter(host.wait, message, 0)
    change = Cancel(message) if deed == "cancel" else Redeliver(message)
    done = await host.enter(host.change, standing.actor, change) > 0
    if deed == "cancel":
        return "Cancelled." if done else f"It was {standing.status} already."
    return "Back in its queue." if done else f"It is {standing.status}: there is nothing to retry."


def _text(asked: Mapping[str, Any], name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str) or not value:
        raise ValidationFailed("The page asked for something that this version does not know: reload it.")
    return value
