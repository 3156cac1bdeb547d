"""The proxy that is a VM's only way out: what it lets through, what it refuses, and where it gets what it lets through."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from agentq_nb.agent_os.network import dialer
from agentq_nb.agent_os.network.policy import Named, Policy, Refusal
from agentq_nb.agent_os.network.proxy import Credentials, Proxy
from agentq_nb.agent_os.network.relay import Listening, Slots, Stream

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@dataclass
class Running:
    port: int
    refused: list[Refusal] = field(default_factory=list[Refusal])

    async def ask(self, request: str | bytes) -> bytes:
        """Everything that comes back for a request, until the other side closes."""
        reader, writer = await self.connect()
        writer.write(request.encode() if isinstance(request, str) else request)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return answer

    async def connect(self) -> Stream:
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def proxy(policy: Policy, credentials: Credentials | None = None) -> AsyncIterator[Running]:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    running = Running(listener.getsockname()[1])
    listening = Listening(listener, Proxy(lambda: policy, running.refused.append, credentials).handle, Slots())
    try:
        yield running
    finally:
        listening.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def server(handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await handle(reader, writer)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as running:
        yield running.sockets[0].getsockname()[1]


def answers(text: str, heard: list[str]) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(text.encode())
        await writer.drain()

    return handle


def resolving(monkeypatch: pytest.MonkeyPatch, *found: str) -> list[str]:
    """Let every name stand for these addresses, one after the other, the last one for good. The names asked for."""
    asked: list[str] = []
    left = list(found)

    def look_up(host: str, port: int, *more: int) -> list[tuple[object, ...]]:
        asked.append(host)
        address = left.pop(0) if len(left) > 1 else left[0]
        if not address:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(dialer.socket, "getaddrinfo", look_up)
    return asked


def test_a_named_host_is_reached_by_connect_and_bytes_go_both_ways_to_the_end() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def program() -> None:
        async with server(echo) as port, proxy(Policy("llm", [Named("localhost", port)])) as running:
            reader, writer = await running.connect()
            writer.write(f"CONNECT localhost:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            sent = os.urandom(3_000_000)

            async def send() -> None:
                writer.write(sent)
                await writer.drain()
                writer.write_eof()

            _, received = await asyncio.gather(send(), asyncio.wait_for(reader.read(), 20))
            assert received == sent
            writer.close()
        assert running.refused == []

    asyncio.run(program())


def test_a_plain_url_is_asked_for_as_its_server_expects_it() -> None:
    heard: list[str] = []

    async def program() -> bytes:
        async with (
            server(answers("HTTP/1.1 200 OK\r\n\r\nhello", heard)) as port,
            proxy(Policy("llm", [Named("127.0.0.1", port)])) as running,
        ):
            return await running.ask(
                f"POST http://127.0.0.1:{port}/a/b?c=d#e HTTP/1.1\r\nHost: elsewhere\r\nContent-Length: 0\r\n"
                "Proxy-Authorization: Basic eDp5\r\nConnection: keep-alive\r\nX-Own: kept\r\n\r\n"
            )

    assert asyncio.run(program()) == b"HTTP/1.1 200 OK\r\n\r\nhello"
    first, *headers = heard[0].strip().split("\r\n")
    assert first == "POST /a/b?c=d HTTP/1.1"
    assert headers[0].startswith("Host: 127.0.0.1:")
    assert sorted(headers[1:]) == ["Connection: close", "Content-Length: 0", "X-Own: kept"]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
    ],
)
@pytest.mark.parametrize("tunnel", [True, False])
def test_this_machine_and_metadata_are_refused_however_they_are_written(host: str, tunnel: bool) -> None:
    reached: list[str] = []

    async def program() -> tuple[bytes, list[Refusal]]:
        async with server(answers("HTTP/1.1 200 OK\r\n\r\nreached", reached)) as port, proxy(Policy("web")) as running:
            to = f"{host}:{port}"
            request = f"CONNECT {to} HTTP/1.1\r\n\r\n" if tunnel else f"GET http://{to}/ HTTP/1.1\r\n\r\n"
            return await running.ask(request), running.refused

    answer, refused = asyncio.run(program())
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"To allow it: agent_os(network=" in answer
    assert [refusal.host for refusal in refused] == [host.strip("[]")]
    assert reached == []


def test_this_machines_own_address_in_its_network_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("1.1.1.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        own = probe.getsockname()[0]
    assert dialer.is_own(own)
    assert not dialer.is_own("1.1.1.1")

    async def program() -> bytes:
        async with proxy(Policy("web")) as running:
            return await running.ask(f"CONNECT {own}:80 HTTP/1.1\r\n\r\n")

    assert asyncio.run(program()).startswith(b"HTTP/1.1 403 ")


def test_a_name_that_stands_for_loopback_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "127.0.0.1")

    async def program() -> tuple[bytes, list[Refusal]]:
        async with proxy(Policy("web")) as running:
            return await running.ask("CONNECT harmless.example.org:80 HTTP/1.1\r\n\r\n"), running.refused

    answer, refused = asyncio.run(program())
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert refused[0].host == "harmless.example.org"


def test_a_name_that_is_public_only_while_it_is_checked_leads_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked up once, and what was checked is what is connected to."""
    asked = resolving(monkeypatch, "203.0.113.9", "127.0.0.1")
    connected: list[object] = []

    async def connect(host: str, port: int, **options: object) -> Stream:
        connected.append(host)
        raise ConnectionRefusedError(111, "refused")

    async def program() -> bytes:
        async with proxy(Policy("web")) as running:
            reader, writer = await running.connect()
            monkeypatch.setattr(dialer.asyncio, "open_connection", _only_there(connect))
            writer.write(b"CONNECT rebinding.example.org:80 HTTP/1.1\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            return answer

    assert asyncio.run(program()).startswith(b"HTTP/1.1 502 ")
    assert asked == ["rebinding.example.org"]
    assert connected == ["203.0.113.9"]


def _only_there(connect: Callable[..., Awaitable[Stream]]) -> Callable[..., Awaitable[Stream]]:
    """In place of ``open_connection``: only connections to a host are taken over."""
    real = asyncio.open_connection

    async def either(*args: object, **options: object) -> Stream:
        return await (connect(*args, **options) if args else real(**options))  # type: ignore[arg-type]

    return either


def test_a_redirect_is_a_request_of_its_own() -> None:
    heard: list[str] = []

    async def program() -> tuple[bytes, list[Refusal]]:
        async with server(answers("HTTP/1.1 200 OK\r\n\r\nsecret", heard)) as inner:
            redirect = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{inner}/\r\nContent-Length: 0\r\n\r\n"
            async with (
                server(answers(redirect, heard)) as outer,
                proxy(Policy("web", [Named("localhost", outer)])) as running,
            ):
                url = f"http://127.0.0.1:{running.port}"
                words = ["curl", "-sSL", "--noproxy", "", "-x", url, f"http://localhost:{outer}/"]
                curl = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
                said, _ = await curl.communicate()
                return said, running.refused

    said, refused = asyncio.run(program())
    assert b"was not reached" in said
    assert len(heard) == 1
    assert [refusal.host for refusal in refused] == ["127.0.0.1"]


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.org\r\n\r\n",
        b"GET https://a.org/ HTTP/1.1\r\n\r\n",
        b"CONNECT a.org HTTP/1.1\r\n\r\n",
        b"CONNECT a.org:80 HTTP/2\r\n\r\n",
        b"CONNECT a\x00.org:80 HTTP/1.1\r\n\r\n",
        b"GET http://a.org/ HTTP/1.1\r\nno header\r\n\r\n",
        b"GET http://a.org/ HTTP/1.1\r\nA: b\r\n folded: c\r\n\r\n",
    ],
)
def test_what_is_no_request_for_a_proxy_is_told_so(request_: bytes) -> None:
    async def program() -> bytes:
        async with proxy(Policy("web")) as running:
            return await running.ask(request_)

    assert asyncio.run(program()).startswith(b"HTTP/1.1 400 ")


