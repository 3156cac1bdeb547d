"""Functions given as ``permissions`` that fail, wait or block: each request is refused, recorded, and answered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from agentq_nb.agent_os import PermissionRequest
from agentq_nb.errors import PermissionAnswered
from tests.agents.test_permissions import ended_by, machine, permissions

SOON = 30  # seconds, for what would otherwise never end


def fails_with(error: BaseException, in_thread: bool) -> Callable[[PermissionRequest], Any]:
    def plain(request: PermissionRequest) -> NoReturn:
        raise error

    async def asynchronous(request: PermissionRequest) -> NoReturn:
        raise error

    return plain if in_thread else asynchronous


class Odd:
    """A value that cannot be compared."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.anyio
@pytest.mark.parametrize("in_thread", [True, False], ids=["plain", "async"])
@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), StopIteration(), GeneratorExit(), LookupError("x")],
    ids=repr,
)
async def test_a_function_that_fails_is_a_no_whatever_it_raises(
    error: BaseException, in_thread: bool, tmp_path: Path
) -> None:
    async with machine(tmp_path, permissions=fails_with(error, in_thread)) as vm:
        session_id = (await vm.create_session("asks")).session_id
        for _ in range(2):
            answer = await asyncio.wait_for(vm.send_prompt(session_id, "rm"), SOON)
            assert answer.text == "left alone"
        assert await ended_by(vm, session_id) == [("deny", "function")] * 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    "value", [None, True, "yes", b"allow", Odd(), ["allow"]], ids=["None", "True", "yes", "bytes", "odd", "list"]
)
async def test_anything_else_than_a_word_for_it_is_a_no(value: object, tmp_path: Path) -> None:
    async with machine(tmp_path, permissions=lambda request: value) as vm:
        session_id = (await vm.create_session("asks")).session_id
        assert (await asyncio.wait_for(vm.send_prompt(session_id, "rm"), SOON)).text == "left alone"
        assert await ended_by(vm, session_id) == [("deny", "function")]


@pytest.mark.anyio
@pytest.mark.parametrize("in_thread", [True, False], ids=["plain", "async"])
async def test_a_function_that_does_not_end_is_a_no_in_time_and_the_loop_goes_on(
    in_thread: bool, tmp_path: Path
) -> None:
    end = threading.Event()

    def blocks(request: PermissionRequest) -> str:
        end.wait(SOON)
        return "allow"

    async def stays(request: PermissionRequest) -> str:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if end.is_set():
                    raise

    function = blocks if in_thread else stays
    async with machine(tmp_path, permissions=function, permission_timeout=0.1) as vm:
        session_id = (await vm.create_session("asks")).session_id
        assert (await asyncio.wait_for(vm.send_prompt(session_id, "rm"), SOON)).text == "left alone"
        (answer,) = await permissions(vm, session_id)
        assert answer.data["by"] == "timeout"
        assert answer.text == (
            "permission for rm: deny (the function given as permissions did not answer within 0.1 s)"
        )
        end.set()


@pytest.mark.anyio
@pytest.mark.parametrize("in_thread", [True, False], ids=["plain", "async"])
async def test_a_request_that_waits_for_a_function_is_listed_and_a_user_may_answer_it(
    in_thread: bool, tmp_path: Path
) -> None:
    asked, end = threading.Event(), threading.Event()

    def blocks(request: PermissionRequest) -> str:
        asked.set()
        end.wait(SOON)
        return "deny"

    async def waits(request: PermissionRequest) -> str:
        asked.set()
        await asyncio.Event().wait()
        return "deny"

    async with machine(tmp_path, permissions=blocks if in_thread else waits) as vm:
        session_id = (await vm.create_session("asks")).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "rm"))
        assert await asyncio.to_thread(asked.wait, SOON)
        (request,) = await vm.list_permission_requests()
        assert request.title == "rm"
        await vm.respond_permission(session_id, request.request_id, "allow")
        assert (await asyncio.wait_for(prompting, SOON)).text == "done"
        assert await ended_by(vm, session_id) == [("allow", "user")]
        with pytest.raises(PermissionAnswered):
            await vm.respond_permission(session_id, request.request_id, "deny")
        end.set()


@pytest.mark.anyio
async def test_cancelling_a_prompt_does_not_wait_for_the_function(tmp_path: Path) -> None:
    asked, end = threading.Event(), threading.Event()

    def blocks(request: PermissionRequest) -> str:
        asked.set()
        end.wait(SOON)
        return "allow"

    async with machine(tmp_path, permissions=blocks) as vm:
        session_id = (await vm.create_session("asks")).session_id
        prompting = asyncio.create_task(vm.send_prompt(session_id, "rm"))
        assert await asyncio.to_thread(asked.wait, SOON)
        await vm.cancel_prompt(session_id)
        assert (await asyncio.wait_for(prompting, SOON)).stop_reason == "cancelled"
        assert await ended_by(vm, session_id) == [("deny", "cancelled")]
        end.set()
