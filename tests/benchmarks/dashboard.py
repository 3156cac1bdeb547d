"""``python -m tests.benchmarks.dashboard``: the dashboard in JupyterLab with 10,000 messages and 100 sessions shown."""

from __future__ import annotations

import ast
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.benchmarks.figures import Table, median, percentile
from tests.browser.conftest import _CHROMIUM, _FLAGS
from tests.browser.driving import Lab
from tests.browser.serving import JupyterServer

MINUTE = 60.0

CELLS = [
    """
%load_ext agentq_nb
import asyncio, time
from agentq_nb import Actor, Queue, agent_os, agents, create_client

class Worker(Actor):
    jobs = Queue(str, reply=str)

    async def run(self):
        async for message in self.queue.iter(completable=True):
            await message.complete("done")

async def talker(session, prompt):
    while True:
        await asyncio.sleep(1)
        yield "some more words of an answer that never ends. "

vm = agent_os(agents=[agents.function(talker)])
""",
    "%agentq start",
    """
workers = [create_client().worker.get_or_create(f"w{number}") for number in range(20)]
for worker in workers: await worker.pause("jobs")
await asyncio.gather(*(worker.send("jobs", f"message {number}") for worker in workers for number in range(500)))
box = create_client().vm.get_or_create("box")
sessions = [await box.create_session("talker", keep=True) for _ in range(100)]
prompts = [asyncio.create_task(box.send_prompt(session.session_id, "talk")) for session in sessions]
lone = create_client().worker.get_or_create("lone")
""",
    "%agentq dashboard",
]
WATCHING = """() => {
    window.tasks = []; window.seen = [];
    new PerformanceObserver(list => { for (const task of list.getEntries()) {
        window.tasks.push(task.duration); }
    }).observe({ entryTypes: ['longtask'] });
    new MutationObserver(() => window.seen.push(Date.now() / 1000)).observe(
        document.querySelector('[data-tile=waiting] .aq-figure'), { childList: true, characterData: true, subtree: true });
}"""
SENDING = """
sent = []
await lone.pause("jobs")
for _ in range(40):
    await asyncio.sleep(0.6)
    sent.append(time.time())
    await lone.send("jobs", "seen?")
"""
MOVING = f"""
ends = time.time() + {MINUTE + 4}
await lone.resume("jobs")
while time.time() < ends:
    await lone.send("jobs", "on and on")
    await asyncio.sleep(0.05)
"""


class Wire:
    """What the page got from the kernel."""

    def __init__(self, page: Any) -> None:
        self.sizes: dict[bytes, list[int]] = {b"patch": [], b"heartbeat": []}
        page.on("websocket", lambda socket: socket.on("framereceived", self._received))

    def _received(self, payload: str | bytes) -> None:
        data = payload if isinstance(payload, bytes) else payload.encode()
        for kind, sizes in self.sizes.items():
            if b'"type": "%s"' % kind in data or b'"type":"%s"' % kind in data:
                sizes.append(len(data))


def measure(lab: Lab, wire: Wire, notebook: Path, table: Table) -> None:
    """One run of everything."""
    lab.open_cells(notebook, CELLS)
    lab.run_all()
    lab.wait_for_selector("[data-agentq=dashboard][data-state=live]")
    shown = lab.notebook.locator("[data-agentq=dashboard]")
    shown.locator(".aq-session").first.click()
    lab.page.wait_for_timeout(3000)
    lab.page.evaluate(WATCHING)
    lab.run(SENDING)
    lab.page.wait_for_timeout(1000)
    seen = lab.page.evaluate("window.seen")
    sent = ast.literal_eval(lab.value("sent"))
    waits = [min((moment for moment in seen if moment >= at), default=at + 60) - at for at in sent]
    table.aim(table.add("event → visible change, p50", median(waits) * 1000, "ms"), median(waits), "s", at_most=0.2)
    table.add("event → visible change, p95", percentile(waits, 95) * 1000, "ms")
    lab.start(MOVING)
    lab.page.wait_for_timeout(3000)  # what JupyterLab does to add a cell is not ours
    lab.page.evaluate("window.tasks = []")
    wire.sizes[b"patch"].clear()
    lab.page.wait_for_timeout(MINUTE * 1000)
    tasks, sizes = lab.page.evaluate("window.tasks"), list(wire.sizes[b"patch"])
    lab.wait_until_done()
    table.add("updates a second, during a minute", len(sizes) / MINUTE, "/s")
    table.add("bytes an update, Jupyter's envelope included, p50", median(sizes), "bytes")
    table.add("bytes a second", sum(sizes) / MINUTE, "bytes")
    longest = max(tasks, default=0)
    row = table.add("longest task of the page's main thread in that minute", longest, "ms")
    table.aim(row, longest, "ms", at_most=100)
    table.add("tasks over 50 ms in that minute", len(tasks), "")
    nodes = shown.evaluate("root => root.querySelectorAll('*').length")
    table.aim(table.add("elements in the dashboard", nodes, ""), nodes, "", at_most=2000)
    lab.run(
        "for prompt in prompts: prompt.cancel()\nfor session in sessions: await box.close_session(session.session_id)"
    )
    lab.page.wait_for_timeout(8000)
    for kind in wire.sizes.values():
        kind.clear()
    lab.page.wait_for_timeout(10_000)
    row = table.add("updates in 10 s in which nothing changes", len(wire.sizes[b"patch"]), "")
    table.aim(row, len(wire.sizes[b"patch"]), "", at_most=0)
    table.add("bytes a heartbeat, one each second", median(wire.sizes[b"heartbeat"] or [0]), "bytes")


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="agentq-dashboard-"))
    for name in ("notebooks", "home"):
        (folder / name).mkdir()
    program = next(filter(None, map(shutil.which, _CHROMIUM)))
    table = Table()
    try:
        with JupyterServer(folder / "notebooks", folder / "home") as server, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=_FLAGS, env={"HOME": str(folder)})
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            measure(Lab(page, server), Wire(page), folder / "notebooks" / "dashboard.ipynb", table)
            browser.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"Python {platform.python_version()}, {platform.system()}; 10,000 messages, 100 sessions at work")
    print(table.render())


if __name__ == "__main__":
    main()