def test_endless_headers_are_hung_up_on() -> None:
    async def program() -> bytes:
        async with proxy(Policy("web")) as running:
            reader, writer = await running.connect()
            with suppress(OSError):
                for _ in range(100):
                    writer.write(b"A" * 65536)
                    await writer.drain()
            with suppress(OSError):
                return await asyncio.wait_for(reader.read(), 20)
        return b""

    assert asyncio.run(program()) == b""


def test_the_hosts_own_proxy_is_gone_through_with_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    resolving(monkeypatch, "203.0.113.9")

    async def program() -> tuple[bytes, bytes]:
        handle = answers("HTTP/1.1 200 OK\r\n\r\nthrough it", heard)
        async with server(handle) as port, proxy(Policy("web")) as running:
            monkeypatch.setattr(dialer, "_to_proxy", _to(port))
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@proxy.corp:{port}")
            monkeypatch.setenv("HTTP_PROXY", f"http://proxy.corp:{port}")
            tunnelled = await running.ask("CONNECT a.org:443 HTTP/1.1\r\n\r\n")
            plain = await running.ask("GET http://a.org/x HTTP/1.1\r\n\r\n")
            return tunnelled, plain

    tunnelled, plain = asyncio.run(program())
    assert tunnelled == b"HTTP/1.1 200 Connection established\r\n\r\nthrough it"
    assert plain == b"HTTP/1.1 200 OK\r\n\r\nthrough it"
    assert heard[0].startswith("CONNECT a.org:443 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in heard[0]
    assert heard[1].startswith("GET http://a.org/x HTTP/1.1\r\nHost: a.org\r\n")


def _to(port: int) -> Callable[[object], Awaitable[Stream]]:
    async def connect(proxy: object) -> Stream:
        return await asyncio.open_connection("127.0.0.1", port)

    return connect


def test_a_proxy_of_the_host_is_no_way_around_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.corp:3128")
    resolving(monkeypatch, "10.0.0.1")

    async def program() -> bytes:
        async with proxy(Policy("web")) as running:
            return await running.ask("CONNECT intranet.corp:443 HTTP/1.1\r\n\r\n")

    assert asyncio.run(program()).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(("host", "status"), [("a.org", b"200"), ("printer.local", b"502"), ("intranet", b"502")])
def test_a_name_that_only_the_hosts_proxy_knows_is_left_to_it(
    host: str, status: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.corp:3128")
    resolving(monkeypatch, "")

    async def program() -> bytes:
        async with server(answers("HTTP/1.1 200 OK\r\n\r\n", [])) as port, proxy(Policy("web")) as running:
            monkeypatch.setattr(dialer, "_to_proxy", _to(port))
            return await running.ask(f"CONNECT {host}:443 HTTP/1.1\r\n\r\n")

    assert asyncio.run(program()).startswith(b"HTTP/1.1 " + status)


def test_a_name_that_nobody_knows_is_unreachable_and_the_error_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    resolving(monkeypatch, "")
    for reach in (dialer.connect("a.example", 80), dialer.dial(Policy("web"), "a.example", 80, tunnel=False)):
        with pytest.raises(dialer.Unreachable, match=r"a\.example is not known here: Name or service not known"):
            asyncio.run(reach)


def test_no_proxy_of_the_host_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.corp:3128")
    monkeypatch.setenv("NO_PROXY", "a.org")
    monkeypatch.setenv("no_proxy", "a.org")
    assert dialer.proxy_for("a.org", 443, True) is None
    assert dialer.proxy_for("b.a.org", 443, True) is None
    found = dialer.proxy_for("b.org", 443, True)
    assert found is not None
    assert found.netloc == "proxy.corp:3128"


def test_a_proxy_of_the_host_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.corp:1080")
    resolving(monkeypatch, "203.0.113.9")

    async def program() -> bytes:
        async with proxy(Policy("web")) as running:
            return await running.ask("CONNECT a.org:443 HTTP/1.1\r\n\r\n")

    assert b"the notebook's own proxy is socks5://" in asyncio.run(program())


def test_a_flood_of_connections_takes_a_bounded_number_of_files_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 256))

    def files() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def program() -> None:
        async with proxy(Policy("none")) as running:
            before = files()
            flood: list[socket.socket] = []
            for _ in range(100):
                one = socket.socket()
                one.setblocking(False)
                with suppress(BlockingIOError):
                    one.connect(("127.0.0.1", running.port))
                flood.append(one)
            await asyncio.sleep(0.2)
            accepted = files() - before - len(flood)
            assert 0 < accepted <= 33
            for one in flood:
                one.close()
            assert (await running.ask("CONNECT a.org:443 HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 403 ")
        assert files() <= before

    asyncio.run(program())


def test_one_that_demands_credentials_lets_nothing_through_without_them_and_does_not_pass_them_on() -> None:
    async def program() -> None:
        heard: list[str] = []
        demanded = Credentials("secret")
        wrong = ("", "Basic", "Basic c2VjcmV0", f"Bearer {demanded.header}", f"Basic {demanded.header}=", "Basic \xff")
        async with server(answers("HTTP/1.0 200 OK\r\n\r\nhello", heard)) as port:
            policy = Policy("llm", [Named("127.0.0.1", port)])
            async with proxy(policy, demanded) as running:
                for method, to in (("GET", f"http://127.0.0.1:{port}/"), ("CONNECT", f"127.0.0.1:{port}")):
                    for words in wrong:
                        line = f"Proxy-Authorization: {words}\r\n" if words else ""
                        answer = await running.ask(f"{method} {to} HTTP/1.1\r\n{line}\r\n".encode("latin-1"))
                        assert answer.startswith(b"HTTP/1.1 407 "), words
                        assert b"\r\nProxy-Authenticate: Basic " in answer
                refused = await running.ask("GET http://example.org/ HTTP/1.1\r\n\r\n")
                assert refused.startswith(b"HTTP/1.1 407 ")
                assert (heard, running.refused) == ([], [])
                line = f"proxy-authorization: Basic {demanded.header}"
                answer = await running.ask(f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\n{line}\r\n\r\n")
                assert answer.endswith(b"hello")
                assert demanded.header not in heard[0]

    asyncio.run(program())
