"""Prompts without a page: actors work while nobody types, and what needs a page says so."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.kernel.driving import PROJECT
from tests.kernel.terminal import ASYNCIO, COLOURED, IPYTHON, Terminal

ACTORS = """
from pathlib import Path
from agentq_nb import Actor, Queue, agent_os, agents, create_client, setup
import agentq_nb

class Worker(Actor):
    names = Queue(str, reply=str)

    async def run(self):
        async for message in self.queue.iter(completable=True):
            if message.body == "broken":
                await message.fail("it is broken")
            else:
                Path(message.body).write_text("done")
                await message.complete(message.body.upper())

async def answer(session, prompt):
    session.write("/home/user/said.txt", prompt.encode())
    return f"{len(prompt.split())} words"

vm = agent_os(agents=[agents.function(answer, name="counter")])
"""

PROGRAM = """
import asyncio
import uvloop
from actors import *

async def main():
    print(type(asyncio.get_running_loop()).__module__)
    async with setup(use={{"worker": Worker, "vm": vm}}, background={background}) as registry:
        worker, machine = create_client().worker.get_or_create(), create_client().vm.get_or_create()
        print((await worker.send("names", "file", wait=True, timeout=30)).response)
        session = await machine.create_session("counter")
        print((await machine.send_prompt(session.session_id, "two words")).text)
        print((await machine.exec("cat said.txt")).stdout)
        sleeper = await machine.spawn("sleep 60")
        await machine.kill(sleeper.process_id)
        print(len(await registry.messages()))

uvloop.run(main())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "actors.py").write_text(ACTORS)
    return tmp_path


def wait_for(file: Path, seconds: float = 60) -> None:
    """Wait until an actor has made it; nothing is typed meanwhile."""
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < deadline, f"the actor did not work within {seconds:g} s"
        time.sleep(0.05)


@pytest.fixture
def ipython(folder: Path) -> Terminal:
    return Terminal(folder, IPYTHON)


@pytest.mark.parametrize("start", ["%agentq start", "registry = await setup(use={'worker': Worker}).start()"])
def test_in_ipython_actors_work_between_two_lines(folder: Path, ipython: Terminal, start: str) -> None:
    with ipython:
        assert ipython.line("%load_ext agentq_nb") == ""
        ipython.line("%run actors.py")
        ipython.line(start)
        ipython.line("worker = create_client().worker.get_or_create()")
        assert ipython.line("receipt = await worker.send('names', 'first')") == ""
        wait_for(folder / "first")
        assert "FIRST" in ipython.line("await receipt.result(timeout=30)")
        assert "the background" in ipython.line("%agentq status")
        assert "SECOND" in ipython.line("%agentq ask worker/default names second")
        assert "state" in ipython.line("%agentq stop")


def test_in_ipython_the_loop_of_the_terminal_can_be_had_all_the_same(folder: Path, ipython: Terminal) -> None:
    with ipython:
        ipython.line("%run actors.py")
        ipython.line("registry = await setup(use={'worker': Worker}, background=False).start()")
        assert ipython.line("registry.background").endswith("False")
        ipython.line("worker = create_client().worker.get_or_create()")
        assert "FIRST" in ipython.line("await worker.send('names', 'first', wait=True, timeout=30)")


def test_in_ipython_failures_are_told_after_a_line(folder: Path, ipython: Terminal) -> None:
    with ipython:
        ipython.line("%load_ext agentq_nb")
        ipython.line("%run actors.py")
        ipython.line("%agentq start")
        ipython.line("worker = create_client().worker.get_or_create()")
        said = ipython.line("(await worker.send('names', 'broken', wait=True, timeout=30)).status")
        assert "'failed'" in said
        assert "agentq: " in said
        assert "AttributeError" not in said


@pytest.mark.parametrize("line", ["%agentq dashboard", "agentq_nb.dashboard()"])
def test_in_ipython_a_dashboard_says_what_to_type_instead(ipython: Terminal, line: str) -> None:
    with ipython:
        ipython.line("%load_ext agentq_nb")
        ipython.line("%run actors.py")
        ipython.line("%agentq start")
        said = ipython.line(line)
        assert "NoPage: A dashboard needs a page with widgets" in said
        assert "%agentq status" in said


def test_at_the_prompt_of_asyncio_actors_work_between_two_lines(folder: Path) -> None:
    with Terminal(folder, ASYNCIO) as prompt:
        prompt.line("from actors import *")
        assert "Registry running" in prompt.line("await setup(use={'worker': Worker}).start()")
        prompt.line("worker = create_client().worker.get_or_create()")
        prompt.line("receipt = await worker.send('names', 'first')")
        wait_for(folder / "first")
        assert "FIRST" in prompt.line("await receipt.result(timeout=30)")


@pytest.mark.parametrize("background", [False, True])
def test_a_program_with_uvloop_runs_actors_agents_and_processes(folder: Path, background: bool) -> None:
    (folder / "program.py").write_text(PROGRAM.format(background=background))
    ended = run(folder, "program.py")
    assert ended.stdout.splitlines() == ["uvloop", "FILE", "2 words", "two words", "1"], ended.stderr
    assert ended.stderr == ""


def test_lines_with_a_loop_each_say_why_the_host_has_gone(folder: Path) -> None:
    lines = """
import asyncio
from actors import *
asyncio.run(setup(use={"worker": Worker}).start())
asyncio.run(create_client().worker.get_or_create().send("names", "first"))
"""
    (folder / "program.py").write_text(lines)
    ended = run(folder, "program.py")
    (said,) = (line for line in ended.stderr.splitlines() if "NoHost:" in line)
    assert ended.returncode == 1
    assert "asyncio.run() does that to all tasks when it returns" in said
    assert "background=True" in said
    advised = lines.replace("Worker}", "Worker}, background=True")
    (folder / "advised.py").write_text(advised)
    assert run(folder, "advised.py").returncode == 0


def run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory(dir="/tmp") as runtime:  # a socket's path has to be short
        return subprocess.run(
            [sys.executable, program],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(PROJECT), "XDG_RUNTIME_DIR": runtime},
            capture_output=True,
            text=True,
            timeout=120,
        )


DIFF = r"Diff('fix', '0' * 40, 'diff --git a/x b/x\n@@ -1 +1 @@\n-old\n+new\n', (), 1, 1)"


@pytest.mark.parametrize(
    ("prompt", "kind", "in_colours"), [(COLOURED, "xterm", True), (COLOURED, "dumb", False), (IPYTHON, "xterm", False)]
)
def test_ipython_shows_diffs_in_the_colours_that_its_terminal_has(
    folder: Path, prompt: tuple[list[str], str], kind: str, in_colours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Terminal(folder, prompt, kind) as terminal:
        terminal.line("%load_ext agentq_nb")
        terminal.line("from agentq_nb.agent_os import Diff")
        assert "\n  -old\n  +new" in terminal.line(DIFF)
        assert ("\x1b[31m  -old\x1b[0m\n\x1b[32m  +new\x1b[0m" in terminal.shown) is in_colours
        assert "[Diff(branch='fix'" in terminal.line(f"[{DIFF}]")
