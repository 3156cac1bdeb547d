"""A receiver of notifications on loopback, that takes them, refuses them, or never answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast


class Receiver(ThreadingHTTPServer):
    """``with receiving() as receiver``: ``receiver.taken`` is what came and was taken."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken: list[dict[str, Any]] = []
        self.asked = 0
        """How many requests came, those that were refused too."""
        self.status = 200
        self.hangs = False
        self.may_end = threading.Event()
        self.came = threading.Event()
        """Set once a word was taken."""

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server_address[1]}/notices"

    @property
    def titles(self) -> list[str]:
        return [word["title"].removeprefix("agentq: ") for word in self.taken]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.may_end.set()
        receiver.shutdown()
        receiver.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        receiver = cast(Receiver, self.server)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        receiver.asked += 1
        if receiver.hangs:
            receiver.may_end.wait(60)
            return
        if receiver.status == 200:
            receiver.taken.append(body)
            receiver.came.set()
        self.send_response(receiver.status)
        self.send_header("content-length", "0")
        self.end_headers()
