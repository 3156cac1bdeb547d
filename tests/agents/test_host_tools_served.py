"""The tools as a process of an agent's meets them: over HTTP on loopback, by the token of its session."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from agentq_nb import agent_os, agents
from agentq_nb._core.origin import current_origin, under
from agentq_nb.agent_os import SessionEvent
from agentq_nb.agent_os.agents import AgentSession
from agentq_nb.agent_os.tools import ToolAccess
from agentq_nb.agent_os.tools.render import LARGEST
from tests.unit.agent_os.machine import Machine

SECRET = "sk-not-for-anyone-else"
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "attacker", "version": "1"}}
INITIALIZE = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}
prices = {"tea": 3, "milk": 1}


def total(of: list[str], plus: int = 0) -> int:
    """What they cost together."""
    return sum(prices[name] for name in of) + plus


class Opened:
    """A VM with tools, one session, and the access that its agent would be given."""

    def __init__(self, vm: Machine, session_id: str, accesses: dict[str, ToolAccess]) -> None:
        self.vm = vm
        self.session_id = session_id
        self.accesses = accesses

    @property
    def access(self) -> ToolAccess:
        return self.accesses[self.session_id]

    async def another(self) -> ToolAccess:
        """The access of a second session."""
        session = await self.vm.create_session("keeper")
        await self.vm.send_prompt(session.session_id, "open")
        return self.accesses[session.session_id]

    async def host_events(self) -> list[SessionEvent]:
        """What the transcript tells about calls of host tools."""
        return [event for event in await self.vm.session_events(self.session_id) if event.data.get("host_tool")]


class Kept:
    """Access as the companion of a session, as a coding agent keeps it."""

    alive = True

    def __init__(self, access: ToolAccess) -> None:
        self.aclose = access.aclose


@asynccontextmanager
async def opened(tools: list[Callable[..., Any]], folder: Path, **env: str) -> AsyncIterator[Opened]:
    accesses: dict[str, ToolAccess] = {}

    async def keeper(session: AgentSession, prompt: str) -> str:
        access = await session.open_tools()
        assert access is not None
        accesses[session.session_id] = access
        session.process_slot.value = Kept(access)
        return "kept"

    # The clients here are on this machine, not in the VM.
    async with Machine(agent_os(agents=[agents.function(keeper)], tools=tools, network="open"), folder) as vm:
        session = await vm.create_session("keeper", env=env)
        await vm.send_prompt(session.session_id, "open")
        yield Opened(vm, session.session_id, accesses)


@asynccontextmanager
async def connected(access: ToolAccess, mode: str = "auto") -> AsyncIterator[Client]:
    """An MCP client that has been let in."""
    headers = {"Authorization": f"Bearer {access.token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(access.url, http_client=http), mode=mode) as client,
    ):
        yield client


async def text_of(client: Client, name: str, **arguments: Any) -> tuple[str, bool]:
    """The answer to a call, and whether it is an error."""
    result = await client.call_tool(name, arguments)
    return result.content[0].text, result.is_error


async def knock(access: ToolAccess, body: Any = INITIALIZE, path: str | None = None, **headers: str) -> httpx2.Response:
    """A request as anyone on this machine may make it."""
    accepted = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = access.url if path is None else f"http://{urlsplit(access.url).netloc}{path}"
    async with httpx2.AsyncClient(timeout=60) as http:
        return await http.post(url, content=json.dumps(body), headers=accepted | named)


def test_a_call_has_the_least_trusted_origin_of_the_sessions_prompts(tmp_path: Path) -> None:
    def origin() -> str:
        return current_origin.get()

    async def program() -> None:
        async with opened([origin], tmp_path) as world:
            async with connected(world.access) as client:
                assert await text_of(client, "origin") == ("process", False)
                with under("webhook:github"):
                    await world.vm.send_prompt(world.session_id, "untrusted")
                await world.vm.send_prompt(world.session_id, "trusted, but the agent remembers the one before")
                assert await text_of(client, "origin") == ("webhook:github", False)
            events = await world.vm.session_events(world.session_id)
            prompts = [each.data for each in events if each.type == "prompt"]
            assert prompts == [{}, {"origin": "webhook:github"}, {}]
            await world.vm.restart()
            await world.vm.send_prompt(world.session_id, "after a restart")
            async with connected(world.access) as another:
                assert await text_of(another, "origin") == ("webhook:github", False)

    asyncio.run(program())


def listens(access: ToolAccess) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", urlsplit(access.url).port)) == 0


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_a_client_sees_the_tools_and_calls_them(mode: str, tmp_path: Path) -> None:
    async def program() -> None:
        async with opened([total], tmp_path) as world, connected(world.access, mode) as client:
            tool = (await client.list_tools()).tools[0]
            assert (tool.name, tool.description) == ("total", "What they cost together.")
            assert tool.input_schema["required"] == ["of"]
            assert await text_of(client, "total", of=["tea", "milk"], plus=38) == ("42", False)
            call, result = await world.host_events()
            assert (call.type, call.text) == ("tool_call", "total")
            assert call.data["input"] == {"of": ["tea", "milk"], "plus": 38}
            assert (result.type, result.text) == ("tool_result", "42")
            assert result.data["status"] == "completed"
            assert result.data["id"] == call.data["id"]
            assert 0 <= result.data["duration"] < 60

    asyncio.run(program())


def test_what_goes_wrong_is_told_to_the_agent(tmp_path: Path) -> None:
    async def fails() -> None:
        raise KeyError("no such column")

    def leaves() -> None:
        sys.exit("I am off")

    async def cancels() -> None:
        raise asyncio.CancelledError

    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise ValueError

    def cannot_say() -> None:
        raise Unspeakable

    class Unshowable:
        def __repr__(self) -> str:
            raise RuntimeError("I have no face")

    def cannot_show() -> Unshowable:
        return Unshowable()

    def half_a_character() -> str:
        return "\ud83d"

    async def program() -> None:
        tools = [total, fails, leaves, cancels, cannot_say, cannot_show, half_a_character]
        async with opened(tools, tmp_path) as world, connected(world.access) as client:
            assert await text_of(client, "fails") == ("KeyError: 'no such column'", True)
            assert await text_of(client, "leaves") == ("SystemExit: I am off", True)
            assert await text_of(client, "cancels") == ("cancels was cancelled by what it called.", True)
            text, failed = await text_of(client, "cannot_say")
            assert text.startswith("Unspeakable: ")
            assert failed
            assert await text_of(client, "cannot_show") == ("RuntimeError: I have no face", True)
            assert await text_of(client, "half_a_character") == ("?", False)
            text, failed = await text_of(client, "total", plus="many")
            assert "- of: Field required\n- plus: Input should be a valid integer" in text
            assert failed
            assert await text_of(client, "sum") == (
                "There is no tool 'sum'. There are: total, fails, leaves, cancels, cannot_say, cannot_show, "
                "half_a_character.",
                True,
            )
            # And all is well afterwards.
            assert await text_of(client, "total", of=[]) == ("0", False)
            failure = (await world.host_events())[1]
            assert failure.data["status"] == "failed"
            # Whoever wrote the tool finds the place; the agent was spared it.
            assert 'raise KeyError("no such column")' in failure.data["traceback"]
            assert "agentq_nb" not in failure.data["traceback"].replace(__file__, "")

    asyncio.run(program())


def test_nobody_comes_in_without_the_token_of_a_session_that_is_open(tmp_path: Path) -> None:
    async def program() -> None:
        async with opened([total], tmp_path) as world:
            access = world.access
            for attempt in (
                {},
                {"Authorization": ""},
                {"Authorization": "Bearer"},
                {"Authorization": f"Bearer {access.token[:-1]}"},
                {"Authorization": f"Bearer {access.token}x"},
                {"Authorization": f"Basic {access.token}"},
                {"Authorization": access.token},
                {"Cookie": f"Authorization=Bearer {access.token}"},
            ):
                refused = await knock(access, **attempt)
                assert refused.status_code == 401, attempt
                assert refused.headers["WWW-Authenticate"] == "Bearer"
                assert access.token not in refused.text
            assert (await knock(access, path=f"/mcp?token={access.token}")).status_code == 401
            assert (await knock(access, path="/", Authorization=f"Bearer {access.token}")).status_code == 404
            assert (await knock(access, Authorization=f"Bearer {access.token}")).status_code == 200

    asyncio.run(program())


def test_a_page_in_a_browser_cannot_come_in_under_another_name(tmp_path: Path) -> None:
    async def program() -> None:
        async with opened([total], tmp_path) as world:
            key = {"Authorization": f"Bearer {world.access.token}"}
            port = urlsplit(world.access.url).port
            for host in (
                "evil.example",
                f"evil.example:{port}",
                f"localhost:{port}",
                "127.0.0.1",
                f"127.0.0.1:{port}0",
            ):
                assert (await knock(world.access, Host=host, **key)).status_code == 421, host
            for origin in ("http://evil.example", f"http://evil.example:{port}", f"http://localhost:{port}", "null"):
                assert (await knock(world.access, Origin=origin, **key)).status_code == 403, origin
            # The same for the protocol that knows no sessions.
            newest = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/list"} | key
            assert (await knock(world.access, Host="evil.example", **newest)).status_code == 421
            assert (await knock(world.access, Origin="http://evil.example", **newest)).status_code == 403
            assert (await knock(world.access, Content_Type="text/plain", **key)).status_code == 400

    asyncio.run(program())


def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    async def program() -> None:
        async with opened([total], tmp_path) as world:
            port = f"{urlsplit(world.access.url).port:04X}"
            listening = [
                line.split()[1]
                for file in ("/proc/net/tcp", "/proc/net/tcp6")
                for line in Path(file).read_text().splitlines()[1:]
                if line.split()[1].endswith(f":{port}") and line.split()[3] == "0A"
            ]
            assert listening == [f"0100007F:{port}"]

    asyncio.run(program())


def test_a_request_that_is_too_large_is_refused_and_nothing_breaks(tmp_path: Path) -> None:
    async def program() -> None:
        async with opened([total], tmp_path) as world:
            key = {"Authorization": f"Bearer {world.access.token}"}
            large = {**INITIALIZE, "padding": "x" * 2_000_000}
            assert (await knock(world.access, large, **key)).status_code == 413
            for rubbish in (None, [], "text", {"jsonrpc": "2.0"}, {**INITIALIZE, "params": 3}):
                assert 400 <= (await knock(world.access, rubbish, **key)).status_code < 500
            assert (await knock(world.access, **key)).status_code == 200

    asyncio.run(program())


def test_each_session_has_its_own_token_and_transcript(tmp_path: Path) -> None:
    async def program() -> None:
        async with opened([total], tmp_path) as world:
            second = await world.another()
            assert second.url == world.access.url
            assert second.token != world.access.token
            async with connected(second) as client:
                assert await text_of(client, "total", of=["tea"]) == ("3", False)
            assert await world.host_events() == []
            # What one session's client has begun is not there for another's.
            first = await knock(world.access, Authorization=f"Bearer {world.access.token}")
            begun = {"Mcp_Session_Id": first.headers["mcp-session-id"], "MCP_Protocol_Version": "2025-11-25"}
            listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
            stolen = await knock(world.access, listing, Authorization=f"Bearer {second.token}", **begun)
            assert stolen.status_code == 404
            own = await knock(world.access, listing, Authorization=f"Bearer {world.access.token}", **begun)
            assert own.status_code == 200

    asyncio.run(program())


def test_closing_a_session_ends_its_token_its_calls_and_at_last_the_server(tmp_path: Path) -> None:
    async def program() -> None:
        ended: list[str] = []
        started = asyncio.Event()

        async def endless() -> None:
            started.set()
            try:
                await asyncio.sleep(600)
            finally:
                ended.append("endless")

        async with opened([endless, total], tmp_path) as world:
            second = await world.another()
            async with connected(second) as client:
                calling = asyncio.create_task(client.call_tool("endless", {}))
                await asyncio.wait_for(started.wait(), 30)
                await world.vm.close_session(next(name for name, access in world.accesses.items() if access is second))
                assert ended == ["endless"]
                assert (await knock(second, Authorization=f"Bearer {second.token}")).status_code == 401
                # The one that is still open does not notice.
                async with connected(world.access) as other:
                    assert await text_of(other, "total", of=[]) == ("0", False)
                calling.cancel()
                await asyncio.wait({calling})
            assert listens(world.access)
            await world.vm.close_session(world.session_id)
            assert not listens(world.access)
            # A new session gets a new server.
            third = await world.another()
            async with connected(third) as client:
                assert await text_of(client, "total", of=["milk"]) == ("1", False)
        assert not listens(third)
        assert {task for task in asyncio.all_tasks() if "host tools" in task.get_name()} == set()

    asyncio.run(program())


def test_a_vm_that_sleeps_listens_no_more_and_serves_again_after_the_next_prompt(tmp_path: Path) -> None:
    async def program() -> None:
        async with opened([total], tmp_path) as world:
            before = world.access
            await world.vm.sleep()
            assert not listens(before)
            await world.vm.send_prompt(world.session_id, "open")
            assert world.access is not before
            async with connected(world.access) as client:
                assert await text_of(client, "total", of=["tea"]) == ("3", False)

    asyncio.run(program())


def test_fifty_calls_at_once_run_side_by_side_and_are_all_told(tmp_path: Path) -> None:
    async def program() -> None:
        together = asyncio.Barrier(50)

        async def meet(number: int) -> int:
            await together.wait()  # passed only when all fifty are here
            return number * number

        async with opened([meet], tmp_path) as world, connected(world.access) as client:
            answers = await asyncio.gather(*(text_of(client, "meet", number=number) for number in range(50)))
            assert answers == [(str(number * number), False) for number in range(50)]
            events = await world.host_events()
            assert [event.type for event in events] == ["tool_call"] * 50 + ["tool_result"] * 50
            asked = {event.data["id"]: event.data["input"]["number"] for event in events[:50]}
            told = {event.data["id"]: int(event.text or "") for event in events[50:]}
            assert told == {identity: number * number for identity, number in asked.items()}

    asyncio.run(program())


def test_a_huge_result_is_cut_for_the_agent_and_in_the_transcript(tmp_path: Path) -> None:
    def everything() -> list[int]:
        return list(range(1_000_000))

    async def program() -> None:
        async with opened([everything], tmp_path) as world, connected(world.access) as client:
            text, failed = await text_of(client, "everything")
            assert not failed
            assert text.startswith("[0,1,2,")
            assert text.endswith("[cut: these are the first 32,768 of 6,888,891 characters]")
            assert len(text) < LARGEST + 100
            assert (await world.host_events())[-1].text == text

    asyncio.run(program())


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_a_client_that_gives_up_a_call_cancels_the_tool(mode: str, tmp_path: Path) -> None:
    async def program() -> None:
        started, ended = asyncio.Event(), asyncio.Event()

        async def endless() -> None:
            started.set()
            try:
                await asyncio.sleep(600)
            finally:
                ended.set()

        async with opened([endless], tmp_path) as world, connected(world.access, mode) as client:
            calling = asyncio.create_task(client.call_tool("endless", {}))
            await asyncio.wait_for(started.wait(), 30)
            told = world.vm.heard("tool_result", "")
            calling.cancel()
            await asyncio.wait_for(told.wait(), 30)
            assert ended.is_set()
            assert (await world.host_events())[-1].data["status"] == "cancelled"

    asyncio.run(program())


def test_secrets_reach_neither_the_agent_nor_the_disk(tmp_path: Path) -> None:
    def leaks() -> dict[str, str]:
        return {"key": SECRET}

    def fails(with_secret: str) -> None:
        raise ValueError(f"bad key {SECRET}")

    async def program() -> str:
        async with opened([leaks, fails], tmp_path, API_KEY=SECRET) as world, connected(world.access) as client:
            assert await text_of(client, "leaks") == ('{"key":"[redacted API_KEY]"}', False)
            assert await text_of(client, "fails", with_secret=SECRET) == (
                "ValueError: bad key [redacted API_KEY]",
                True,
            )
            text, _ = await text_of(client, "fails", other=SECRET)
            assert SECRET not in text
            assert SECRET not in repr(await world.host_events())
            assert world.access.token not in repr(world.access)
            return world.access.token

    token = asyncio.run(program())
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
            assert token.encode() not in path.read_bytes(), path


def test_what_a_bad_client_does_shows_up_in_nobodys_cell(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def program() -> None:
        async with opened([total], tmp_path) as world:
            port = urlsplit(world.access.url).port
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"this is no HTTP\r\n\r\n")
            assert await asyncio.wait_for(reader.read(), 30)
            writer.close()
            await knock(world.access, Host="evil.example", Authorization=f"Bearer {world.access.token}")
            await knock(world.access, "rubbish", Authorization=f"Bearer {world.access.token}")
            async with connected(world.access, "legacy") as client:
                await text_of(client, "total", of=["coffee"])

    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []  # as in a kernel where nobody has set up logging
    try:
        asyncio.run(program())
        gc.collect()
    finally:
        root.handlers = handlers
    assert capfd.readouterr() == ("", "")


def test_signals_stay_the_kernels(tmp_path: Path) -> None:
    async def program() -> None:
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        async with opened([total], tmp_path) as world, connected(world.access) as client:
            await text_of(client, "total", of=[])
            assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

    asyncio.run(program())
