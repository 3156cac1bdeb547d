"""What is shown of the command lines of each real agent's processes: none of them holds a secret."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agentq_nb import agent_os
from agentq_nb.agent_os.agents import AcpAgent
from agentq_nb.agent_os.sandbox import isolation
from agentq_nb.agent_os.tools import TOKEN_MARK
from tests.agents.fake_llm import FakeModel, serving
from tests.agents.real_agents import KEYS, configure
from tests.agents.running import marked, new_mark
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import use_only

HEADER = "header-0123456789abcdef"
IN_URL = "in-url-0123456789abcdef"
VARIABLE = "variable-0123456789abcdef"

LOCAL_SERVER = """
import json, os, pathlib, sys
pathlib.Path(os.environ["HOME"], "told").write_text(os.environ["API_KEY"])
for line in sys.stdin:
    frame = json.loads(line)
    if "id" in frame and frame["method"] == "initialize":
        result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "near", "version": "1"}}
        print(json.dumps({"jsonrpc": "2.0", "id": frame["id"], "result": result}), flush=True)
    elif "id" in frame:
        error = {"code": -32601, "message": "no such method"}
        print(json.dumps({"jsonrpc": "2.0", "id": frame["id"], "error": error}), flush=True)
"""


def show_its_command_lines(
    agent: AcpAgent, kind: isolation.IsolationKind, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a prompt that calls a tool no command line holds a secret, though each MCP server was given its own."""
    use_only(kind, monkeypatch)
    mark = new_mark()
    lines: list[bytes] = []

    async def look() -> str:
        """Looks."""
        lines.extend(command_lines(mark))
        return "looked"

    async def program(model: FakeModel, far: str) -> None:
        mode = "off" if kind == "none" else "required"
        async with Machine(agent_os(agents=[agent], isolation=mode, tools=[look], hosts=[model.url]), folder) as vm:
            await configure(vm, model)
            await vm.write_file("near.py", LOCAL_SERVER)
            home = "/home/user" if kind == "bubblewrap" else str((await vm.activation()).instance._workspace.root)  # type: ignore[union-attr]
            near = {"name": "near", "command": "python3", "args": [f"{home}/near.py"], "env": {"API_KEY": VARIABLE}}
            remote = {"name": "far", "url": f"{far}?key={IN_URL}", "headers": {"Authorization": f"Bearer {HEADER}"}}
            servers = [near, remote] if agent.takes_servers else []
            session = await vm.create_session(agent.name, env=KEYS | mark, mcp_servers=servers)
            result = await vm.send_prompt(session.session_id, "@call look {}\n@say ok")
            assert result.text.endswith("ok")
            if servers:
                assert await vm.read_file("told") == VARIABLE.encode()

    with serving() as model, remote_server() as (far, asked):
        asyncio.run(program(model, far))
    if agent.takes_servers:
        assert (f"/mcp?key={IN_URL}", f"Bearer {HEADER}") in asked
    assert any(agent.name.encode() in line for line in lines)
    everything = b"\n".join(lines)
    for secret in (HEADER, IN_URL, VARIABLE, TOKEN_MARK, *KEYS.values()):
        assert secret.encode() not in everything, everything


def command_lines(mark: dict[str, str]) -> list[bytes]:
    """Those of the processes that carry the mark, and of all that started them up to this one."""
    lines: list[bytes] = []
    for process in marked(mark):
        while process not in (0, 1, os.getpid()):
            with suppress(OSError):
                lines.append(Path(f"/proc/{process}/cmdline").read_bytes())
            process = _parent(process)
    return lines


def _parent(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


@contextmanager
def remote_server() -> Generator[tuple[str, list[tuple[str, str | None]]]]:
    """An MCP server without tools, over HTTP: its URL, and the path and authorization of each request."""
    asked: list[tuple[str, str | None]] = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            frame = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer: dict[str, object] = {"jsonrpc": "2.0", "id": frame.get("id")}
            if frame["method"] == "initialize":
                about = {"name": "far", "version": "1"}
                answer["result"] = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": about}
            else:
                answer["error"] = {"code": -32601, "message": "no such method"}
            self._answer(200 if "id" in frame else 202, json.dumps(answer).encode() if "id" in frame else b"")

        def do_GET(self) -> None:
            self._answer(405, b"")

        def do_DELETE(self) -> None:
            self._answer(405, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/mcp", asked
        finally:
            server.shutdown()
