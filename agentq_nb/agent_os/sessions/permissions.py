"""Permission requests of agents: decided by the ``permissions`` of the VM or by the user."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from logging import Logger, LoggerAdapter
from typing import Any, Literal, TypeAlias, get_args

import anyio

from agentq_nb._actor.actor import Actor
from agentq_nb._core.safe_text import safe
from agentq_nb._core.threads import in_long_thread, in_thread
from agentq_nb.agent_os.transcript import Transcript
from agentq_nb.agent_os.values import AnsweredBy, Permission, PermissionRequest

Policy: TypeAlias = Literal["allow", "deny", "ask"]
Permissions: TypeAlias = Policy | Callable[[PermissionRequest], Any]
"""``"allow"``, ``"deny"`` or ``"ask"`` for every request, or a function of a request that returns one of them.

The function is plain or ``async``; a plain one is called in a thread.
"""

PERMISSION_TIMEOUT = 300.0
"""Seconds that a request waits for the user before it is refused."""


@dataclass(frozen=True)
class Decision:
    """The outcome of a request."""

    answer: Permission
    by: AnsweredBy
    reason: str = ""


class Permits:
    """Applies the ``permissions`` setting. Raises ``TypeError`` for an invalid one.

    ``timeout``: seconds that a request waits for the user, and for a function; ``None``: as long as its prompt runs.
    """

    def __init__(self, permissions: Permissions, timeout: float | None = PERMISSION_TIMEOUT) -> None:
        if not callable(permissions) and permissions not in get_args(Policy):
            raise TypeError(
                f'permissions is "allow", "deny", "ask" or a function that returns one of them, not {permissions!r:.200}.'
            )
        if timeout is not None and not timeout > 0:
            raise TypeError("permission_timeout is in seconds, more than 0, or None for no limit.")
        self._permissions = permissions
        self.timeout = timeout

    @property
    def settled(self) -> bool:
        """Whether the setting alone answers all requests, so that none of them is shown."""
        return not callable(self._permissions) and self._permissions != "ask"

    @property
    def asks_user(self) -> bool:
        """Whether every request waits for the user."""
        return self._permissions == "ask"

    async def decide(self, request: PermissionRequest, log: Logger | LoggerAdapter[Any]) -> Decision | None:
        """Return the decision; None: ask the user.

        A function that fails in any way, returns anything but a policy, or takes too long, counts as a refusal.
        """
        if not callable(self._permissions):
            return _decision(self._permissions, "setting")
        said: Any = None
        error: BaseException | None = None
        with anyio.move_on_after(self.timeout) as limit:
            said, error = await _called(self._permissions, request)
        if limit.cancelled_caught:
            reason = f"the function given as permissions did not answer within {self.timeout:g} s"
            log.warning("%s was refused: %s.", safe(request.title), reason)
            return Decision("deny", "timeout", reason)
        if error is None and not (isinstance(said, str) and said in get_args(Policy)):
            error = TypeError(f'permissions must return "allow", "deny" or "ask", not {said!r:.200}')
        if error is not None:
            log.error("The function given as permissions failed: the request was denied.", exc_info=error)
            return Decision("deny", "function", "the function given as permissions failed")
        return _decision(said, "function")


_Outcome: TypeAlias = tuple[Any, BaseException | None]
_deciding: set[asyncio.Task[_Outcome]] = set()
"""Calls of the user's function that timed out and still run."""


async def _called(function: Callable[[PermissionRequest], Any], request: PermissionRequest) -> _Outcome:
    """Return what a function of the user's returned or raised.

    It runs in a task of its own, since it may cancel itself or never end.
    """
    task = asyncio.create_task(_outcome(function, request), name="agentq permissions")
    _deciding.add(task)
    task.add_done_callback(_deciding.discard)
    try:
        await asyncio.wait({task})
    finally:
        task.cancel()
    return (None, asyncio.CancelledError("it was cancelled")) if task.cancelled() else task.result()


async def _outcome(function: Callable[[PermissionRequest], Any], request: PermissionRequest) -> _Outcome:
    try:
        if any(inspect.iscoroutinefunction(called) for called in (function, type(function).__call__)):
            said = function(request)
        else:  # it may block, so not in the loop
            said, error = await in_long_thread(_outcome_in_thread, function, request)
            if error is not None:
                return None, error
        return await said if inspect.isawaitable(said) else said, None
    except BaseException as error:  # its sys.exit() must not end the kernel
        return None, error


