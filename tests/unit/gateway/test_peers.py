"""Processes of VMs are refused by the host's socket, also with the right path and secret; and they cannot read it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from agentq_nb import Registry, agent_os, create_client
from agentq_nb._core.runtime_files import secret_of
from agentq_nb._gateway.access import SocketAccess
from agentq_nb._gateway.local_socket import choose_path
from agentq_nb._gateway.peer import Peer, is_of_vm
from agentq_nb._gateway.request import Request
from agentq_nb._store.running_host import RunningHost, find_host
from agentq_nb.agent_os.sandbox import isolation
from agentq_nb.agent_os.sandbox.process import run
from agentq_nb.agent_os.values import IsolationKind
from agentq_nb.errors import Refused
from tests.unit.gateway.socket_client import ask_socket

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peers are checked on Linux only"),
]

ASK = """
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.sendall(b"GET /health HTTP/1.1\\r\\nhost: x\\r\\nauthorization: Bearer " + sys.argv[2].encode() + b"\\r\\n\\r\\n")
print(client.recv(65536).decode())
"""


@pytest.fixture
def host(registry: Registry) -> RunningHost:
    found = find_host(registry.store_path)
    assert found is not None
    return found


async def available(kind: IsolationKind) -> None:
    if kind != "none" and (why := await isolation.why_not(kind)):
        pytest.skip(why)


def python(code: str, *arguments: str) -> list[str]:
    return [os.path.realpath(sys.executable), "-I", "-S", "-c", code, *arguments]


async def test_a_process_outside_of_vms_is_let_in(host: RunningHost) -> None:
    process = await asyncio.create_subprocess_exec(
        *python(ASK, str(host.socket), host.secret), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert b"HTTP/1.1 200" in said


@pytest.mark.parametrize("kind", ["none", "landlock", "bubblewrap"])
async def test_a_vms_process_is_refused_and_recorded_although_it_knows_path_and_secret(
    kind: IsolationKind,
    host: RunningHost,
    registry: Registry,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    await available(kind)
    # The sandbox hides the folder. A link to the socket stands for whatever way into it there may be.
    root = host.socket.parent.with_name("root")
    root.mkdir()
    request.addfinalizer(lambda: shutil.rmtree(root))
    os.link(host.socket, root / "s")
    seen = "s" if kind == "bubblewrap" else str(root / "s")
    for _ in range(2):
        answered = await run(isolation.job(kind, root, (), python(ASK, seen, host.secret), {}), timeout=30)
        assert "HTTP/1.1 403" in answered.stdout, answered
        assert "peer_of_vm" in answered.stdout
    [notice] = [each for each in registry.notices if "refused processes of VMs 2 times" in each]
    assert host.secret not in notice + caplog.text
    assert caplog.text.count("refused process") == 1, "one that tries again and again fills no log"
    assert ask_socket(host.socket, host.secret)[0] == 200


async def test_a_process_that_leaves_its_session_and_its_environment_is_still_a_vms(
    host: RunningHost, tmp_path: Path
) -> None:
    command = ["/bin/sh", "-c", 'setsid env -i "$@" & wait', "sh", *python(ASK, str(host.socket), host.secret)]
    answered = await run(isolation.job("none", tmp_path, (), command, {}), timeout=30)
    assert "peer_of_vm" in answered.stdout, answered


@pytest.mark.parametrize("kind", ["landlock", "bubblewrap"])
@pytest.mark.parametrize("shown", ["nothing", "the folder around it"])
async def test_no_sandbox_shows_the_secret(kind: IsolationKind, shown: str, host: RunningHost, tmp_path: Path) -> None:
    await available(kind)
    root = tmp_path / "root"
    root.mkdir()
    secret, beside = secret_of(host.socket), host.socket.parent.with_name("beside")
    beside.write_text("can be seen")
    readable = [] if shown == "nothing" else [str(host.socket.parent.parent)]
    command = ["/bin/sh", "-c", f"cat {beside}; cat {secret}; ls {secret.parent}"]
    try:
        ran = await run(isolation.job(kind, root, (), command, {}, readable=readable), timeout=30)
    finally:
        beside.unlink()
    assert host.secret not in ran.stdout
    assert host.socket.name not in ran.stdout
    assert ("can be seen" in ran.stdout) is bool(readable)


async def test_a_folder_that_agents_can_read_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "q.duckdb"
    for folder in ("/usr/lib/run", sys.prefix, tmp_path / "q.agentq" / "vm"):
        assert isolation.is_readable_inside(Path(folder), tmp_path / "q.agentq")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "q.agentq"))
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", short)
        assert choose_path(store).parent == Path(short) / "agentq"


def test_another_user_is_refused_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[int] = []
    access = SocketAccess("secret", refused.append)
    monkeypatch.setattr("agentq_nb._gateway.access.is_of_vm", lambda _: False)
    request = Request("GET", "/health", "", {"authorization": "Bearer secret"}, "socket")
    access.check(Request(**{**vars(request), "peer": Peer(os.getpid(), os.geteuid())}))
    with pytest.raises(Refused) as caught:
        access.check(Request(**{**vars(request), "peer": Peer(os.getpid(), os.geteuid() + 1)}))
    assert (caught.value.code, caught.value.status) == ("other_user", 403)


def test_this_process_and_its_parents_are_of_no_vm_and_one_that_is_gone_cannot_be_told() -> None:
    assert not is_of_vm(os.getpid())
    assert not is_of_vm(os.getppid())
    assert is_of_vm(0)
    assert is_of_vm(2**22 + 1)


box = agent_os(isolation="off", permissions="ask")


async def test_without_isolation_only_the_kernel_answers_permission_requests(
    host: RunningHost, registry: Registry
) -> None:
    await registry.deploy("box", box)
    vm = create_client().box.get_or_create("main")
    await vm.exec("true")
    path = "POST /gateway/box/action/respond_permission?rvt-method=getOrCreate&rvt-key=main"
    body = {"args": ["session", "request", "allow"]}
    status, answer = await asyncio.to_thread(ask_socket, host.socket, host.secret, path, body)
    assert (status, answer["code"]) == (403, "answer_from_outside")
    with pytest.raises(Exception, match="no session 'session'"):
        await vm.respond_permission("session", "request", "allow")
