"""Pausing, resuming and purging queues, and reading what agents said, from a real notebook and a shell."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import IN_BOTH_PLACES, NAMES_OF_PLACES, PLACES
from tests.kernel.driving import CellResult, Kernel
from tests.kernel.test_magics_files import agentq

CELL = """
from agentq_nb import Actor, Queue, agent_os, agents, create_client

class Worker(Actor):
    tasks = Queue(str, reply=str)
    other = Queue(str)

    async def run(self):
        async for message in self.queue.iter(completable=True):
            await message.complete(message.body.upper())

async def answer(session, prompt):
    for word in ("You said: ", "<b>", prompt, "</b>"):
        yield word

vm = agent_os(agents=[agents.function(answer, name="echo")], isolation="off")
"""


@pytest.fixture(scope="module", params=PLACES, ids=NAMES_OF_PLACES)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel for all tests that leave no queue paused and nothing in it."""
    folder: Path = tmp_path_factory.mktemp("pausing")
    with Kernel(folder, background=request.param) as kernel:
        load(kernel)
        yield kernel


@pytest.fixture
def alone(kernel: Kernel) -> Kernel:
    load(kernel)
    return kernel


def load(kernel: Kernel) -> None:
    kernel.run("%load_ext agentq_nb").check()
    kernel.run(CELL).check()
    kernel.run("%agentq start").check()


