"""The socket on which every host listens: where it is, who is let in, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Registry, setup
from agentq_nb._core.runtime_files import runtime_name, secret_of, write_private
from agentq_nb._store.running_host import RunningHost, find_host
from tests.unit.gateway.conftest import TaskRunner
from tests.unit.gateway.socket_client import ask_socket

pytestmark = pytest.mark.anyio

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def host(registry: Registry) -> RunningHost:
    found = find_host(registry.store_path)
    assert found is not None
    return found


async def ask(host: RunningHost, request: str = "GET /health", body: Any = None, **options: Any) -> tuple[int, Any]:
    options.setdefault("secret", host.secret)
    return await asyncio.to_thread(ask_socket, host.socket, request=request, body=body, **options)


async def test_a_host_is_found_by_its_file_and_answers(host: RunningHost, registry: Registry) -> None:
    assert (host.store, host.pid) == (registry.store_path, os.getpid())
    assert await ask(host) == (200, {"status": "ok"})
    status, sent = await ask(host, "POST /gateway/task_runner.main/action/add", {"args": [3]})
    assert (status, sent["code"]) == (404, "not_found")
    path = "POST /gateway/task_runner/action/add?rvt-method=getOrCreate&rvt-key=main"
    assert await ask(host, path, {"args": [3]}) == (200, {"output": 3})


async def test_only_this_user_can_open_the_files(host: RunningHost) -> None:
    assert stat.S_IMODE(host.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret_of(host.socket).stat().st_mode) == 0o600
    assert stat.S_IMODE(host.socket.parent.stat().st_mode) == 0o700
    assert len(os.fsencode(host.socket)) <= 103


async def test_the_secret_is_demanded_for_everything_and_shown_nowhere(host: RunningHost, registry: Registry) -> None:
    for request in ("GET /health", "GET /metadata", "POST /commands", "GET /nothing"):
        for secret, code in ((None, "no_token"), ("wrong", "wrong_token"), (host.secret[:-1], "wrong_token")):
            status, answer = await ask(host, request, secret=secret)
            assert (status, answer["code"]) == (401, code)
            assert host.secret not in json.dumps(answer)
    assert host.secret not in repr(host) + str(host) + repr(registry)
    guard = registry.store_path.with_name(registry.store_path.name + ".guard")
    assert host.secret.encode() not in guard.read_bytes()


async def test_the_files_are_gone_with_the_host(tmp_path: Path) -> None:
    async with setup(use={"task_runner": TaskRunner}, store=tmp_path / "q.duckdb") as registry:
        found = find_host(registry.store_path)
        assert found is not None
    assert not found.socket.exists()
    assert not secret_of(found.socket).exists()
    assert find_host(registry.store_path) is None


async def test_each_host_has_another_secret(tmp_path: Path) -> None:
    secrets: set[str] = set()
    for _ in range(2):
        async with setup(store=tmp_path / "q.duckdb") as registry:
            found = find_host(registry.store_path)
            assert found is not None
            secrets.add(found.secret)
    assert len(secrets) == 2


def killed_host(store: Path) -> RunningHost:
    """A host in another process, after ``kill -9``."""
    code = (
        "import asyncio, sys; from agentq_nb import setup\n"
        f"async def main():\n    await setup(store={str(store)!r}).start()\n    print('up', flush=True)\n"
        "    await asyncio.sleep(600)\nasyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=PROJECT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        killed = find_host(store)
        assert killed is not None
        process.send_signal(signal.SIGKILL)
    return killed


def end_of(child: int) -> None:
    os.waitpid(child, 0)


async def test_what_a_killed_host_left_is_replaced(tmp_path: Path) -> None:
    store = tmp_path / "q.duckdb"
    killed = killed_host(store)
    assert killed.socket.exists()
    assert find_host(store) is None
    async with setup(store=store):
        found = find_host(store)
        assert found is not None
        assert (found.socket, found.pid) == (killed.socket, os.getpid())
        assert found.secret != killed.secret
        assert (await ask(found))[0] == 200
        assert (await ask(found, secret=killed.secret))[0] == 401


@pytest.mark.parametrize("obstacle", ["a file", "too long", "other mode"])
async def test_a_socket_that_cannot_be_made_never_stops_the_host(
    obstacle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / ("x" * 120 if obstacle == "too long" else "run")
    folder.mkdir()
    if obstacle == "a file":
        (folder / "agentq").write_text("in the way")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder))
    if obstacle == "other mode":
        (folder / "agentq").symlink_to(tmp_path)
    async with setup(use={"task_runner": TaskRunner}, store=tmp_path / "q.duckdb") as registry:
        [notice] = [each for each in registry.notices if "cannot be reached from a shell" in each]
        assert str(folder) in notice
        assert notice in caplog.text
        assert find_host(registry.store_path) is None
        assert (await registry.status()).running


async def test_a_forked_child_neither_answers_nor_removes_the_files(host: RunningHost) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    end_of(child)
    assert host.socket.exists()
    assert (await ask(host))[0] == 200


async def test_a_forked_child_that_outlives_the_host_keeps_no_program_waiting(tmp_path: Path) -> None:
    registry = await setup(store=tmp_path / "q.duckdb").start()
    found = find_host(registry.store_path)
    assert found is not None
    release, hold = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hold)
        os.read(release, 1)
        os._exit(0)
    os.close(release)
    linked = found.socket.with_suffix(".kept")
    try:
        # As after kill -9: the socket's file stays, and only the child could still have it open.
        os.link(found.socket, linked)
        await registry.stop()
        with socket.socket(socket.AF_UNIX) as probe, pytest.raises(ConnectionRefusedError):
            probe.connect(str(linked))
    finally:
        os.close(hold)
        end_of(child)
        linked.unlink(missing_ok=True)


def test_names_are_of_the_machine_and_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    first = runtime_name(Path("/a/q.duckdb"))
    assert first != runtime_name(Path("/b/q.duckdb"))
    other = os.uname_result(("Linux", "elsewhere", "", "", ""))
    monkeypatch.setattr(os, "uname", lambda: other)
    assert runtime_name(Path("/a/q.duckdb")) != first


async def test_a_secret_that_others_can_read_is_not_used(tmp_path: Path, host: RunningHost) -> None:
    os.chmod(secret_of(host.socket), 0o644)
    assert find_host(host.store) is None
    write_private(secret_of(host.socket), host.secret)
    assert find_host(host.store) == host
