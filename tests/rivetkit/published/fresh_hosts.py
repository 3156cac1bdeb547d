"""Starts a fresh host for each test that asks: ``POST /hosts`` returns its url and token, ``DELETE /hosts/ID`` stops it."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import tornado.httpserver
import tornado.netutil
import tornado.web

from agentq_nb import Registry, setup
from tests.rivetkit.actors import ACTORS


class FreshHosts:
    """Hosts that have the actors of the driver tests, each with a file of its own."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._hosts: dict[str, tuple[Registry, Path]] = {}

    async def start(self) -> dict[str, str]:
        folder = Path(tempfile.mkdtemp(prefix="rivetkit-"))
        registry = setup(use=ACTORS, store=folder / "q.duckdb")
        await registry.start()
        server = await registry.serve(port=0)
        number = str(next(self._numbers))
        self._hosts[number] = (registry, folder)
        return {"id": number, "endpoint": server.url, "token": server.token}

    async def stop(self, number: str) -> None:
        registry, folder = self._hosts.pop(number)
        await registry.stop()
        shutil.rmtree(folder)

    async def stop_all(self) -> None:
        for number in list(self._hosts):
            await self.stop(number)


class _Hosts(tornado.web.RequestHandler):
    def initialize(self, hosts: FreshHosts) -> None:
        self._fresh = hosts

    async def post(self) -> None:
        self.write(await self._fresh.start())

    async def delete(self, number: str) -> None:
        await self._fresh.stop(number)


@asynccontextmanager
async def fresh_hosts() -> AsyncIterator[str]:
    """Yield the url at which hosts are started and stopped."""
    hosts = FreshHosts()
    routes = [(r"/hosts", _Hosts, {"hosts": hosts}), (r"/hosts/(\d+)", _Hosts, {"hosts": hosts})]
    server = tornado.httpserver.HTTPServer(tornado.web.Application(routes))
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    try:
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    finally:
        server.stop()
        await hosts.stop_all()
