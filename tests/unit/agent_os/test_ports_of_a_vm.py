"""A VM without a network namespace: Landlock leaves it the ports it needs, and its proxies demand a password."""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import agent_os, agents
from agentq_nb.agent_os.network.isolated_networks import SharedNetwork
from agentq_nb.agent_os.network.proxy import Credentials
from agentq_nb.agent_os.sandbox import protections
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import use_ports, without_namespaces
from tests.unit.agent_os.test_network_of_a_vm import fetch, server, serving, until_it_listens

PROJECT = Path(__file__).resolve().parents[3]
SHOW_PROXY = ["python3", "-c", "import os; print(*os.environ['HTTP_PROXY'])"]
"""Prints it with a space after each character, which no redaction knows."""


@pytest.fixture(autouse=True)
def _only_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    use_ports(monkeypatch)


def python(code: str, *words: object) -> list[str]:
    return ["python3", "-c", textwrap.dedent(code), *map(str, words)]


async def proxy_of(vm: Any) -> tuple[str, str]:
    """The URL of the proxy of a command that goes on, and the command's id."""
    spawned = await vm.spawn(
        [*SHOW_PROXY[:2], f"{SHOW_PROXY[2]}; import sys, time; sys.stdout.flush(); time.sleep(600)"]
    )
    return await shown(vm, spawned), spawned.process_id


async def shown(vm: Any, spawned: Any) -> str:
    while not (text := (await vm.process_output(spawned.process_id)).stdout):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return text[::2].strip()


