"""Listeners of the network's thread, beside other sockets of the same loop."""

from __future__ import annotations

import asyncio
import socket

import pytest

from agentq_nb.agent_os.network.relay import Listening, Slots, Stream

pytestmark = pytest.mark.anyio


async def ignore(stream: Stream) -> None:
    stream[1].close()


async def test_a_connection_that_begins_while_a_listener_closes_is_not_confused_with_it() -> None:
    # The system gives the number of a file that was closed to the next one that is opened.
    with socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(10):
            listener = socket.create_server(("127.0.0.1", 0))
            listener.setblocking(False)
            listening = Listening(listener, ignore, Slots())
            await asyncio.sleep(0.01)  # it waits for connections now
            listening.close()
            with socket.socket() as made:
                made.setblocking(False)
                async with asyncio.timeout(5):
                    await asyncio.get_running_loop().sock_connect(made, server.getsockname())
            assert listener.fileno() == -1
