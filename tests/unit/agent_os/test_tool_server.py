"""The server of a session's tools, by itself: how it accepts connections, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest

from agentq_nb.agent_os.tools.connections import Acceptor
from agentq_nb.agent_os.tools.http_server import listen

pytestmark = pytest.mark.anyio


class Listener(socket.socket):
    """A socket whose client has hung up before it was accepted."""

    error: OSError
    tried: asyncio.Event

    def accept(self) -> Any:
        self.tried.set()
        raise self.error


async def no_app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nobody asks for anything")


@pytest.mark.parametrize("error", [BlockingIOError(), ConnectionAbortedError(), InterruptedError()], ids=repr)
async def test_a_client_that_hung_up_before_it_was_accepted_is_no_error(error: OSError) -> None:
    wrong: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: wrong.append(context))
    made: Any = None  # no connection is made

    with Listener() as listener:
        listener.error, listener.tried = error, asyncio.Event()
        listener.bind(("127.0.0.1", 0))
        acceptor = Acceptor(listener, made)
        acceptor.open()
        with socket.create_connection(listener.getsockname()):
            await listener.tried.wait()
        acceptor.close()
    assert wrong == []


async def test_a_server_that_nobody_is_connected_to_ends_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    closing = asyncio.Event()
    with socket.socket() as listener, caplog.at_level(logging.WARNING):
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        serving = asyncio.create_task(listen(no_app, listener, closing))
        _, writer = await asyncio.open_connection(*listener.getsockname())
        writer.close()
        await writer.wait_closed()
        closing.set()
        await serving
    assert caplog.records == []