def through(proxy: str, url: str) -> tuple[int, str]:
    """What a proxy answers this process."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
    try:
        with opener.open(url, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_default_is_the_web_and_isolation_says_what_is_left_open(tmp_path: Path) -> None:
    async def program() -> Any:
        async with Machine(agent_os(), tmp_path) as vm:
            return await vm.isolation()

    told = asyncio.run(program())
    assert told.network == "web"
    assert protections.ONLY_PUBLIC_HOSTS in told.protects
    assert protections.NETWORK not in told.does_not_protect
    assert {protections.SAME_PORT, protections.LISTENING, protections.TO_PUBLIC_HOSTS} <= set(told.does_not_protect)
    assert any("vm.forward(port)" in sentence for sentence in told.breaks)
    assert told.refused["a network namespace"] == "not in this test"


@pytest.mark.parametrize("network", ["web", "llm", "none"])
def test_ports_of_this_machine_are_refused(network: str, tmp_path: Path) -> None:
    async def program(port: int) -> None:
        async with Machine(agent_os(network=network), tmp_path) as vm:  # type: ignore[arg-type]
            assert (await vm.exec(fetch(f"http://127.0.0.1:{port}/"))).exit_code == 7  # could not connect
            asked = await vm.exec(fetch(f"http://127.0.0.1:{port}/", "--noproxy", ""))
            assert "hello" not in asked.stdout
            (refused,) = asked.refused
            assert refused.startswith(f"127.0.0.1:{port} was not reached: ")
            assert f'hosts=["127.0.0.1:{port}"])' in refused

    with server() as port:
        asyncio.run(program(port))


@pytest.mark.parametrize("network", ["web", "llm"])
def test_a_named_port_of_this_machine_is_reached_at_the_same_address(network: str, tmp_path: Path) -> None:
    async def program(port: int) -> None:
        url = f"http://localhost:{port}"
        async with Machine(agent_os(network=network, hosts=[url]), tmp_path) as vm:  # type: ignore[arg-type]
            for options in ((), ("--noproxy", "*"), ("--noproxy", "")):
                assert (await vm.exec(fetch(f"{url}/v1", *options))).stdout == "hello", options
        async with Machine(agent_os(network=network), tmp_path, ("b",)) as vm:  # type: ignore[arg-type]
            env = {"OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}
            assert (await vm.exec('curl -sS "$OPENAI_BASE_URL"', env=env)).stdout == "hello"
        async with Machine(agent_os(network="none"), tmp_path, ("c",)) as vm:
            assert (await vm.exec('curl -sS "$OPENAI_BASE_URL"', env=env)).exit_code == 7

    with server() as port:
        asyncio.run(program(port))


def test_what_is_refused_is_told_in_results_in_the_list_and_in_the_transcript(tmp_path: Path) -> None:
    async def tries(session: Any, prompt: str) -> str:
        return " ".join((await session.exec(fetch("http://10.0.0.1/"))).refused)

    async def program() -> None:
        async with Machine(agent_os(agents=[agents.function(tries)]), tmp_path) as vm:
            result = await vm.exec(fetch("https://10.0.0.2/"))
            assert [sentence.split(" ")[0] for sentence in result.refused] == ["10.0.0.2:443"]
            session = await vm.create_session("tries")
            said = (await vm.send_prompt(session.session_id, "go")).text
            assert said.startswith("10.0.0.1:80 was not reached")
            events = await vm.session_events(session.session_id)
            assert [event.text for event in events if event.type == "note"] == [said]

    asyncio.run(program())


def test_the_system_chooses_the_ports_of_proxies_and_tools() -> None:
    async def program() -> None:
        networks = [SharedNetwork("web", Credentials("word")) for _ in range(2)]
        with ExitStack() as opened:
            listeners: list[socket.socket] = []
            for network in networks:
                opened.callback(network.close)
                for listen in (network.proxy_listener, network.tools_listener, network.tools_listener):
                    listeners.append(opened.enter_context(await listen()))
            ports = [listener.getsockname()[1] for listener in listeners]
            assert len(set(ports)) == 4
            assert ports[1] == ports[2], "those of the tools stay the same"

    asyncio.run(program())


def test_a_proxy_demands_the_password_of_its_vm(tmp_path: Path) -> None:
    async def program(port: int) -> None:
        named = [f"127.0.0.1:{port}"]
        async with Machine(agent_os(hosts=named), tmp_path) as vm:
            other = vm.registry.host.client.vm.get_or_create(("other",))
            (own, process_id), (others, _) = await proxy_of(vm), await proxy_of(other)
            url = f"http://127.0.0.1:{port}/"
            bare = re.sub("//.*@", "//", own)
            swapped = re.sub("//.*@", re.findall("//.*@", others)[0], own)
            assert await asyncio.to_thread(through, own, url) == (200, "hello")
            for wrong in (bare, swapped, own.replace("vm:", "vm:x"), own.replace("vm:", "mv:")):
                status, said = await asyncio.to_thread(through, wrong, url)
                assert (status, "password" in said) == (407, True), wrong
                assert (await asyncio.to_thread(through, wrong, "http://10.0.0.1/"))[0] == 407
            (listed,) = [one for one in await vm.list_processes() if one.process_id == process_id]
            assert listed.refused == ()  # what others ask for is not its own

    with server() as port:
        asyncio.run(program(port))


def test_a_password_is_the_same_whenever_its_vm_wakes_and_redacted_wherever_it_is_shown(tmp_path: Path) -> None:
    async def shows(session: Any, prompt: str) -> str:
        return (await session.exec("echo $HTTP_PROXY")).stdout

    async def program() -> None:
        async with Machine(agent_os(agents=[agents.function(shows)]), tmp_path) as vm:
            told: list[str] = []
            vm.registry.host.listen(vm.actor_id, "process_output", lambda output: told.append(output.text))
            (first, process_id) = await proxy_of(vm)
            password = re.findall("//vm:(.*)@", first)[0]
            header = base64.b64encode(f"vm:{password}".encode()).decode()
            result = await vm.exec(f"echo $HTTP_PROXY; echo {password}; curl -v http://10.0.0.1/")
            session = await vm.create_session("shows")
            said = (await vm.send_prompt(session.session_id, "go")).text
            assert "[redacted HTTP_PROXY]" in result.stdout
            assert "[redacted HTTP_PROXY as a header]" in result.stderr
            assert "[redacted HTTP_PROXY]" in said
            texts = [repr(result), said, *told, repr(await vm.list_processes()), repr(vm.on_disk())]
            assert not any(secret in text for text in texts for secret in (password, header))
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    assert password.encode() not in path.read_bytes()
                except OSError:
                    continue
            await vm.kill(process_id)
            await vm.sleep()
            again, _ = await proxy_of(vm)
            assert f"//vm:{password}@" in again

    asyncio.run(program())


def test_other_vms_are_not_reached(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(), tmp_path) as vm:
            other = vm.registry.host.client.vm.get_or_create(("other",))
            proxy, _ = await proxy_of(other)
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            await other.forward(port)
            await other.spawn(serving(port))
            await until_it_listens(other, f"http://127.0.0.1:{port}/")
            network = (await vm.registry.host.awake("vm/other")).instance._vm_network
            assert network is not None
            with await network.listener() as tools:
                ports = (port, re.findall(r"\d+$", proxy)[0], tools.getsockname()[1])
                for each in ports:
                    with socket.socket() as here:
                        assert here.connect_ex(("127.0.0.1", int(each))) == 0
                    assert (await vm.exec(fetch(f"http://127.0.0.1:{each}/"))).exit_code == 7

    asyncio.run(program())


def test_the_port_of_the_tools_is_reached_and_stays_the_same(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(), tmp_path) as vm:
            await vm.exec("true")
            network = (await vm.activation()).instance._vm_network  # type: ignore[union-attr]
            assert network is not None
            with await network.listener() as first:
                port = first.getsockname()[1]
                code = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])))"
                assert (await vm.exec(python(code, port))).exit_code == 0
            with await network.listener() as second:
                assert second.getsockname()[1] == port

    asyncio.run(program())


def test_a_server_of_the_vm_is_reached_from_outside_and_from_inside_where_it_was_forwarded_before(
    tmp_path: Path,
) -> None:
    def look(url: str) -> bytes:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.read()

    async def program() -> None:
        async with Machine(agent_os(), tmp_path) as vm:
            await vm.write_file("file", "from inside")
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            await vm.spawn(serving(port))
            async with asyncio.timeout(20):
                while socket.socket().connect_ex(("127.0.0.1", port)):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert (await vm.exec(fetch(f"http://127.0.0.1:{port}/file"))).exit_code == 7
            forward = await vm.forward(port)
            assert forward.url == f"http://127.0.0.1:{port}"
            assert await asyncio.to_thread(look, f"{forward.url}/file") == b"from inside"
            assert (await vm.exec(fetch(f"http://127.0.0.1:{port}/file"))).stdout == "from inside"

    asyncio.run(program())


def test_nothing_is_left_of_it_when_the_vm_sleeps(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(), tmp_path) as vm:
            proxy, _ = await proxy_of(vm)
            network = (await vm.activation()).instance._vm_network  # type: ignore[union-attr]
            assert network is not None
            with await network.listener() as tools:
                ports = [int(re.findall(r"\d+$", proxy)[0]), tools.getsockname()[1]]
            await vm.sleep()
            async with asyncio.timeout(20):
                for port in ports:
                    while not socket.socket().connect_ex(("127.0.0.1", port)):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)

    asyncio.run(program())


PROGRAM = """
import asyncio, sys
from pathlib import Path
from agentq_nb import agent_os
from tests.unit.agent_os.machine import Machine

