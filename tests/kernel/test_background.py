"""A host in the background of a real kernel: cells block, are interrupted, restart and end, and its work goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.driving import Kernel

ACTORS = """
import asyncio, os, signal, threading, time
from agentq_nb import Actor, Queue, Retry, action, agent_os, agents, create_client, current_registry

done = []

class Worker(Actor):
    tasks = Queue(int, reply=int, retry=Retry(attempts=1))

    async def run(self):
        async for message in self.queue.iter(completable=True):
            await asyncio.sleep(0.005)
            done.append(message.body)
            self.broadcast("done", message.body)
            await message.complete(message.body * 2)

    @action
    async def block(self, seconds: float) -> str:
        time.sleep(seconds)
        return threading.current_thread().name

async def answer(session, prompt):
    session.write("answer.txt", prompt.upper())
    yield "written"

def in_a_thread(session, prompt):
    return threading.current_thread().name

vm = agent_os(agents=[agents.function(answer, name="writer"), agents.function(in_a_thread, name="thread")])
worker = lambda: create_client().worker.get_or_create("main")
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    """A kernel whose host lives in the background."""
    with Kernel(tmp_path) as running:
        begin(running)
        yield running


def begin(kernel: Kernel) -> None:
    kernel.run("%load_ext agentq_nb").check()
    kernel.run(ACTORS).check()
    kernel.run("%agentq start --background").check()


SENDING = "receipts = [await worker().send('tasks', number) for number in range(50)]"

FINISHED_DURING = """[
    len(rows), all(began < moment < ended for (moment,) in rows)
] if (rows := (await current_registry().sql(
    "select epoch(finished_at) from messages where status = 'completed' order by finished_at limit 50")).rows) else []"""


@pytest.mark.parametrize(
    "blocking",
    [
        "time.sleep(3)",
        "while len(done) < 50 and time.time() < began + 50:\n    sum(range(1000))\ntime.sleep(0.5)",
        "import subprocess\nsubprocess.run(['sleep', '3'])",
    ],
    ids=["sleep", "computation", "process"],
)
def test_fifty_tasks_finish_during_one_blocking_cell(kernel: Kernel, blocking: str) -> None:
    kernel.run("%agentq pause worker/main tasks").check()
    kernel.run(SENDING).check()
    cell = f"began = time.time()\n%agentq resume worker/main tasks\n{blocking}\nended = time.time()\ntasks = list(done)"
    kernel.run(cell, timeout=120).check()
    assert kernel.value("tasks") == list(range(50))
    assert kernel.value(FINISHED_DURING) == [50, True]
    assert kernel.value("(await current_registry().status()).stall is None") is True
    assert kernel.value("[(await receipt.result()).response for receipt in receipts[:2]]") == [0, 2]


def test_a_cell_that_blocks_and_asks_needs_no_nested_loop(kernel: Kernel) -> None:
    cell = "\n".join(
        (
            "%%time",
            "def ask(number):",
            "    x = %agentq ask worker/main tasks {}",
            "    return x.response",
            "answers = [current_registry().run(worker().send('tasks', n, wait=True)).response for n in range(3)]",
            "x = %agentq ask worker/main tasks 21",
            "answers.append(x.response)",
        )
    ).replace("{}", "4")
    kernel.run(cell + "\nanswers.append(ask(4))").check()
    assert kernel.value("answers") == [0, 2, 4, 42, 8]
    assert kernel.value("hasattr(asyncio, '_nest_patched')") is False
    kernel.run(
        "asyncio._nest_patched = True  # the mark of the old nest_asyncio, which is in nobody's way here"
    ).check()
    assert kernel.run("%%time\nx = %agentq ask worker/main tasks 5\nx.response").check().text == "10"


