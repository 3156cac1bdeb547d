"""The shell's ``agentq`` in a second process, on the host of a real kernel: every command, watch, and a blocked cell."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.driving import PROJECT, Kernel

REVIEWER = """
import asyncio
from agentq_nb import Actor, Queue, RateLimit, Retry, agent_os, create_client

class Reviewer(Actor):
    tasks = Queue(str, reply=str, retry=Retry(attempts=1), limits=[RateLimit(50, per=60, name="anthropic")])
    mended = False

    @tasks.handler
    async def review(self, body):
        if body == "bad" and not Reviewer.mended:
            raise ValueError("it is bad")
        if body == "slow":
            await asyncio.sleep(60)
        return body.upper()
"""


class Shell:
    """Runs ``agentq`` in the kernel's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {**os.environ, "PYTHONPATH": str(PROJECT), "COLUMNS": "200"}

    @contextmanager
    def running(self, *words: str, **options: Any) -> Generator[subprocess.Popen[str]]:
        """A process, which is killed if the test does not end it."""
        command = [sys.executable, "-m", "agentq_nb.cli", *words]
        with subprocess.Popen(command, cwd=self._folder, env=self._environment, text=True, **options) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, *words: str) -> tuple[int, str, str]:
        """The exit status, stdout, and stderr."""
        with self.running(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            printed, errors = process.communicate(timeout=60)
        return process.returncode, printed, errors

    def out(self, *words: str) -> str:
        """Stdout of a command that must succeed in the host."""
        status, printed, errors = self.run(*words)
        assert status == 0, (words, printed, errors)
        assert re.fullmatch(r"agentq: asking the host of .* \(process \d+, since .*\)\n", errors), errors
        return printed

    def refused(self, *words: str) -> tuple[int, str]:
        status, printed, errors = self.run(*words)
        assert status != 0, (words, printed, errors)
        assert printed == ""
        return status, errors.splitlines()[-1]


@pytest.fixture
def shell(kernel: Kernel) -> Shell:
    kernel.run("%load_ext agentq_nb").check()
    kernel.run(REVIEWER).check()
    kernel.run("%agentq start").check()
    return Shell(kernel.cwd)


def identity(printed: str) -> str:
    return re.findall(r"[0-9a-f]{25}", printed)[0]


def test_every_command_works_on_the_running_host(shell: Shell, kernel: Kernel) -> None:
    assert "running for" in shell.out("status")
    assert "reviewer" in shell.out("actors")
    assert "None" not in shell.out("actors")
    sent = shell.out("send", "reviewer/main", "tasks", "hello there")
    assert "%agentq" not in sent
    assert "await" not in sent
    assert '"HELLO THERE"' in _until(lambda: shell.out("results"), "HELLO")
    assert "AGAIN" in shell.out("ask", "reviewer/main", "tasks", "again")
    status, said = shell.refused("ask", "reviewer/main", "tasks", "bad")
    assert status == 1
    assert "ValueError: it is bad" in said
    dead = identity(shell.out("dead"))
    shown = shell.out("show", dead)
    assert "it is bad" in shown
    assert "failed" in shown
    kernel.run("Reviewer.mended = True").check()
    assert dead in shell.out("retry", dead)
    assert "completed" in _until(lambda: shell.out("show", dead), "completed")
    assert "Put 0" not in shell.out("retry", "--all")
    assert "paused until" in shell.out("pause", "reviewer/main", "tasks", "--for", "1h")
    assert kernel.value("(await create_client().reviewer.get_or_create('main').status()).queues[0].paused")
    waiting = identity(shell.out("send", "reviewer/main", "tasks", "waits"))
    assert "paused" not in shell.out("resume", "reviewer/main", "tasks")
    assert "WAITS" in _until(lambda: shell.out("show", waiting), "WAITS")
    slow = identity(shell.out("send", "reviewer/main", "tasks", "slow"))
    assert slow in shell.out("cancel", slow)
    assert "cancelled" in shell.out("show", slow)
    assert "Cancelled 0 messages" in shell.out("purge", "reviewer/main", "tasks", "--yes")
    assert "anthropic" in shell.out("limits")
    assert "20 (declared 50)" in shell.out("limits", "anthropic", "--count", "20")
    assert "no batches" in shell.out("batches")
    assert "No sessions" in shell.out("sessions")
    assert shell.refused("transcript", "none")[0] == 1
    assert shell.out("sql", "select", "40 + 2 as answer").split() == ["answer", "------", "42"]
    assert shell.out("export", "copy.duckdb").strip() == str(kernel.cwd / "copy.duckdb")
    assert (kernel.cwd / "copy.duckdb").exists()
    assert "Dropped" in shell.out("prune", "1d")
    assert "No VM" in shell.out("vms")
    url = re.findall(r"http://127\.0\.0\.1:\d+", shell.out("serve", "--port", "0"))[0]
    assert url in kernel.run(_SERVERS).check().text
    assert "Closed 1 server" in shell.out("serve", "--close")


_SERVERS = "from agentq_nb import current_registry; [s.url for s in current_registry()._servers.values()]"


def _until(look: Any, wanted: str) -> str:
    deadline = time.monotonic() + 20
    while wanted not in (found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def test_a_batch_of_the_notebook_is_shown(shell: Shell, kernel: Kernel) -> None:
    kernel.run(
        "b = await create_client().reviewer.get_or_create('main').send_many('tasks', ['a', 'b'], name='two')"
    ).check()
    assert "two" in shell.out("batches")
    assert "two" in _until(lambda: shell.out("batches", "two"), "2 of 2")


@pytest.mark.parametrize("command", ["start", "stop", "alerts", "dashboard"])
def test_commands_of_a_notebook_are_refused_with_where_they_work(command: str, shell: Shell) -> None:
    status, said = shell.refused(command)
    assert status == 2
    assert f"{command} works only in a notebook, as %agentq {command}" in said


def test_the_notebooks_variables_are_not_for_other_programs(shell: Shell, kernel: Kernel) -> None:
    kernel.run("secret = 'hunter2'").check()
    status, said = shell.refused("ask", "reviewer/main", "tasks", "{{secret}}")
    assert status == 2
    assert "hunter2" not in said


def test_a_second_kernel_on_the_file_is_told_how_to_use_the_host(shell: Shell, kernel: Kernel, tmp_path: Path) -> None:
    with Kernel(tmp_path) as second:
        second.run("%load_ext agentq_nb").check()
        cell = second.run("%agentq start")
        assert cell.error_name == "StoreInUse"
        assert f"agentq status --store {kernel.cwd / 'agentq.duckdb'}" in str(cell.error_value)
        assert "%agentq connect" in str(cell.error_value)


def test_a_blocked_cell_is_said_and_nothing_is_done(shell: Shell, kernel: Kernel) -> None:
    blocking = kernel.submit("import time; time.sleep(12)")
    time.sleep(1)
    status, said = shell.refused("send", "reviewer/main", "tasks", "now")
    assert status == 1
    assert "did not take the request within 5 s" in said
    assert "%agentq start --background" in said
    kernel.wait(blocking)
    assert "No message is done yet" in shell.out("results")


def test_a_command_whose_shell_is_interrupted_goes_on_or_stops_waiting(shell: Shell, kernel: Kernel) -> None:
    with shell.running(
        "ask", "reviewer/main", "tasks", "slow", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as asking:
        _until(lambda: shell.out("sql", "select status from messages"), "running")
        asking.send_signal(signal.SIGINT)
        assert asking.wait(20) == 130
    assert "running" in shell.out("sql", "select status from messages")


def test_the_host_of_a_killed_kernel_is_not_asked(shell: Shell, kernel: Kernel) -> None:
    shell.out("send", "reviewer/main", "tasks", "kept")
    _until(lambda: shell.out("results"), "KEPT")
    kernel.kill()
    status, printed, errors = shell.run("results")
    assert (status, errors) == (0, "")
    assert "KEPT" in printed
    status, said = shell.refused("send", "reviewer/main", "tasks", "x")
    assert status == 1
    assert "send needs a host, and none runs on" in said
    kernel.restart()
    kernel.run("%load_ext agentq_nb").check()
    kernel.run(REVIEWER).check()
    kernel.run("%agentq start").check()
    assert "BACK" in shell.out("ask", "reviewer/main", "tasks", "back")


def test_watch_prints_a_block_for_each_change(shell: Shell, kernel: Kernel) -> None:
    with shell.running("watch", "--every", "0.2", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        blocks = _Blocks(watching.stdout)
        blocks.until("No actor has been used yet")
        shell.out("ask", "reviewer/main", "tasks", "hello")
        blocks.until("1 of 1")
        shell.out("pause", "reviewer/main", "tasks")
        blocks.until("(paused)")
        kernel.run("%agentq stop").check()
        blocks.until("No host runs on")
        kernel.run("%agentq start").check()
        blocks.until("(paused)")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 130
        assert watching.stderr is not None
        assert watching.stderr.read() == ""
    assert blocks.count < 12, "a block was printed although nothing had changed"


class _Blocks:
    """The blocks that watch prints."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._block = ""
        self.count = 0

    def until(self, wanted: str) -> None:
        """Read on until a block has these words."""
        while wanted not in self._block:
            line = next(self._lines)
            if re.match(r"--- \d{4}-", line):
                self.count += 1
                self._block = ""
            self._block += line
        self._block = ""


def test_watch_draws_over_what_it_drew_in_a_terminal(shell: Shell) -> None:
    ours, theirs = pty.openpty()
    with shell.running("watch", "--every", "0.2", stdin=theirs, stdout=theirs, stderr=theirs) as watching:
        os.close(theirs)
        drawn = b""
        while drawn.count(b"\x1b[H") < 3:
            drawn += os.read(ours, 65536)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 130
    os.close(ours)
    assert drawn.count(b"\x1b[2J") == 1
    assert b"every 0.2 s; Ctrl-C ends this" in drawn
    assert b"agentq host" in drawn
    assert b"Traceback" not in drawn


def test_the_socket_answers_beside_every_kernel_only_with_its_secret(shell: Shell, kernel: Kernel) -> None:
    holder = json.loads(
        (kernel.cwd / "agentq.duckdb.guard").read_bytes()[:4096].partition(b" ")[2].partition(b"\n")[0]
    )["holder"]
    assert holder["pid"] == kernel.pid
    path = Path(holder["socket"])
    secret = path.with_suffix(".secret").read_text()
    secret_elsewhere = path.with_suffix(".secret")
    secret_elsewhere.write_text("x" * len(secret))
    status, said = shell.refused("status")
    assert status == 1
    assert "not the secret of the host's socket" in said
    secret_elsewhere.write_text(secret)
    assert "running for" in shell.out("status")