def shell(kernel: Kernel, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The shell command on the kernel's file, which the kernel must not have open."""
    return agentq(kernel.cwd, *arguments, "--store", "agentq.duckdb")


def forms(cell: CellResult) -> tuple[str, str]:
    cell.check()
    assert cell.html
    return cell.text, cell.html


def complaint(cell: CellResult) -> str:
    """The one line that a command which failed says."""
    assert cell.status == "error"
    said = cell.error_value or cell.stderr
    assert "\n" not in said.strip()
    assert "Traceback" not in cell.stderr
    return said


def test_a_queue_is_paused_shown_as_such_and_resumed(loaded: Kernel) -> None:
    for form in forms(loaded.run("%agentq pause worker/main tasks")):
        assert "tasks (paused)" in form
    loaded.run("receipt = %agentq send worker/main tasks hello").check()
    loaded.run("%agentq send worker/main other beside").check()
    assert loaded.value("(await receipt.result(0.2)).status") == "timed_out"
    for form in forms(loaded.run("%agentq status")):
        assert "tasks (paused)" in form
    for form in forms(loaded.run("queue = %agentq resume worker/main tasks\nqueue")):
        assert "tasks" in form
        assert "(paused" not in form
    assert loaded.value("(await receipt.result(20)).response") == "HELLO"
    assert "(paused" not in loaded.run("%agentq status").check().text
    loaded.run("%agentq resume worker/main tasks").check()


def test_a_pause_has_an_end_that_is_shown_and_comes(loaded: Kernel) -> None:
    for form in forms(loaded.run("%agentq pause worker/main tasks --until 2099-01-01T00:00+00:00")):
        assert "tasks (paused until 2099-01-01 00:00:00.000 UTC)" in form
    loaded.run("queue = %agentq pause worker/main tasks --for 1s").check()
    assert loaded.value("[queue.paused, 0 < queue.paused_until - __import__('time').time() <= 1]")[0] is True
    loaded.run("result = %agentq ask worker/main tasks later").check()
    assert loaded.value("result.response") == "LATER"


@IN_BOTH_PLACES
def test_a_pause_outlives_the_kernel_and_can_be_ended_from_a_shell(alone: Kernel) -> None:
    alone.run("%agentq send worker/main tasks first").check()
    alone.run("%agentq pause worker/main tasks").check()
    alone.run("receipt = %agentq send worker/main tasks hello\nreceipt.id").check()
    message = alone.value("receipt.id")
    alone.kill()
    shown = shell(alone, "status")
    assert "paused" in shown.stdout, shown.stderr
    assert "yes" in shown.stdout
    paused = shell(alone, "pause", "worker/main", "tasks", "--for", "1h")
    assert "tasks (paused until " in paused.stdout, paused.stderr
    alone.restart()
    load(alone)
    assert "tasks (paused until " in alone.run("%agentq status").check().text
    assert "queued" in alone.run(f"%agentq show {message}").check().text
    alone.run("%agentq stop").check()
    resumed = shell(alone, "resume", "worker/main", "tasks")
    assert "tasks" in resumed.stdout, resumed.stderr
    empty = shell(alone, "pause", "worker/main", "taks")
    assert empty.returncode == 2
    assert "holds no messages in this file" in empty.stderr
    alone.run("%agentq start").check()
    assert alone.value(f"(await create_client().receipt({message!r}).result(20)).response") == "HELLO"


def test_purging_asks_first_and_says_what_it_did(loaded: Kernel) -> None:
    loaded.run("%agentq pause worker/main tasks").check()
    for body in ("one", "two"):
        loaded.run(f"last = %agentq send worker/main tasks {body}").check()
    said = complaint(loaded.run("%agentq purge worker/main tasks"))
    assert "purge cancels what waits in queue 'tasks' of 'worker/main': 2 messages just now. Add --yes" in said
    assert loaded.value("await last.status()") == "queued"
    for form in forms(loaded.run("%agentq purge worker/main tasks --yes")):
        assert "Cancelled 2 messages" in form
    assert loaded.value("await last.status()") == "cancelled"
    loaded.run("_ = %agentq retry {last.id}".replace("{last.id}", loaded.value("last.id"))).check()
    loaded.run("%agentq resume worker/main tasks").check()
    assert loaded.value("(await last.result(20)).response") == "TWO"


@pytest.mark.parametrize("command", ["pause", "resume", "purge", "purge --yes"])
def test_names_that_mean_nothing_are_one_line(loaded: Kernel, command: str) -> None:
    said = complaint(loaded.run(f"%agentq {command} worker/main taks"))
    assert "has no queue 'taks'. Did you mean 'tasks'? It has: tasks, other." in said
    assert "No actor class is registered as 'nobody'" in complaint(loaded.run(f"%agentq {command} nobody/main tasks"))


@IN_BOTH_PLACES
def test_sessions_and_their_transcripts(alone: Kernel) -> None:
    assert "No sessions. A VM begins one with an agent" in alone.run("%agentq sessions").check().text
    alone.run(
        "box = create_client().vm.get_or_create('main')\n"
        "session = (await box.create_session('echo', keep=True)).session_id\n"
        "for text in ('first', 'second'):\n"
        "    await box.send_prompt(session, text)\n"
    ).check()
    session = alone.value("session")
    for cell in ("%agentq sessions", "%agentq sessions vm/main --last 1"):
        for form in forms(alone.run(cell)):
            assert session in form
            assert "echo" in form
    assert "No sessions of vm/other." in alone.run("%agentq sessions vm/other").check().text
    cell = alone.run(f"said = %agentq transcript {session}\nsaid")
    text, html = forms(cell)
    assert "You said: <b>first</b>" in text
    assert "You said: &lt;b&gt;second&lt;/b&gt;" in html
    assert alone.value("[(e.type, e.text) for e in said.events if e.type in ('prompt', 'text')]") == [
        ["prompt", "first"],
        ["text", "You said: <b>first</b>"],
        ["prompt", "second"],
        ["text", "You said: <b>second</b>"],
    ]
    last = alone.run(f"%agentq transcript {session} --last 1").check().text
    assert "earlier events are left out" in last
    assert "first" not in last
    assert "No session 'nothing' is known here" in complaint(alone.run("%agentq transcript nothing"))
    alone.run("%agentq stop").check()
    assert "You said: <b>second</b>" in shell(alone, "transcript", session).stdout
    assert session in shell(alone, "sessions").stdout


def test_completion_offers_the_queues_and_the_options(loaded: Kernel) -> None:
    assert loaded.complete("%agentq pause w") == ["worker/main"]
    assert loaded.complete("%agentq resume worker/main t") == ["tasks"]
    assert loaded.complete("%agentq purge worker/main --") == ["--yes"]
    assert loaded.complete("%agentq pause worker/main tasks --") == ["--for", "--until"]
    assert loaded.complete("%agentq pause --for 10m w") == ["worker/main"]
    assert loaded.complete("%agentq pause --for 10m worker/main t") == ["tasks"]
    assert loaded.complete("%agentq pause --for=10m worker/main t") == ["tasks"]
    assert "worker/main" not in loaded.complete("%agentq pause --for w")
    assert loaded.complete("%agentq tr") == ["transcript"]
