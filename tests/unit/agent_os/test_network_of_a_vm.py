"""A VM's own network: what its commands reach, what appears in it, and what is left of it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agentq_nb import agent_os, agents
from agentq_nb.agent_os.network import availability, open_network
from agentq_nb.agent_os.sandbox import protections
from agentq_nb.errors import IsolationUnavailable, ValidationFailed
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import need_own_network, use_only

CLOSED = {"web": "ONLY_PUBLIC_HOSTS", "llm": "ONLY_MODELS", "none": "ONLY_TOOLS"}


@pytest.fixture(autouse=True, params=["bubblewrap", "landlock"])
def _isolation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    need_own_network(request.param)
    use_only(request.param, monkeypatch)


@contextmanager
def server(text: str = "hello", host: str = "127.0.0.1") -> Iterator[int]:
    """An HTTP server on this machine's loopback."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer((host, 0), Answers) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        try:
            yield running.server_port
        finally:
            running.shutdown()


def fetch(url: str, *options: str) -> list[str]:
    return ["curl", "-sS", "--max-time", "20", *options, url]


async def until_it_listens(vm: Any, url: str) -> str:
    for _ in range(200):
        result = await vm.exec(fetch(url))
        if result.exit_code == 0:
            return result.stdout
        await asyncio.sleep(0.05)
    raise AssertionError(result)


def serving(port: int) -> list[str]:
    return ["python3", "-m", "http.server", str(port), "--bind", "127.0.0.1"]


def test_the_default_is_the_web_and_isolation_says_what_it_keeps_out_and_breaks(tmp_path: Path) -> None:
    async def program() -> Any:
        async with Machine(agent_os(), tmp_path) as vm:
            return await vm.isolation()

    told = asyncio.run(program())
    assert told.network == "web"
    assert protections.ONLY_PUBLIC_HOSTS in told.protects
    assert protections.NETWORK not in told.does_not_protect
    assert any("ssh" in sentence for sentence in told.breaks)


@pytest.mark.parametrize("network", ["web", "llm", "none"])
def test_ports_of_this_machine_are_not_there(network: str, tmp_path: Path) -> None:
    async def program(port: int) -> None:
        async with Machine(agent_os(network=network), tmp_path) as vm:  # type: ignore[arg-type]
            assert getattr(protections, CLOSED[network]) in (await vm.isolation()).protects
            straight = await vm.exec(fetch(f"http://127.0.0.1:{port}/"))
            assert straight.exit_code == 7  # could not connect
            listed = await vm.exec("tail -n +2 /proc/net/tcp | grep -c ' 0A ' ; cat /proc/net/dev")
            assert f"{port:04X}" not in (await vm.exec("cat /proc/net/tcp /proc/net/tcp6")).stdout
            assert "eth" not in listed.stdout
            asked = await vm.exec(fetch(f"http://127.0.0.1:{port}/", "--noproxy", ""))
            assert "hello" not in asked.stdout
            assert len(asked.refused) == 1
            assert asked.refused[0].startswith(f"127.0.0.1:{port} was not reached: ")
            assert f'hosts=["127.0.0.1:{port}"])' in asked.refused[0]

    with server() as port:
        asyncio.run(program(port))


def test_a_server_that_spawn_started_is_reached_by_the_next_exec_and_by_no_other_vm(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(), tmp_path) as vm:
            await vm.write_file("file", "from inside")
            await vm.spawn(serving(8765))
            assert await until_it_listens(vm, "http://localhost:8765/file") == "from inside"
            with socket.socket() as here:
                assert here.connect_ex(("127.0.0.1", 8765)) != 0
            other = vm.registry.host.client.vm.get_or_create(("other",))
            assert (await other.exec(fetch("http://127.0.0.1:8765/"))).exit_code == 7

    asyncio.run(program())


def test_forward_shows_a_port_of_the_vm_on_this_machine(tmp_path: Path) -> None:
    def look(url: str) -> bytes:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.read()

    async def program() -> None:
        async with Machine(agent_os(), tmp_path) as vm:
            await vm.write_file("file", "from inside")
            shown = await vm.forward(8766)
            with pytest.raises(OSError):  # noqa: PT011  # nothing listens yet
                await asyncio.to_thread(look, f"{shown.url}/file")
            await vm.spawn(serving(8766))
            await until_it_listens(vm, "http://localhost:8766/file")
            assert await asyncio.to_thread(look, f"{shown.url}/file") == b"from inside"
            assert await vm.forward(8766) == shown
            with pytest.raises(ValidationFailed, match="1 to 65535"):
                await vm.forward(0)

    asyncio.run(program())


