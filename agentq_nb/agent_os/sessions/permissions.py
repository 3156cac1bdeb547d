"""What the user lets agents do that ask first."""

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
"""One word for whatever an agent asks, or a function, plain or ``async``, that gives one for each request. A plain one is
called in a thread."""

PERMISSION_TIMEOUT = 300.0
"""Seconds that a request waits for the user before it is refused."""


@dataclass(frozen=True)
class Decision:
    """How a request ended."""

    answer: Permission
    by: AnsweredBy
    reason: str = ""


class Permits:
    """Decides as the user said. Raises ``TypeError`` for what says nothing.

    ``timeout``: seconds that a request waits for the user, and for a function; ``None``: for as long as its prompt runs.
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
        """Whether one word answers all requests, so that nobody looks at them."""
        return not callable(self._permissions) and self._permissions != "ask"

    async def decide(self, request: PermissionRequest, log: Logger | LoggerAdapter[Any]) -> Decision | None:
        """None: ask the user. A function that fails however it may, returns anything else than a word for it, or takes
        too long, is a no."""
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
            log.error("The function given as permissions failed: the agent was told no.", exc_info=error)
            return Decision("deny", "function", "the function given as permissions failed")
        return _decision(said, "function")


_Outcome: TypeAlias = tuple[Any, BaseException | None]
_deciding: set[asyncio.Task[_Outcome]] = set()
"""The calls that nobody waits for any longer are here until they end."""


async def _called(function: Callable[[PermissionRequest], Any], request: PermissionRequest) -> _Outcome:
    """What a function of the user's returned or raised. In a task of its own: it may cancel itself, or not want to end."""
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
        else:  # it may block, and the loop has other things to do
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
    """As it is shown: without secrets."""
    decision: Decision | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    recorded: anyio.Event = field(default_factory=anyio.Event)

    def decide(self, decision: Decision) -> bool:
        """End the waiting. False if that was done already: the first decision stands."""
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
        """Those that wait for the user or for the function given as permissions, oldest first."""
        return [waiting.request for waiting in self._waiting.values() if not waiting.decision]

    async def ask(self, request: PermissionRequest, permits: Permits, vm: Actor) -> Permission:
        """The answer to one request. Its end is on disk on return, also when the task is cancelled while it waits."""
        shown = self._transcript.shown
        waiting = _Waiting(replace(request, title=shown(request.title), tool_call=shown(request.tool_call)))
        if not permits.settled:
            await in_thread(lambda: waiting.request.parts)  # of large files they take their time; they are kept
        self._waiting[request.request_id] = waiting
        try:
            with waiting.scope:
                decision = await permits.decide(waiting.request, vm.log) or await self._put_to_user(
                    waiting, permits, vm
                )
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
        """Let the user answer; it is on disk on return. False if no such request waits for an answer."""
        waiting = self._waiting.get(request_id)
        if waiting is None:
            return False
        answered = waiting.decide(Decision(answer, "user"))
        await waiting.recorded.wait()
        return answered

    async def withdraw(self, reason: str) -> None:
        """End all that wait as refused."""
        for waiting in list(self._waiting.values()):
            waiting.decide(Decision("deny", "cancelled", reason))
            await waiting.recorded.wait()

    async def give_up(self, reason: str) -> None:
        """Write down that those of a host that has ended were refused; nobody is left who waits."""
        waiting, self._waiting = self._waiting, {}
        for request in (left.request for left in waiting.values()):
            await record(self._transcript, request.request_id, request.title, Decision("deny", "cancelled", reason))

    async def _put_to_user(self, waiting: _Waiting, permits: Permits, vm: Actor) -> Decision:
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
    """Write down how a request ended; durable on return."""
    because = f" ({decision.reason})" if decision.reason else ""
    data = {"request_id": request_id, "answer": decision.answer, "by": decision.by}
    await transcript.write("permission_answer", f"permission for {title}: {decision.answer}{because}", data)
    await transcript.durable()