def test_a_thread_and_a_widgets_callback_may_send(kernel: Kernel) -> None:
    threaded = "await asyncio.to_thread(lambda: asyncio.run(worker().send('tasks', 7, wait=True)).response)"
    assert kernel.value(threaded) == 14
    assert kernel.value("current_registry().run(worker().send('tasks', 8, wait=True)).response") == 16


def test_what_listeners_print_is_shown_under_the_cell_that_added_them(kernel: Kernel) -> None:
    listening = kernel.run(
        "heard = []\n"
        "end = worker().on('done', lambda number: (print('heard', number), heard.append(threading.current_thread().name)))"
    ).check()
    kernel.run("x = %agentq ask worker/main tasks 9\nawait asyncio.sleep(0.1)").check()
    kernel.listen(0.5)
    assert kernel.value("heard") == ["MainThread"]
    assert listening.stdout == "heard 9\n"


def test_a_cell_that_is_interrupted_while_it_blocks_disturbs_no_actor(kernel: Kernel) -> None:
    kernel.run(SENDING).check()
    cell = kernel.submit("time.sleep(60)")
    kernel.listen(0.5)
    kernel.interrupt()
    assert kernel.wait(cell).error_name == "KeyboardInterrupt"
    assert kernel.value("(await receipts[-1].result(30)).response") == 98
    assert kernel.value("[(await receipt.result()).attempts for receipt in receipts] == [1] * 50") is True


def test_an_actor_that_blocks_its_thread_is_named_and_the_notebook_goes_on(kernel: Kernel) -> None:
    kernel.run("blocking = asyncio.create_task(worker().block(5.0))\nawait asyncio.sleep(0.5)").check()
    assert kernel.run("6 * 7").check().text == "42"
    deployed = kernel.run(ACTORS, timeout=10).check()  # does not wait for the blocked host for ever
    assert deployed.silent
    waiting = kernel.submit("%agentq ask worker/main tasks 1")
    kernel.listen(0.2)
    kernel.interrupt()
    assert "Stopped waiting" in (kernel.wait(waiting, 10).error_value or "") + waiting.traceback
    assert kernel.value("await blocking") == "agentq host"
    for shown in (kernel.run("%agentq status").check().text, kernel.run("%agentq doctor").check().text):
        assert "time.sleep(seconds)" in shown
        assert "self.in_thread" in shown