@pytest.mark.parametrize(("name", "listens_at"), [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1")])
@pytest.mark.parametrize("network", ["web", "llm"])
def test_a_named_port_of_this_machine_appears_inside_at_the_same_address(
    name: str, listens_at: str, network: str, tmp_path: Path
) -> None:
    async def program(port: int) -> None:
        url = f"http://{name}:{port}"
        async with Machine(agent_os(network=network, hosts=[url]), tmp_path) as vm:  # type: ignore[arg-type]
            for options in ((), ("--noproxy", "*"), ("--noproxy", "")):
                assert (await vm.exec(fetch(f"{url}/v1", *options))).stdout == "hello", options

    with server(host=listens_at) as port:
        asyncio.run(program(port))


@pytest.mark.parametrize("network", ["web", "llm"])
def test_a_base_url_in_env_names_its_host_and_none_allows_nothing(network: str, tmp_path: Path) -> None:
    async def program(port: int) -> None:
        env = {"OPENAI_BASE_URL": f"http://localhost:{port}/v1"}
        async with Machine(agent_os(network=network), tmp_path) as vm:  # type: ignore[arg-type]
            assert (await vm.exec('curl -sS "$OPENAI_BASE_URL"', env=env)).stdout == "hello"
        async with Machine(agent_os(network="none"), tmp_path, ("none",)) as vm:
            assert (await vm.exec('curl -sS "$OPENAI_BASE_URL"', env=env)).exit_code == 7

    with server() as port:
        asyncio.run(program(port))


def test_a_named_port_at_which_the_vm_listens_itself_is_told(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(), tmp_path) as vm:
            await vm.spawn(serving(8767))
            await until_it_listens(vm, "http://localhost:8767/")
            with pytest.raises(Exception, match=r"127\.0\.0\.1:8767 was named, but cannot appear inside the VM"):
                await vm.exec("true", env={"MODEL_BASE_URL": "http://127.0.0.1:8767"})

    asyncio.run(program())


def test_what_is_refused_is_told_in_results_in_the_list_and_in_the_transcript(tmp_path: Path) -> None:
    async def tries(session: Any, prompt: str) -> str:
        return " ".join((await session.exec(fetch("http://10.0.0.1/"))).refused)

    async def program() -> None:
        async with Machine(agent_os(agents=[agents.function(tries)]), tmp_path) as vm:
            command = "curl -s http://10.0.0.1/; curl -s http://10.0.0.1/; curl -s http://10.0.0.2/"
            result = await vm.exec(command)
            assert [sentence.split(" ")[0] for sentence in result.refused] == ["10.0.0.1:80", "10.0.0.2:80"]
            assert "10.0.0.1:80 was not reached" in result.stdout
            spawned = await vm.spawn(fetch("http://10.0.0.3/"))
            while (listed := (await vm.list_processes())[-1]).status == "running":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert listed.process_id == spawned.process_id
            assert listed.refused[0].startswith("10.0.0.3:80")
            session = await vm.create_session("tries")
            said = (await vm.send_prompt(session.session_id, "go")).text
            events = await vm.session_events(session.session_id)
            notes = [event for event in events if event.type == "note"]
            assert [note.text for note in notes] == [said]
            assert notes[0].data["refused"] is True

    asyncio.run(program())


def test_a_flood_of_refusals_is_told_once_each_and_not_without_end(tmp_path: Path) -> None:
    async def program() -> tuple[str, ...]:
        async with Machine(agent_os(network="none"), tmp_path) as vm:
            hosts = "seq 1 80 | xargs -P 8 -I N curl -s -o /dev/null http://N.example.org/ http://same.example.org/"
            return (await vm.exec(hosts)).refused

    refused = asyncio.run(program())
    assert len(refused) == len(set(refused)) == 50


def test_a_loop_that_blocks_does_not_hold_up_the_network(tmp_path: Path) -> None:
    async def program(port: int) -> None:
        async with Machine(agent_os(hosts=[f"127.0.0.1:{port}"]), tmp_path) as vm:
            await vm.spawn(f"until [ -e go ]; do sleep 0.01; done; curl -sS http://127.0.0.1:{port}/ > got")
            root = (await vm.activation()).instance._workspace.root  # type: ignore[union-attr]
            (root / "go").touch()
            block_until(lambda: (root / "got").exists() and (root / "got").read_text() == "hello")

    with server() as port:
        asyncio.run(program(port))


def block_until(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)


def children() -> list[bytes]:
    """The holders of namespaces that this process has."""
    found: list[bytes] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])
            if b"namespace_holder.py" in line and parent == os.getpid():
                found.append(line)
    return found


def held() -> tuple[int, int]:
    threads = [thread for thread in threading.enumerate() if thread.name == "agentq network"]
    return len(children()), len(threads)


async def until_held(holders: int, threads: int) -> None:
    try:
        async with asyncio.timeout(20):  # what ended is gone a moment later
            while held() != (holders, threads):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{held()} holders and threads, not {(holders, threads)}") from None


def test_nothing_is_left_of_it_when_the_vm_sleeps_is_destroyed_and_when_the_host_stops(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(), tmp_path) as vm:
            await vm.exec("true")
            await until_held(1, 1)
            files = len(os.listdir("/proc/self/fd"))
            for _ in range(5):
                await vm.exec("true")
                await vm.sleep()
                await until_held(0, 0)
            await vm.exec("true")
            async with asyncio.timeout(20):  # what watched the commands' ends closes a moment after them
                while len(os.listdir("/proc/self/fd")) > files:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await vm.destroy()
            await until_held(0, 0)
            other = vm.registry.host.client.vm.get_or_create(("other",))
            await other.exec("true")
            await until_held(1, 1)
        await until_held(0, 0)

    asyncio.run(program())


