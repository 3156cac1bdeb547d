"""Another user of the machine: their processes reach neither the host's socket nor its secrets, whatever was left open."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Registry
from agentq_nb._core.runtime_files import secret_of
from agentq_nb._host.registry_server import Server
from agentq_nb._store.running_host import RunningHost, find_host
from tests.unit.gateway.socket_client import ask_socket

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="peers are checked on Linux only"),
    pytest.mark.skipif(
        os.geteuid() != 0, reason="only root can become another user: run these tests as root, in a container"
    ),
]

AS_NOBODY = """
import json, os, socket, sys
path, secret, files = json.loads(sys.argv[1])
os.setgroups([])
os.setgid(int(sys.argv[3]))
os.setuid(int(sys.argv[2]))
def outcome(action):
    try:
        return action()
    except OSError as error:
        return type(error).__name__
def ask():
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(path)
        client.sendall(b"GET /health HTTP/1.1\\r\\nhost: x\\r\\nauthorization: Bearer " + secret.encode() + b"\\r\\n\\r\\n")
        return client.recv(65536).decode()
read = [outcome(lambda: open(file).read()) for file in files]
print(json.dumps({"uid": os.getuid(), "asked": outcome(ask), "read": read}))
"""


@pytest.fixture
def host(registry: Registry) -> RunningHost:
    found = find_host(registry.store_path)
    assert found is not None
    return found


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that all users can open."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_nobody(path: Path, secret: str, *files: Path) -> dict[str, Any]:
    """Ask a socket with the secret, and read files, as the user ``nobody``."""
    nobody = pwd.getpwnam("nobody")
    asked = json.dumps([str(path), secret, [str(file) for file in files]])
    command = [sys.executable, "-I", "-c", AS_NOBODY, asked, str(nobody.pw_uid), str(nobody.pw_gid)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd="/")
    said = json.loads(ran.stdout)
    assert said["uid"] == nobody.pw_uid != os.getuid()
    return said


async def test_the_folder_is_closed_to_other_users(host: RunningHost, registry: Registry, server: Server) -> None:
    assert server.token_file is not None
    runtime = host.socket.parent.parent
    before = runtime.stat().st_mode
    runtime.chmod(0o755)  # as some systems have it; ours in it is 0700
    try:
        said = as_nobody(host.socket, host.secret, secret_of(host.socket), server.token_file)
    finally:
        runtime.chmod(before)
    assert said["asked"] == "PermissionError"
    assert said["read"] == ["PermissionError", "PermissionError"]


async def test_the_socket_and_the_secrets_themselves_are_closed_too(
    host: RunningHost, server: Server, public: Path
) -> None:
    assert server.token_file is not None
    files = {"socket": host.socket, "secret": secret_of(host.socket), "token": server.token_file}
    for name, file in files.items():
        os.link(file, public / name)
    said = as_nobody(public / "socket", host.secret, public / "secret", public / "token")
    assert said["asked"] == "PermissionError"
    assert said["read"] == ["PermissionError", "PermissionError"]


async def test_a_socket_that_was_opened_to_all_still_refuses_other_users_who_know_the_secret(
    host: RunningHost, public: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    os.link(host.socket, public / "socket")
    (public / "socket").chmod(0o666)
    said = as_nobody(public / "socket", host.secret)
    assert said["asked"].startswith("HTTP/1.1 403")
    assert '"code":"other_user"' in said["asked"].replace(" ", "")
    assert "403" in caplog.text
    assert host.secret not in caplog.text
    assert ask_socket(host.socket, host.secret)[0] == 200


async def test_files_that_another_user_has_put_there_are_not_believed(host: RunningHost, registry: Registry) -> None:
    nobody = pwd.getpwnam("nobody")
    for file in (host.socket, secret_of(host.socket), host.socket.parent):
        os.chown(file, nobody.pw_uid, nobody.pw_gid)
        try:
            assert find_host(registry.store_path) is None
        finally:
            os.chown(file, os.geteuid(), os.getegid())
    assert find_host(registry.store_path) == host
