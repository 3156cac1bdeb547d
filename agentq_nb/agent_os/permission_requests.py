"""What the agent of a session has asked: put to the user, waited for, and its end written down, whatever that is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import anyio

from agentq_nb.actor import Actor
from agentq_nb.agent_os.permissions import Decision, Permits
from agentq_nb.agent_os.transcript import Transcript
from agentq_nb.agent_os.values import Permission, PermissionRequest
from agentq_nb.threads import in_thread


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
