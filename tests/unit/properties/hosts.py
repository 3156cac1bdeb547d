"""Hosts for property tests: real actors over any broker, on a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agentq_nb._actor.actor import Actor
from agentq_nb._brokers.base import Broker
from agentq_nb._brokers.local.host_log import LocalHostLog
from agentq_nb._client.client import Client
from agentq_nb._core.clock import Clock
from agentq_nb._host.host import Host
from agentq_nb._host.local_transport import LocalTransport
from agentq_nb._store import EventLog


@asynccontextmanager
async def hosting(broker: Broker, log: EventLog, clock: Clock, **classes: type[Actor]) -> AsyncIterator[Client]:
    """A host of these classes, stopped at the end. ``log`` is the host's own, for failures and sessions."""
    host = Host(broker, LocalHostLog(lambda: log), Path("/nowhere"), clock=clock)
    host.classes.update(classes)
    host.client = client = Client(LocalTransport.of(host))
    await host.start()
    try:
        yield client
    finally:
        await host.stop()
