"""Connections without a token to the server of the tools: few stay open, for a short time, and nobody else suffers."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import sys
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agentq_nb import agent_os
from agentq_nb.agent_os.tools import ToolAccess, connections
from tests.agents.test_host_tools_served import connected, knock, opened, text_of, total
from tests.unit.agent_os.machine import Machine

SPARE = 400
"""Descriptors that the process may still open: enough for what it does itself."""

FLOOD = """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
held = []
for _ in range(2000):
    held.append(socket.socket())
    held[-1].setblocking(False)
    held[-1].connect_ex(("127.0.0.1", int(sys.argv[1])))
print("flooded", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def few_descriptors() -> Generator[None]:
    """As in a kernel whose limit is low, and nobody has set up logging."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors() + SPARE, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        root.handlers = handlers


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def port_of(access: ToolAccess) -> int:
    port = urlsplit(access.url).port
    assert port is not None
    return port


@asynccontextmanager
async def flooded(access: ToolAccess) -> AsyncIterator[None]:
    """2,000 connections that say nothing, from another process."""
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", FLOOD, str(port_of(access)), **pipes)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"flooded\n"
    try:
        yield
    finally:
        await process.communicate(b"")


@contextmanager
def no_descriptors() -> Generator[None]:
    """None left to open."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_two_thousand_silent_connections_take_few_descriptors_and_hold_up_nobody(
    tmp_path: Path, few_descriptors: None, capfd: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()

    async def program() -> None:
        async with opened([total], folders[0]) as world, Machine(agent_os(), folders[1]) as other:
            before = descriptors()
            async with flooded(world.access):
                for _ in range(10):
                    assert not await world.vm.exists("nothing")  # a VM that nobody asks for anything goes to sleep
                    async with connected(world.access) as client:
                        assert await text_of(client, "total", of=["tea"]) == ("3", False)
                    assert (await knock(world.access)).status_code == 401
                    assert (await other.exec("echo well")).stdout == "well\n"
                    assert descriptors() - before < connections.MOST + 50

    asyncio.run(program())
    gc.collect()
    assert capfd.readouterr() == ("", "")


def test_a_connection_has_ten_seconds_for_its_headers_and_the_next_ones_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connections.SECONDS_FOR_HEADERS == 10
    monkeypatch.setattr(connections, "SECONDS_FOR_HEADERS", 0.2)

    async def program() -> None:
        async with opened([total], tmp_path) as world:
            port = port_of(world.access)
            for begun in (b"", b"POST /mcp HTTP/1.1\r\nHost: "):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(begun)
                assert await asyncio.wait_for(reader.read(), 30) == b""
                writer.close()

            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            host = urlsplit(world.access.url).netloc
            head = f"GET /mcp HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {world.access.token}\r\n".encode()
            writer.write(head + b"\r\n")
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            assert answer.startswith(b"HTTP/1.1 406 ")  # it did not say what it accepts
            writer.write(head)
            assert b"HTTP/" not in await asyncio.wait_for(reader.read(), 30)
            writer.close()

    asyncio.run(program())


def test_who_is_refused_is_hung_up_on(tmp_path: Path) -> None:
    async def program() -> None:
        async with opened([total], tmp_path) as world:
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(world.access))
            writer.write(b"POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 30)
            assert answer.startswith(b"HTTP/1.1 401 ")
            writer.close()

    asyncio.run(program())


def test_the_connections_of_one_who_has_the_token_are_limited_too(tmp_path: Path) -> None:
    async def program() -> None:
        release = asyncio.Event()

        async def waits() -> str:
            await release.wait()
            return "released"

        async with opened([waits], tmp_path) as world:
            head = (
                f"POST /mcp HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {world.access.token}\r\nContent-Length: 5\r\n"
            )
            held = []
            for _ in range(connections.MOST):
                held.append(await asyncio.open_connection("127.0.0.1", port_of(world.access)))
                held[-1][1].write(f"{head}\r\n".encode())
            answers = [asyncio.create_task(reader.readline()) for reader, _ in held]
            done, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED, timeout=30)
            assert {task.result() for task in done} == {b"HTTP/1.1 503 Service Unavailable\r\n"}
            for task in answers:
                task.cancel()
            for _, writer in held:
                writer.close()

    asyncio.run(program())


def test_without_descriptors_it_waits_in_silence_and_goes_on_later(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_PAUSE", 0.05)

    async def program() -> None:
        async with opened([total], tmp_path) as world:
            port = port_of(world.access)
            attempt = asyncio.create_task(asyncio.open_connection("127.0.0.1", port))
            for _ in range(3):  # until its own socket is there
                await asyncio.sleep(0)
            with no_descriptors():
                for _ in range(100):
                    await asyncio.sleep(0.002)
            _, writer = await asyncio.wait_for(attempt, 30)
            writer.close()
            async with connected(world.access) as client:
                assert await text_of(client, "total", of=["tea"]) == ("3", False)

    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        asyncio.run(program())
        gc.collect()
    finally:
        root.handlers = handlers
    assert capfd.readouterr() == ("", "")