def test_a_blocking_cell_is_advised_to_start_in_the_background(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext agentq_nb").check()
        kernel.run("%agentq start").check()
        kernel.run("import time\ntime.sleep(1.8)").check()
        for shown in (kernel.run("%agentq status").check().text, kernel.run("%agentq doctor").check().text):
            assert "time.sleep(1.8)" in shown
            assert "%agentq start --background" in shown


def test_starting_again_keeps_the_place_and_another_place_is_one_line(kernel: Kernel) -> None:
    background = "(await current_registry().status()).background"
    for again in ("%agentq start", "%agentq start --background", "%%time\n%agentq start"):
        kernel.run(again).check()
        assert kernel.value(background) is True
    assert "the background" in kernel.run("%agentq start").check().text
    kernel.run("%agentq stop").check()
    kernel.run("%agentq start").check()
    assert kernel.value(background) is False
    for elsewhere in ("%agentq start --background", "%%time\n%agentq start --background"):
        cell = kernel.run(elsewhere)
        assert cell.error_name == "HostElsewhere"
        assert "stop it first: %agentq stop" in (cell.error_value or "")
        assert len(cell.traceback.splitlines()) == 1
    kernel.run("%%time\n%agentq stop").check()
    kernel.run("%%time\n%agentq start --background").check()
    assert kernel.value(background) is True
    assert kernel.run("x = %agentq ask worker/main tasks 3\nx.response").check().text == "6"


@pytest.mark.parametrize("ending", ["restart", "kill"])
def test_after_a_restart_the_work_is_resumed(kernel: Kernel, ending: str) -> None:
    kernel.run(
        "class Worker(Worker):\n    async def run(self):\n        await self.queue.next(completable=True)\n        await asyncio.sleep(3600)"
    ).check()
    message = kernel.value("(await worker().send('tasks', 6)).id")
    while kernel.value(f"await create_client().receipt({message!r}).status()") != "running":
        kernel.listen(0.05)
    if ending == "kill":
        kernel.kill()
    kernel.restart()
    begin(kernel)
    result = f"await create_client().receipt({message!r}).result(30)"
    assert kernel.value(f"[(r := {result}).response, r.attempts]") == [12, 1 if ending == "restart" else 2]
    counted = "select count(*) from events where kind in ('message.crashed', 'message.failed', 'message.retried')"
    assert kernel.value(f"(await current_registry().sql({counted!r})).rows") == [[0 if ending == "restart" else 1]]


def test_a_shutdown_does_not_wait_for_an_actor_that_blocks(kernel: Kernel) -> None:
    message = kernel.value("(await worker().send('tasks', 6)).id")
    kernel.run("blocking = asyncio.create_task(worker().block(3600.0))\nawait asyncio.sleep(0.5)").check()
    kernel.restart()
    begin(kernel)
    assert kernel.value(f"(await create_client().receipt({message!r}).result(30)).response") == 12
    assert kernel.value(
        "(await current_registry().sql(\"select count(*) from events where kind = 'host.stopped'\")).rows"
    ) == [[1]]


def test_a_dashboard_made_in_synchronous_code_lives_in_the_kernels_loop(kernel: Kernel) -> None:
    kernel.run("before = {thread.name for thread in threading.enumerate()}").check()
    shown = kernel.run("%%time\n%agentq dashboard").check()
    assert "application/vnd.jupyter.widget-view+json" in shown.displays[-1]
    assert kernel.value("[t.name for t in threading.enumerate() if t.name == 'agentq blocking call']") == []
    assert kernel.run("x = %agentq ask worker/main tasks 3\nx.response").check().text == "6"


def test_unloading_leaves_the_host_at_work_and_loading_finds_it_again(kernel: Kernel) -> None:
    kernel.run("%unload_ext agentq_nb").check()
    kernel.run("result = await worker().send('tasks', 4, wait=True)").check()
    assert kernel.value("result.response") == 8
    kernel.run("%load_ext agentq_nb").check()
    assert "the background" in kernel.run("%agentq start").check().text
    kernel.run("%agentq stop").check()
    assert (
        kernel.value(
            "[t.name for t in threading.enumerate() if 'agentq' in t.name and t.name != 'agentq blocking call']"
        )
        == []
    )


def test_a_machine_runs_commands_and_agents_in_the_background(kernel: Kernel) -> None:
    kernel.run("box = create_client().vm.get_or_create('main')").check()
    assert kernel.value("(await box.exec('echo $((6 * 7)); exit 3')).stdout") == "42\n"
    assert kernel.value("(await box.exec(['sleep', '60'], timeout=0.2)).timed_out") is True
    kernel.run(
        "session = (await box.create_session('writer', keep=True)).session_id\n"
        "threaded = (await box.create_session('thread', keep=True)).session_id\n"
        "events = []\n"
        "box.on('session_event', lambda event: events.append((event.type, event.text)))\n"
        "said = (await box.send_prompt(session, 'hello')).text\n"
        "await asyncio.sleep(0.2)"
    ).check()
    assert kernel.value("[said, (await box.read_file('answer.txt')).decode()]") == ["written", "HELLO"]
    assert kernel.value("('text', 'written') in events") is True
    assert kernel.value("(await box.send_prompt(threaded, 'where?')).text") != "agentq host"
    blocked = "sleeping = asyncio.create_task(box.exec('sleep 1; echo slept'))\nawait asyncio.sleep(0.2)\ntime.sleep(2)"
    kernel.run(blocked).check()
    assert kernel.value("(await sleeping).stdout") == "slept\n"
