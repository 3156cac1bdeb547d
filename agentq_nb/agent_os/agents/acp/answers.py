"""Answer the requests that an agent makes of us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from acp.schema import PermissionOption, RequestPermissionResponse, ToolCallUpdate


class Answers:
    """Handles the agent's requests. It has files and a shell of its own, so none are offered."""

    def __init__(
        self, permission: Callable[[list[PermissionOption], ToolCallUpdate], Awaitable[RequestPermissionResponse]]
    ) -> None:
        self._permission = permission

    async def request_permission(
        self, session_id: str, tool_call: ToolCallUpdate, options: list[PermissionOption], **kwargs: Any
    ) -> RequestPermissionResponse:
        return await self._permission(options, tool_call)


def option_for(options: list[PermissionOption], answer: str) -> PermissionOption | None:
    """Return the option with this answer, preferably the one that applies once."""
    word = "allow" if answer == "allow" else "reject"
    by_kind = {option.kind: option for option in reversed(options)}
    return by_kind.get(f"{word}_once") or by_kind.get(f"{word}_always")  # pyright: ignore[reportArgumentType]  # the kinds are a closed set of such words
