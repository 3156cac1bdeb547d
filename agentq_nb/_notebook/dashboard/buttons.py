"""Handlers of the dashboard's buttons. Each runs on the host's loop; errors are AgentqError, shown on one line.

A page may name only what it is shown: no request of a page creates an actor, and only that for a VM's diff wakes one.
"""

from __future__ import annotations

from typing import Any, Literal

from agentq_nb._brokers.changes import Cancel, Redeliver
from agentq_nb._client import handle_arguments
from agentq_nb._client.handle import ActorHandle
from agentq_nb._core.ids import ActorId
from agentq_nb._host.host import Host
from agentq_nb._host.thread_safe_batches import ThreadSafeBatches
from agentq_nb._notebook.dashboard import page_requests
from agentq_nb._notebook.dashboard.page_requests import Asked
from agentq_nb._notebook.dashboard.snapshot import LONGEST_REQUEST, length_of
from agentq_nb.agent_os import SessionInfo
from agentq_nb.agent_os.sessions.sessions import remembered
from agentq_nb.errors import ActorNotFound, PermissionRequestUnknown, SessionUnknown, ValidationFailed


async def perform(host: Host, asked: Asked) -> str:
    """Perform the action that a page asks for, and return what was done, in a few words.

    ``action`` is ``pause`` (for ``seconds`` or until it is resumed), ``resume`` or ``purge`` with a queue's ``key``; ``end pause`` with
    a ``limit``; ``retry failed``, ``resume batch`` or ``cancel batch`` with a ``batch``; ``cancel`` or ``retry`` with a ``message``;
    ``answer`` with ``actor``, ``session``, a permission's ``ask`` and ``allow``; ``stop`` with
    ``actor`` and ``session``, which cancels the prompt that runs. Raises ``AgentqError``.
    """
    match page_requests.text(asked, "action"):
        case "pause" | "resume" | "purge" as action:
            actor, queue = page_requests.queue(asked)
            await host.enter(_require, host, actor)
            return await _with_queue(host, host.client.handle_of(actor), action, queue, asked.get("seconds"))
        case "cancel" | "retry" as action:
            return await _with_message(host, action, page_requests.text(asked, "message"))
        case "end pause":
            return await _end_pause(host, page_requests.text(asked, "limit"))
        case "retry failed" | "resume batch" | "cancel batch" as action:
            return await _with_batch(host, action, page_requests.text(asked, "batch"))
        case "answer":
            return await _answer(host, asked, page_requests.truth(asked, "allow"))
        case "stop":
            return await _stop(host, asked)
        case _:
            raise page_requests.unknown()


async def _require(host: Host, actor: ActorId) -> None:
    """Raise ``ActorNotFound`` unless the actor exists, or one of its queues has messages or is paused."""
    if not await host.exists(actor) and not (await host.status_of(actor)).queues:
        raise ActorNotFound(actor)


async def _with_queue(
    host: Host, handle: ActorHandle, action: Literal["pause", "resume", "purge"], queue: str, seconds: Any
) -> str:
    if action == "pause":
        await handle.pause(queue, handle_arguments.end_of_pause_for(seconds, host.clock.time()))
        return f"Paused {queue}: what is being handled is finished."
    if action == "resume":
        await handle.resume(queue)
        return f"{queue} is resumed."
    number = await handle.purge(queue)
    return f"Cancelled {number:,} message{'' if number == 1 else 's'} of {queue}."


async def _with_message(host: Host, action: Literal["cancel", "retry"], message: str) -> str:
    standing = await host.enter(host.wait, message, 0)
    change = Cancel(message) if action == "cancel" else Redeliver(message)
    done = await host.enter(host.change, standing.actor, change) > 0
    if action == "cancel":
        return "Cancelled." if done else f"It was {standing.status} already."
    return "Back in its queue." if done else f"It is {standing.status}: there is nothing to retry."


async def _end_pause(host: Host, limit: str) -> str:
    ended = await host.enter(host.broker.limits.resume, limit)
    return f"The pause of {limit} has ended." if ended else f"{limit} is not paused any more."


async def _with_batch(host: Host, action: Literal["retry failed", "resume batch", "cancel batch"], name: str) -> str:
    batches = ThreadSafeBatches(host)
    stored = await batches.find(name)
    if action == "resume batch":
        return f"{name} is resumed." if await batches.resume(name) else f"{name} was not stopped."
    if action == "retry failed":
        number = await batches.retry_failed(name, stored.rows)
        return f"Put {_rows(number)} of {name} back into the queue."
    number = await batches.cancel(name, stored.rows)
    return f"Cancelled {_rows(number)} of {name}."


def _rows(number: int) -> str:
    return f"{number:,} row{'' if number == 1 else 's'}"


async def _answer(host: Host, asked: Asked, allow: bool) -> str:
    actor, session, ask = (
        page_requests.actor(asked),
        page_requests.text(asked, "session"),
        page_requests.text(asked, "ask"),
    )
    await host.enter(_open_session, host, actor, session)
    if allow:
        await host.enter(_check_shown, host, ask)
    if host.activations.find(actor) is None:
        raise PermissionRequestUnknown(f"Nothing that session {session} asked waits for an answer: its VM sleeps.")
    await host.client.handle_of(actor).respond_permission(session, ask, "allow" if allow else "deny")
    return "Allowed." if allow else "Refused."


async def _check_shown(host: Host, ask: str) -> None:
    """Raise ``ValidationFailed`` if the request is too long for a page to show what would be allowed."""
    for _, sessions in remembered(host.workspaces):
        for request in sessions.permission_requests():
            if request.request_id == ask and length_of(request) > LONGEST_REQUEST:
                raise ValidationFailed(
                    f"What agent '{request.agent}' asks is too long to be shown here, so it cannot be allowed here. Read "
                    f"it in a cell: await vm.list_permission_requests(), and answer with await "
                    f"vm.respond_permission({request.session_id!r}, {ask!r}, 'allow')"
                )


async def _stop(host: Host, asked: Asked) -> str:
    actor, session = page_requests.actor(asked), page_requests.text(asked, "session")
    found = await host.enter(_open_session, host, actor, session)
    stopped = found.status == "running" and await host.client.handle_of(actor).cancel_prompt(session)
    return "The prompt was cancelled." if stopped else "No prompt runs in this session."


async def _open_session(host: Host, actor: ActorId, session: str) -> SessionInfo:
    """Return an open session of this process. Raises ``SessionUnknown``."""
    for of, sessions in remembered(host.workspaces):
        if of == actor:
            for info in sessions.now_open():
                if info.session_id == session:
                    return info
    raise SessionUnknown(
        f"No session {session!r:.100} is open in '{actor:.100}'. The known ones: %agentq sessions",
        metadata={"session_id": session},
    )
