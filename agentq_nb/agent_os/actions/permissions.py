"""A VM's actions to list and answer the permission requests of its agents."""

from __future__ import annotations

from agentq_nb._actor.actor import action
from agentq_nb._core.origin import PROCESS
from agentq_nb.agent_os.sandbox.isolation import in_force
from agentq_nb.agent_os.sessions.session import Session
from agentq_nb.agent_os.values import Permission, PermissionRequest
from agentq_nb.agent_os.vm_base import VmBase
from agentq_nb.errors import PermissionAnswered, PermissionRequestUnknown, Refused


class PermissionActions(VmBase, action_timeout=None):
    """Actions on the requests that ``permissions`` leaves to the user."""

    @action(while_ending=True)
    async def list_permission_requests(self) -> list[PermissionRequest]:
        """Return the requests that wait for an answer, oldest first within each session."""
        return self._sessions.permission_requests()

    @action(while_ending=True)
    async def respond_permission(self, session_id: str, request_id: str, answer: Permission) -> None:
        """Answer a request with ``"allow"`` or ``"deny"``. The answer is on disk on return, and the agent continues.

            for request in await vm.list_permission_requests():
                await vm.respond_permission(request.session_id, request.request_id, "allow")

        Raises ``PermissionAnswered`` when the request already has an answer or has timed out,
        ``PermissionRequestUnknown`` or ``SessionUnknown`` when it does not exist, and ``Refused`` for an answer that comes
        from outside this process where the VM has no isolation: its own agent could have sent it.
        """
        if self.runtime.origin != PROCESS and (await in_force(self._isolation_mode)).kind == "none":
            raise Refused(
                403,
                "answer_from_outside",
                "This VM has no isolation, so that an agent in it could answer its own requests from outside the kernel: "
                "only the notebook answers them, in %agentq dashboard or with await vm.respond_permission(...).",
            )
        if await self._sessions.answer(session_id, request_id, answer):
            return
        named = {"session_id": session_id, "request_id": request_id}
        for event in await self._sessions.events(session_id):
            if event.type == "permission_answer" and event.data["request_id"] == request_id:
                raise PermissionAnswered(
                    f"Permission request {request_id} of session {session_id} was answered before, and the agent has "
                    f"gone on: {event.text}.",
                    metadata=named,
                )
        raise PermissionRequestUnknown(
            f"Session {session_id} has no permission request {request_id!r:.100}. list_permission_requests() shows "
            f"those that wait for an answer.",
            metadata=named,
        )

    async def _permit(self, session: Session, request: PermissionRequest) -> Permission:
        if session.cancel is None:
            self.log.warning("Session %s asked for a permission outside its prompts: no.", session.info.session_id)
            return "deny"
        return await session.requests.ask(request, self._permits, self)
