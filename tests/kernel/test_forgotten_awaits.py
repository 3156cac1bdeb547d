"""A call that was not awaited is pointed out under its cell, with the line to write; in scripts it is a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.conftest import IN_BOTH_PLACES
from tests.kernel.driving import PROJECT, Kernel

ACTOR = """
%load_ext agentq_nb
from agentq_nb import Actor, Queue, action, create_client
class Runner(Actor):
    rows = Queue(int)
    async def run(self):
        async for message in self.queue.iter():
            pass
    @action
    async def double(self, number):
        return 2 * number
%agentq start
from agentq_nb._host.registry import current_registry
registry = current_registry()
client = create_client()
h = client.runner.get_or_create("main")
receipt = await h.send("rows", 0)
"""

SENT = "h.send(...) was not awaited{}: nothing was sent to actor 'runner/main'. Write: await h.send(...)"

CELLS = {
    "h.send('rows', 1)": SENT.format(""),
    "h.send('rows', 1); 1 + 1": SENT.format(""),
    "kept = h.send('rows', 1)": SENT.format(""),
    "for number in range(30): h.send('rows', number)": SENT.format(" (30 times)"),
    "kept = [h.send('rows', number) for number in range(30)]": SENT.format(" (30 times)"),
    "kept = h.send('rows', 1)\nkept.id": SENT.format(""),
    "h.double(4)": "h.double(...) of actor 'runner/main' was not awaited, so it has done nothing. Write: await h.double(",
    "h.status()": "h.status() of actor 'runner/main' was not awaited, so it has done nothing. Write: await h.status()",
    "client.runner.get_or_create('x').pause('rows')": "handle.pause(...) of actor 'runner/x' was not awaited",
    "client.runner.create('x')": "client.runner.create(...) was not awaited, so it has done nothing",
    "receipt.result(5)": "receipt.result(...) of message",
    "registry.sql('select 1')": "registry.sql(...) was not awaited, so it has done nothing. Write: await registry.sql(...)",
}


@IN_BOTH_PLACES
def test_a_forgotten_await_is_named_once_under_its_cell_with_the_line_to_write(kernel: Kernel) -> None:
    kernel.run(ACTOR).check()
    for code, told in CELLS.items():
        cell = kernel.run(code)
        shown = cell.stderr + "".join(str(result["text/plain"]) for result in cell.results)
        assert shown.count(told) == 1, code
        assert shown.count("not awaited") == 1, code
        assert "RuntimeWarning" not in shown
        assert kernel.run("1 + 1").check().stderr == "", code


def test_what_is_awaited_in_the_end_is_awaited(kernel: Kernel) -> None:
    kernel.run(ACTOR).check()
    cell = kernel.run(
        "import asyncio\nresults = await asyncio.gather(*[h.double(n) for n in range(3)])\nlater = asyncio.ensure_future(h.double(5))"
    ).check()
    assert cell.stderr == ""
    kernel.run("kept = h.double(7)").check()
    assert kernel.run("await kept").check().text == "14"
    assert kernel.run("await later").check().text == "10"


def test_other_coroutines_are_warned_of_by_python_at_their_own_line(kernel: Kernel) -> None:
    kernel.run(ACTOR).check()
    told = kernel.run("async def mine(): ...\n\nmine()\n1").check().stderr
    assert "RuntimeWarning: coroutine 'mine' was never awaited" in told
    assert ":3:" in told.splitlines()[0]


SCRIPT = """
import asyncio, sys
from agentq_nb import Actor, Queue, create_client, setup

class Runner(Actor):
    rows = Queue(int)
    async def run(self):
        self.rows.next()
        await asyncio.sleep(60)

async def main():
    async with setup(use={"runner": Runner}, store=sys.argv[1]):
        handle = create_client().runner.get_or_create("main")
        handle.send("rows", 1)  # the line
        await handle.send("rows", 2)
        while (await handle.status()).run != "running":
            await asyncio.sleep(0)

asyncio.run(main())
"""


@pytest.mark.parametrize("options", [[], ["-Wignore::RuntimeWarning"]], ids=["as it is", "ignored"])
def test_a_script_warns_where_the_call_was_dropped(tmp_path: Path, options: list[str]) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, *options, str(script), str(tmp_path / "store.duckdb")]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    if options:
        assert ended.stderr == ""
        return
    line = SCRIPT[: SCRIPT.index("# the line")].count("\n") + 1
    assert f"{script}:{line}: RuntimeWarning: handle.send(...) was not awaited: nothing was sent" in ended.stderr
    assert "self.rows.next() of actor 'runner/main' was not awaited" in ended.stderr
    assert "never awaited" not in ended.stderr
