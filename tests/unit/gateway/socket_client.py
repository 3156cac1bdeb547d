"""Ask a host over its local socket, as a program in another process would."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any


def ask_socket(
    path: Path, secret: str | None, request: str = "GET /health", body: Any = None, timeout: float = 20
) -> tuple[int, Any]:
    """The status and the JSON of the answer. Raises OSError."""
    connection = http.client.HTTPConnection("localhost", timeout=timeout)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.sock.settimeout(timeout)
        connection.sock.connect(str(path))
        method, _, target = request.partition(" ")
        headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
        connection.request(method, target, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
