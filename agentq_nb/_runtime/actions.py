"""Run actions: each in its own task, with a time limit; its changes are durable before the caller gets the result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentq_nb._brokers.messages import Answer
from agentq_nb._core.ids import ActorId
from agentq_nb._core.interrupts import marked
from agentq_nb._core.origin import PROCESS, Origin
from agentq_nb._runtime.activation import Activation
from agentq_nb._runtime.call_task import CallTask, in_thread
from agentq_nb._runtime.invocation import Call, Receiver
from agentq_nb.errors import Aborted, ActionNotFound, ActionTimedOut, AgentqError, InternalError


async def act(
    activation: Activation,
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    caller: Call | None = None,
    behind: frozenset[Receiver] = frozenset(),
    origin: Origin = PROCESS,
) -> Any:
    """Call an action and return its result, once what it changed is durable.

    Cancelling a caller inside an actor also cancels the action; interrupting a notebook's cell does not. Raises
    ``actor.action_not_found``, ``actor.validation_error``, ``actor.action_timed_out``, ``actor.aborted``, and the error
    of the action (as ``actor.internal_error`` unless it is an AgentqError).
    """
    call, call_task = begin(activation, name, args, kwargs, caller, behind, origin)
    settled = asyncio.ensure_future(settle(activation, call, call_task))
    try:
        return await asyncio.shield(settled)
    except asyncio.CancelledError:
        if caller is not None:
            call_task.stop()
        settled.add_done_callback(_retrieve)
        raise


def begin(
    activation: Activation,
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    caller: Call | None = None,
    behind: frozenset[Receiver] = frozenset(),
    origin: Origin = PROCESS,
) -> tuple[Call, CallTask]:
    """Start an action; the caller settles it. Raises ``actor.action_not_found`` and ``actor.validation_error``."""
    action = activation.actions.get(name)
    if action is None:
        raise ActionNotFound(activation.name, name, list(activation.actions))
    bound = action.bind(activation.instance, args, kwargs)
    call = Call(activation.actor_id, "action", name, caller, behind, origin)
    call_task = activation.perform(call, (lambda: in_thread(bound)) if action.thread else bound)
    _limit(activation, call_task)
    return call, call_task


def _limit(activation: Activation, call_task: CallTask) -> None:
    """Stop the action after the class's ``action_timeout``."""
    limit = activation.cls.declared.action_timeout
    if limit is not None:
        timed_out = ActionTimedOut(activation.actor_id, call_task.call.name, limit)
        timer = activation.clock.call_later(limit, lambda: call_task.stop(timed_out))
        call_task.finished.add_done_callback(lambda _: timer.cancel())


async def settle(
    activation: Activation,
    call: Call,
    call_task: CallTask,
    answer: Callable[[Any, BaseException | None], Answer] | None = None,
) -> Any:
    """Return the result of an action that was started, once what it changed is durable. Raises what ``act`` raises.

    :param answer: makes of the result or the error what another host has asked for; it is written in the same commit.
    """
    try:
        commit, error = activation.conclude(call, await call_task.finished)
        raised = None if error is None else _raised(activation, call, error)
        if answer is not None:
            commit = commit._replace(answer=answer(call_task.result, raised))
        await activation.write(commit)
    finally:
        await call.end()
    if raised is not None:
        raise raised
    return call_task.result


def _raised(activation: Activation, call: Call, error: BaseException) -> BaseException:
    """Return the error that the caller of an action gets."""
    if isinstance(error, asyncio.CancelledError):
        why = activation.closing or "no longer waited for"
        return Aborted(activation.actor_id, why, action=call.name)
    return presentable(error, f"action `{call.name}`", activation.actor_id)


def presentable(error: BaseException, what: str, actor_id: ActorId) -> BaseException:
    """Return an AgentqError unchanged, and any other error as the cause of an InternalError."""
    if isinstance(error, AgentqError):
        return error
    said = f": {error}" if str(error) else ""
    presented = InternalError(
        f"The {what} of actor '{actor_id}' raised {type(error).__name__}{said}",
        metadata={"type": type(error).__name__, "actor": actor_id, **marked(error)},
    )
    presented.__cause__ = error
    return presented


def _retrieve(settled: asyncio.Future[Any]) -> None:
    """Mark the error as seen: the caller is gone, and asyncio would log an exception that was never retrieved."""
    if not settled.cancelled():
        settled.exception()