class HooksOfTheUser(agent_os(), sleep_timeout=None):  # type: ignore[misc]
    """A VM of the user's, whose hooks call nothing of the VM's and fail."""

    called: ClassVar[list[str]] = []

    async def on_create(self, input: Any) -> None:
        self.called.append("on_create")

    async def on_wake(self) -> None:
        self.called.append("on_wake")
        await self.exec("true")  # the VM is ready for the hook

    async def on_sleep(self) -> None:
        self.called.append("on_sleep")
        assert held() == (1, 1)  # and still there
        raise RuntimeError("as the user wrote it")

    async def on_destroy(self) -> None:
        self.called.append("on_destroy")
        raise RuntimeError("as the user wrote it")


def test_nothing_is_left_of_it_when_a_subclass_has_hooks_of_its_own(tmp_path: Path) -> None:
    async def program() -> None:
        await until_held(0, 0)
        HooksOfTheUser.called.clear()
        async with Machine(HooksOfTheUser, tmp_path) as vm:
            await vm.write_file("kept", "")
            await until_held(1, 1)
            await vm.sleep()
            await until_held(0, 0)
            assert await vm.exists("kept")
            activation = await vm.activation()
            root = activation.instance._workspace.root  # type: ignore[union-attr]
            await vm.destroy(files=True)
            await activation.ended.wait()
            await until_held(0, 0)
            assert not root.exists()
            assert HooksOfTheUser.called == ["on_create", "on_wake", "on_sleep", "on_wake", "on_destroy"]

    asyncio.run(program())


def test_files_stay_flat_over_many_commands(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(), tmp_path) as vm:
            await vm.exec("true")
            await asyncio.sleep(0.1)
            before = len(os.listdir("/proc/self/fd"))
            await asyncio.gather(*(vm.exec("curl -s http://10.0.0.1/") for _ in range(20)))
            async with asyncio.timeout(20):
                while len(os.listdir("/proc/self/fd")) > before:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    asyncio.run(program())


def test_the_network_survives_its_holder(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(), tmp_path) as vm:
            await vm.write_file("file", "still there")
            await vm.spawn(serving(8768))
            await until_it_listens(vm, "http://localhost:8768/file")
            network = (await vm.activation()).instance._vm_network  # type: ignore[union-attr]
            assert network is not None
            namespace = network._open._namespace
            namespace._control.shutdown(socket.SHUT_RDWR)
            namespace._process.wait(20)
            assert await until_it_listens(vm, "http://localhost:8768/file") == "still there"

    asyncio.run(program())


def test_a_network_that_the_garbage_collector_finds_while_another_opens_blocks_nothing(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(), tmp_path) as vm:
            await vm.exec("true")
            network = (await vm.activation()).instance._vm_network  # type: ignore[union-attr]
            assert network is not None

            def collect() -> None:
                with open_network._lock:  # as the one that opens holds it, in which the collector may run
                    network._lost()

            thread = threading.Thread(target=collect, daemon=True)
            thread.start()
            await asyncio.to_thread(thread.join, 10)
            assert not thread.is_alive()

    asyncio.run(program())


def test_where_it_cannot_be_had_it_is_open_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(availability, "_tried", {"namespace": "no such thing here", "ports": "nor this"})
    caplog.set_level(logging.WARNING)

    async def program(port: int) -> Any:
        async with Machine(agent_os(), tmp_path) as vm:
            for _ in range(2):
                assert (await vm.exec(fetch(f"http://127.0.0.1:{port}/"))).stdout == "hello"
            return await vm.isolation()

    with server() as port:
        told = asyncio.run(program(port))
    assert told.network == "open"
    assert told.refused['network="web"'].startswith("no such thing here")
    assert "iopub" in protections.NETWORK
    assert protections.NETWORK in told.does_not_protect
    assert caplog.text.count("no such thing here") == 1


def test_open_that_was_asked_for_is_not_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def program() -> Any:
        async with Machine(agent_os(network="open"), tmp_path) as vm:
            await vm.exec("true")
            return await vm.isolation()

    assert protections.NETWORK in asyncio.run(program()).does_not_protect
    assert caplog.text == ""


def test_what_was_asked_for_and_cannot_be_had_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "_tried", {"namespace": "no such thing here", "ports": "nor this"})

    async def program() -> None:
        async with Machine(agent_os(network="web"), tmp_path) as vm:
            with pytest.raises(IsolationUnavailable, match='network="web" cannot be had on this machine'):
                await vm.exec("touch ran")

    asyncio.run(program())
    assert list(tmp_path.rglob("ran")) == []


def test_certificates_that_this_process_trusts_are_trusted_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("certificates")
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(tmp_path / "missing.pem"))

    async def program() -> Any:
        async with Machine(agent_os(), tmp_path) as vm:
            return await vm.exec('cat "$SSL_CERT_FILE"; echo "$CURL_CA_BUNDLE"')

    assert asyncio.run(program()).stdout == "certificates\n"
