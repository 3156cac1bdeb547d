"""A real server that ends idle kernels, and kernels whose queues have work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from tests.browser.serving import JupyterServer

IDLE = 5
"""Seconds after which the server ends an idle kernel."""

CULLING = (
    f"--MappingKernelManager.cull_idle_timeout={IDLE}",
    "--MappingKernelManager.cull_interval=1",
    "--MappingKernelManager.cull_connected=True",
)

WORK = """
import asyncio
from pathlib import Path
from agentq_nb import Actor, Queue, create_client, setup

class Worker(Actor):
    tasks = Queue(int)

    async def run(self):
        async for message in self.queue.iter(completable=True):
            while not Path("{store}.done").exists():
                await asyncio.sleep(0.1)
            await message.complete()

registry = await setup(
    use={{"worker": Worker}}, store="{store}.agentq.duckdb", background={background}, keep_alive="{mode}",
    keep_alive_interval=2,
).start()
print(registry.notices)
for task in range({tasks}):
    await create_client().worker.get_or_create().send("tasks", task)
"""

DASHBOARD = """
import agentq_nb
shown = agentq_nb.dashboard()
shown
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    home = tmp_path_factory.mktemp("home")
    with JupyterServer(tmp_path_factory.mktemp("notebooks"), home, "server", options=CULLING) as running:
        yield running


def begin(server: JupyterServer, code: str) -> str:
    """A new kernel that has run a cell, without a page or anything else that is connected to it."""
    identity = str(server.request("POST", "/api/kernels", {"name": "python3"})["id"])
    client = BlockingKernelClient(connection_file=str(server.runtime / f"kernel-{identity}.json"))
    client.load_connection_file()
    client.start_channels(hb=False)
    try:
        client.wait_for_ready(timeout=60)
        shown: list[str] = []
        reply = client.execute_interactive(
            code, timeout=60, output_hook=lambda message: shown.append(str(message["content"].get("text", "")))
        )
        assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
    return identity


def living(server: JupyterServer) -> set[str]:
    return {kernel["id"] for kernel in server.request("GET", "/api/kernels")}


def until_ended(server: JupyterServer, kernels: set[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while kernels & living(server):
        assert time.monotonic() < deadline, "the server did not end them"
        time.sleep(0.2)


def test_a_kernel_is_ended_when_its_work_is_done_and_not_before(server: JupyterServer, tmp_path: Path) -> None:
    cells = {
        name: WORK.format(store=tmp_path / name, background=name == "background", mode=mode, tasks=count)
        for name, mode, count in (
            ("here", "work", 2),
            ("background", "work", 2),
            ("unkept", "never", 2),
            ("empty", "work", 0),
        )
    }
    cells["empty"] += DASHBOARD
    kernels = {name: begin(server, code) for name, code in cells.items()}
    until_ended(server, {kernels["unkept"], kernels["empty"]}, 6 * IDLE)
    at_work = {kernels["here"], kernels["background"]}  # they began before those that were ended by now
    assert at_work <= living(server)
    for name in ("here", "background"):
        (tmp_path / f"{name}.done").touch()
    until_ended(server, at_work, 6 * IDLE)


def test_the_next_start_says_that_the_work_stood_still(server: JupyterServer, tmp_path: Path) -> None:
    code = WORK.format(store=tmp_path / "work", background=False, mode="never", tasks=2)
    until_ended(server, {begin(server, code)}, 4 * IDLE)
    again = code + "\nassert 'unfinished messages; work resumes now. It was not kept alive' in str(registry.notices)"
    begin(server, again)
