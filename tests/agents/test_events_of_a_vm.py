"""What a handle hears of a VM: sessions, permission requests and processes, in the order in which it happens."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import agent_os, agents, create_client, setup
from agentq_nb.agent_os.agents import AgentSession

EVENTS = ("session_event", "permission_request", "process_output", "process_exit")


async def builds(session: AgentSession, prompt: str):
    yield "May I? "
    if await session.ask("make", kind="execute"):
        await session.exec("echo one; sleep 0.5; echo two >&2; exit 3")
        yield "built"


@pytest.mark.anyio
async def test_all_events_of_a_vm_come_in_order(tmp_path: Path) -> None:
    heard: list[tuple[str, Any]] = []
    answering: list[asyncio.Task[None]] = []

    def answer(request: Any) -> None:
        # From the very callback that tells of the request, as a button of a widget might.
        answering.append(asyncio.create_task(vm.respond_permission(request.session_id, request.request_id, "allow")))

    use = {"vm": agent_os(agents=[agents.function(builds)], permissions="ask")}
    async with setup(use=use, store=tmp_path / "nb.agentq.duckdb"):
        vm = create_client().vm.get_or_create(["a"])
        for event in EVENTS:
            vm.on(event, lambda told, event=event: heard.append((event, told)))
        vm.on("permission_request", answer)
        session = await vm.create_session("builds")
        result = await vm.send_prompt(session.session_id, "build it")
        await asyncio.gather(*answering)
        assert result.text == "May I? built"

    assert [(event, _what(told)) for event, told in heard] == [
        ("session_event", "prompt"),
        ("session_event", "text"),
        ("session_event", "permission_request"),
        ("permission_request", "make"),
        ("session_event", "permission_answer"),
        ("process_output", ("stdout", "one\n")),
        ("process_output", ("stderr", "two\n")),
        ("process_exit", 3),
        ("session_event", "text"),
        ("session_event", "result"),
    ]
    indices = [told.index for event, told in heard if event == "session_event"]
    assert indices == list(range(1, len(indices) + 1))


def _what(told: Any) -> Any:
    """The part of a payload that says what happened."""
    if hasattr(told, "stream"):
        return told.stream, told.text
    return next(getattr(told, name) for name in ("type", "title", "exit_code") if hasattr(told, name))