async def program():
    async with Machine(agent_os(), Path(sys.argv[1])) as vm:
        told = await vm.isolation()
        ran = await vm.exec("curl -sS http://127.0.0.1:" + sys.argv[2])
        print(told.kind, told.network, ran.exit_code)
        print(told.refused)

asyncio.run(program())
"""


def test_where_the_system_makes_no_namespaces_it_is_chosen(tmp_path: Path) -> None:
    with server() as port:
        words = without_namespaces(sys.executable, "-c", PROGRAM, str(tmp_path), str(port))
        ran = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    chosen, refused = ran.stdout.splitlines()
    assert chosen == "landlock web 7"
    assert "'a network namespace': 'a network of its own was tried, and that does not work here" in refused
    assert "No space left on device" in refused


EXHAUSTED = """
import asyncio
from agentq_nb.agent_os.sandbox.confinement import restrict
from agentq_nb.agent_os.network.availability import why_ports_stay_open

for _ in range(16):  # no process can be restricted more often
    restrict(write=["/"], read=[])
print(asyncio.run(why_ports_stay_open()))
"""


def test_why_ports_stay_open_is_what_the_system_says() -> None:
    words = [sys.executable, "-c", EXHAUSTED]
    ran = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert ran.stdout == "Landlock's rules for ports do not help (Argument list too long)\n"