def _outcome_in_thread(function: Callable[[PermissionRequest], Any], request: PermissionRequest) -> _Outcome:
    try:
        return function(request), None
    except BaseException as error:
        return None, error


def _decision(policy: str, by: AnsweredBy) -> Decision | None:
    return None if policy == "ask" else Decision("allow" if policy == "allow" else "deny", by)


@dataclass(eq=False)
class _Waiting:
    request: PermissionRequest
    """The request as it is shown, without secrets."""
    decision: Decision | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    recorded: anyio.Event = field(default_factory=anyio.Event)

    def decide(self, decision: Decision) -> bool:
        """Stop waiting. False if there was a decision already: the first one counts."""
        if self.decision is not None:
            return False
        self.decision = decision
        self.scope.cancel()
        return True


class PermissionRequests:
    """The requests of one session that have no answer yet."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self._waiting: dict[str, _Waiting] = {}

    def pending(self) -> list[PermissionRequest]:
        """Return those that wait for the user or for the function given as permissions, oldest first."""
        return [waiting.request for waiting in self._waiting.values() if not waiting.decision]

    async def ask(self, request: PermissionRequest, permits: Permits, vm: Actor) -> Permission:
        """Return the answer to one request. It is on disk on return, also when the task is cancelled while it waits."""
        shown = self._transcript.shown
        waiting = _Waiting(replace(request, title=shown(request.title), tool_call=shown(request.tool_call)))
        if not permits.settled:
            await in_thread(lambda: waiting.request.parts)  # slow for large files; the result is cached
        self._waiting[request.request_id] = waiting
        try:
            with waiting.scope:
                decision = await permits.decide(waiting.request, vm.log) or await self._ask_user(waiting, permits, vm)
                waiting.decision = waiting.decision or decision
        finally:
            waiting.decision = waiting.decision or Decision("deny", "cancelled", "the prompt was cancelled")
            try:
                with anyio.CancelScope(shield=True):
                    await record(self._transcript, request.request_id, waiting.request.title, waiting.decision)
            finally:
                del self._waiting[request.request_id]
                waiting.recorded.set()
        return waiting.decision.answer

    async def answer(self, request_id: str, answer: Permission) -> bool:
        """Answer for the user; the answer is on disk on return. False if no such request waits for one."""
        waiting = self._waiting.get(request_id)
        if waiting is None:
            return False
        answered = waiting.decide(Decision(answer, "user"))
        await waiting.recorded.wait()
        return answered

    async def withdraw(self, reason: str) -> None:
        """Refuse all that wait."""
        for waiting in list(self._waiting.values()):
            waiting.decide(Decision("deny", "cancelled", reason))
            await waiting.recorded.wait()

    async def give_up(self, reason: str) -> None:
        """Record as refused the requests of a host that has ended; nothing waits for their answers."""
        waiting, self._waiting = self._waiting, {}
        for request in (left.request for left in waiting.values()):
            await record(self._transcript, request.request_id, request.title, Decision("deny", "cancelled", reason))

    async def _ask_user(self, waiting: _Waiting, permits: Permits, vm: Actor) -> Decision:
        request = waiting.request
        data = {"request_id": request.request_id, "kind": request.kind, "tool_call": request.tool_call}
        await self._transcript.write("permission_request", request.title, data)
        await self._transcript.durable()
        vm.broadcast("permission_request", request)
        with anyio.move_on_after(permits.timeout):
            await vm.runtime.until_closing()
            return Decision("deny", "cancelled", "the VM was asked to end, and takes no answers any more")
        return Decision("deny", "timeout", f"nobody answered within {permits.timeout:g} s")


async def record(transcript: Transcript, request_id: str, title: str, decision: Decision) -> None:
    """Record the outcome of a request; durable on return."""
    because = f" ({decision.reason})" if decision.reason else ""
    data = {"request_id": request_id, "answer": decision.answer, "by": decision.by}
    await transcript.write("permission_answer", f"permission for {title}: {decision.answer}{because}", data)
    await transcript.durable()
