"""pip, npm and git work over https under "web", as far as this machine reaches such hosts itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agentq_nb import agent_os
from agentq_nb.agent_os.values import ExecResult
from tests.requirements import missing
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import need_own_network, use_ports


@pytest.fixture(autouse=True, params=["namespace", "ports"])
def _network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "ports":
        use_ports(monkeypatch)
    else:
        need_own_network()


def index_of_pip() -> str:
    """The host that pip asks by itself."""
    program = "from pip._internal.models.index import PyPI; print(PyPI.netloc)"
    return subprocess.check_output([sys.executable, "-c", program], text=True).strip()


def registry_of_npm() -> str:
    """The host that npm asks by itself."""
    if shutil.which("npm") is None:
        missing("npm is not installed. Install it: apt install npm.")
    told = subprocess.check_output(["npm", "config", "get", "registry", "--userconfig=/dev/null"], text=True)
    return str(urlsplit(told.strip()).hostname)


def reach(host: str) -> None:
    """Go on only where this machine reaches the host."""
    try:
        socket.create_connection((host, 443), timeout=10).close()
    except OSError as error:
        missing(f"{host} cannot be reached from here: {error}")


async def run(folder: Path, command: str, **options: Any) -> ExecResult:
    async with Machine(agent_os(**options), folder) as vm:
        return await vm.exec(command, timeout=200)


def test_pip_downloads_a_package_under_web_and_is_refused_under_llm(tmp_path: Path) -> None:
    index = index_of_pip()
    reach(index)
    command = "env/bin/pip download --no-deps --no-cache-dir --disable-pip-version-check -d got six==1.17.0"
    result = asyncio.run(run(tmp_path, f"python3 -m venv env && {command}", network="web"))
    assert result.exit_code == 0, result
    assert len(list(tmp_path.rglob("six-1.17.0*.whl"))) == 1
    refused = asyncio.run(run(tmp_path, f"rm -r got; {command} --retries 0", network="llm"))
    assert refused.exit_code != 0
    assert any(sentence.startswith(f"{index}:443 was not reached") for sentence in refused.refused)


def test_npm_installs_a_package_under_web(tmp_path: Path) -> None:
    reach(registry_of_npm())
    command = "npm install --no-audit --no-fund --ignore-scripts is-number@7.0.0"
    result = asyncio.run(run(tmp_path, command, network="web"))
    assert result.exit_code == 0, result
    assert len(list(tmp_path.rglob("node_modules/is-number/package.json"))) == 1


def test_git_clones_over_https_through_the_proxy_with_the_certificates_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "served"
    served.mkdir()
    git = partial(subprocess.run, check=True, capture_output=True)
    git(["git", "init", "-q", str(served / "work")])
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    git(["git", *identity, "-C", str(served / "work"), "commit", "-q", "--allow-empty", "-m", "A commit to be cloned"])
    git(["git", "clone", "-q", "--bare", str(served / "work"), str(served / "repo.git")])
    git(["git", "-C", str(served / "repo.git"), "update-server-info"])
    certificate = a_certificate(tmp_path)
    monkeypatch.setenv("GIT_SSL_CAINFO", str(certificate))
    with https(served, certificate) as port:
        # The name is no address of loopback, so git has to ask the proxy.
        host = socket.gethostname()
        clone = f"git clone -q https://{host}:{port}/repo.git cloned && git -C cloned log --format=%s"
        result = asyncio.run(run(tmp_path, clone, network="llm", hosts=[f"{host}:{port}"]))
        assert result.stdout == "A commit to be cloned\n", result
        refused = asyncio.run(run(tmp_path, f"rm -rf cloned; {clone}", network="web"))
    assert refused.exit_code != 0
    assert refused.refused[0].startswith(f"{host.lower()}:{port} was not reached")


def a_certificate(folder: Path) -> Path:
    """A self-signed certificate of this machine's name, with its key, in one file."""
    key, certificate, both = folder / "key.pem", folder / "certificate.pem", folder / "both.pem"
    host = socket.gethostname()
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={host}"]
    words += ["-addext", f"subjectAltName=DNS:{host}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    both.write_text(key.read_text() + certificate.read_text())
    return both


@contextmanager
def https(folder: Path, certificate: Path) -> Iterator[int]:
    """Serves a folder over https on every address of this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ThreadingHTTPServer(("0.0.0.0", 0), partial(Quiet, directory=os.fspath(folder))) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
