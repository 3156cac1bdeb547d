"""One WebSocket of a client to an actor: what it asks for happens in the order in which it asked."""

from __future__ import annotations

import asyncio
import json

import pytest

from agentq_nb import Registry
from tests.unit.gateway.websocket_client import TEXT, WebSocket, masked

pytestmark = pytest.mark.anyio

PATH = "/gateway/task_runner/connect?rvt-method=getOrCreate&rvt-key=ordered"
OTHERS = 20


async def _opened(url: str) -> WebSocket:
    socket = await WebSocket.open(url, PATH)
    assert (await socket.told())[0] == "Init"
    return socket


def _frame(tag: str, **value: object) -> bytes:
    return masked(json.dumps({"body": {"tag": tag, "val": value}}).encode(), TEXT)


async def test_the_first_action_after_a_subscription_is_heard_of(url: str) -> None:
    for number in range(1, 101):
        socket = await _opened(url)
        subscriptions = [
            _frame("SubscriptionRequest", eventName=event, subscribe=True)
            for event in (*(f"other-{other}" for other in range(number % OTHERS)), "added")
        ]
        socket.writer.write(b"".join((*subscriptions, _frame("ActionRequest", id=1, name="add", args=[1]))))
        async with asyncio.timeout(10):
            told = dict([await socket.told(), await socket.told()])
        assert told["Event"] == {"name": "added", "args": [{"value": number}]}
        assert told["ActionResponse"]["output"] == number
        socket.close()


async def test_the_first_action_after_an_unsubscription_is_not_heard_of(url: str) -> None:
    socket = await _opened(url)
    await socket.send("SubscriptionRequest", eventName="added", subscribe=True)
    for number in range(1, 51):
        for subscribe in (False, True, False):
            await socket.send("SubscriptionRequest", eventName="added", subscribe=subscribe)
        await socket.send("ActionRequest", id=number, name="add", args=[1])
        tag, value = await socket.told()
        assert (tag, value["id"]) == ("ActionResponse", ["$BigInt", str(number)])
    socket.close()


async def test_a_connection_that_closes_at_once_leaves_no_subscription(url: str, registry: Registry) -> None:
    for number in range(50):
        socket = await _opened(url)
        frame = _frame("SubscriptionRequest", eventName=f"event-{number}", subscribe=True)
        socket.writer.write(frame + (masked(b"", 8) if number % 2 else b""))
        await socket.writer.drain()
        socket.close()
    listeners = registry.host.listeners
    async with asyncio.timeout(10):
        while any(listeners._of_events.values()):  # noqa: ASYNC110  # no event tells of the end
            await asyncio.sleep(0.01)
    assert not any(listeners._of_events.values())
