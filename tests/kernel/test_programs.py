"""The three programs of the README's promise, in a real kernel, cell by cell; and their cells run again, in any order.

The agent is a Python function called ``pi``, in the place of the preset of that name.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import IN_BOTH_PLACES
from tests.kernel.driving import Kernel

IMPORTS = """
import asyncio, os
from pydantic import BaseModel
from agentq_nb import Actor, Queue, action, agent_os, agents, create_client, setup
"""

# --- 1. Serialize agent work ------------------------------------------------------------------------------------------

PI = """
async def pi(session, prompt):
    await asyncio.sleep(0.03)
    session.write("/home/user/done.txt", session.read("/home/user/done.txt") + prompt.encode() + b"\\n"
                  if session.workspace.exists("/home/user/done.txt") else prompt.encode() + b"\\n")
    yield f"Done: {prompt}"

assert os.environ["ANTHROPIC_API_KEY"]
"""

TASK = """
class Task(BaseModel):
    prompt: str
"""

TASK_RUNNER = """
class TaskRunner(Actor):
    tasks = Queue(Task)

    async def run(self):
        vm = self.actors.vm.get_or_create(["task-agent"])
        async for message in self.queue.iter():                      # one task at a time
            session = await vm.create_session("pi", env={"ANTHROPIC_API_KEY": os.environ["ANTHROPIC_API_KEY"]})
            await vm.send_prompt(session.session_id, message.body.prompt)
            await vm.close_session(session.session_id)
"""

TASK_SETUP = """
registry = setup(use={"task_runner": TaskRunner, "vm": agent_os(agents=[agents.function(pi, name="pi")])})
await registry.start()
"""

TASK_SENDING = """
runner = create_client().task_runner.get_or_create(["main"])
await runner.send("tasks", {"prompt": "Review PR #123"})
await runner.send("tasks", {"prompt": "Fix the flaky test in auth.test.ts"})
await runner.send("tasks", {"prompt": "Update the README"})
"""

PROMPTS = ["Review PR #123", "Fix the flaky test in auth.test.ts", "Update the README"]
SERIALIZE = [IMPORTS, PI, TASK, TASK_RUNNER, TASK_SETUP, TASK_SENDING]

# --- 2. Request/response with completable messages ----------------------------------------------------------------------

REVIEWING_PI = """
async def pi(session, prompt):
    await asyncio.sleep(0.03)
    source = prompt.partition("\\n\\n")[2]
    session.write("/home/user/review.txt", f"{len(source.splitlines())} lines, {source.count('any')} uses of any")
"""

MODELS = """
class ReviewRequest(BaseModel):
    file: str

class Review(BaseModel):
    summary: str
"""

REVIEWER = """
class Reviewer(Actor):
    review = Queue(ReviewRequest, reply=Review)                      # ReviewRequest.file, Review.summary

    async def run(self):
        vm = self.actors.vm.get_or_create(["reviewer"])
        session = await vm.create_session("pi", env=...)
        async for message in self.queue.iter(completable=True):
            source = (await vm.read_file(message.body.file)).decode()
            await vm.send_prompt(session.session_id, f"Review this code and write a summary to /home/user/review.txt:\\n\\n{source}")
            summary = (await vm.read_file("/home/user/review.txt")).decode()
            await message.complete(Review(summary=summary))
"""

REVIEW_SETUP = """
registry = setup(use={"reviewer": Reviewer, "vm": agent_os(agents=[agents.function(pi, name="pi")])})
await registry.start()
client = create_client()
"""

FILE = """
await client.vm.get_or_create(["reviewer"]).write_file("/home/user/src/auth.ts", "let user: any;\\nlet role: any;\\n")
"""

REVIEW_SENDING = """
result = await client.reviewer.get_or_create(["main"]).send("review", {"file": "/home/user/src/auth.ts"}, wait=True, timeout=120)
if result.status == "completed":
    print("Review:", result.response.summary)
"""

REVIEWED = "Review: 2 lines, 2 uses of any\n"
REQUEST = [IMPORTS, REVIEWING_PI, MODELS, REVIEWER, REVIEW_SETUP, FILE, REVIEW_SENDING]

# --- 3. Ingest from webhooks and other systems --------------------------------------------------------------------------

ISSUE = """
class Issue(BaseModel):
    title: str
    body: str
"""

ISSUE_WORKER = """
class IssueWorker(Actor):
    issues = Queue(Issue)

    @action
    async def ingest_issue(self, title: str, body: str) -> None:
        await self.queue.push("issues", {"title": title, "body": body})

    async def run(self): ...
"""

WORKING = """
        async for message in self.queue.iter():
            await asyncio.sleep(0.01)
            worked.append(message.body.title)
"""

ISSUE_SETUP = """
registry = setup(use={"issue_worker": IssueWorker})
await registry.start()
client = create_client()
"""

INGESTING = """
await client.issue_worker.get_or_create(["main"]).ingest_issue("Login redirect broken", "Users are redirected to /undefined")
"""

INGEST = [IMPORTS, ISSUE, ISSUE_WORKER.replace(" ...\n", WORKING), ISSUE_SETUP, INGESTING]

# --- what is asked of them ------------------------------------------------------------------------------------------------

MESSAGES = "[[row[0], row[1], row[2]] for row in (await registry.sql('select message_id, status, attempts from messages order by created_at, message_id')).rows]"
"""Of every message: id, status and attempts, by SQL."""

HOSTS = """[
    sum(task.get_name() == "agentq host" for loop in {asyncio.get_running_loop(), registry.host.portal.loop}
        for task in asyncio.all_tasks(loop)),
    sum(thread.name == "agentq log writer" for thread in __import__("threading").enumerate()),
    (await registry.sql("select count(*) from events where kind = 'host.started'")).rows[0][0],
]"""
"""Hosts by their tasks, by the threads that write, and by what the log tells."""


SEEDS = [(1, False), (2, True), (3, True)]
"""Orders in which cells are run again, and whether the host is in the background."""


@pytest.fixture
def notebook(tmp_path: Path, background: bool) -> Iterator[Kernel]:
    with Kernel(tmp_path, {"ANTHROPIC_API_KEY": "a key that is never written"}, background=background) as kernel:
        yield kernel


def run_cells(kernel: Kernel, cells: list[str]) -> str:
    """Run them one after the other; what they printed."""
    return "".join(kernel.run(cell).check().stdout for cell in cells)


def assert_all_completed_at_first_attempt(kernel: Kernel, count: int) -> None:
    """Wait for every message by its receipt, and see that receipts and SQL agree. Never more than one host."""
    sent = [row[0] for row in kernel.value(MESSAGES)]
    kernel.run(f"results = [await create_client().receipt(id).result(60) for id in {sent!r}]", timeout=90).check()
    assert kernel.value("[[r.message_id, r.status, r.attempts] for r in results]") == [
        [message, "completed", 1] for message in sent
    ]
    assert kernel.value(MESSAGES) == [[message, "completed", 1] for message in sent]
    assert len(sent) == count
    assert kernel.value(HOSTS) == [1, 1, 1]


def run_again_in_any_order(kernel: Kernel, cells: list[str], sending: str, seed: int) -> int:
    """Run the cells again in a random order, several times without waiting; how often the sending one was run."""
    order = cells * 3
    random.Random(seed).shuffle(order)
    for cell in kernel.run_all(order, timeout=120):
        cell.check()
    return order.count(sending)


@IN_BOTH_PLACES
def test_one_agent_works_through_its_tasks_in_order(notebook: Kernel) -> None:
    run_cells(notebook, SERIALIZE)
    assert_all_completed_at_first_attempt(notebook, 3)
    done = notebook.value('(await create_client().vm.get_or_create(["task-agent"]).read_file("done.txt")).decode()')
    assert done.splitlines() == PROMPTS
    prompts = "select text from transcripts where type = 'prompt' order by time, index"
    assert notebook.value(f"(await registry.sql({prompts!r})).rows") == [[prompt] for prompt in PROMPTS]
    assert b"a key that is never written" not in notebook_bytes(notebook)


def notebook_bytes(kernel: Kernel) -> bytes:
    return b"".join(path.read_bytes() for path in kernel.cwd.glob("agentq.duckdb*"))


@IN_BOTH_PLACES
def test_a_review_comes_back_as_the_typed_reply(notebook: Kernel) -> None:
    assert run_cells(notebook, REQUEST) == REVIEWED
    assert_all_completed_at_first_attempt(notebook, 1)
    assert notebook.value("type(result.response) is Review and result.attempts") == 1
    assert notebook.value("(await client.receipt(result.message_id).result()).response.model_dump()") == {
        "summary": "2 lines, 2 uses of any"
    }


@IN_BOTH_PLACES
def test_an_ingested_issue_waits_until_its_worker_is_written(notebook: Kernel) -> None:
    """The program as it stands has a ``run`` that does nothing: what came in waits for the cell to be run again."""
    run_cells(notebook, [IMPORTS, ISSUE, ISSUE_WORKER, ISSUE_SETUP, INGESTING])
    assert [row[1:] for row in notebook.value(MESSAGES)] == [["queued", 0]]
    notebook.run("worked = []").check()
    run_cells(notebook, [ISSUE_WORKER.replace(" ...\n", WORKING), ISSUE_SETUP, INGESTING])
    assert_all_completed_at_first_attempt(notebook, 2)
    assert notebook.value("worked") == ["Login redirect broken"] * 2


@pytest.mark.parametrize(("seed", "background"), SEEDS, indirect=["background"])
def test_cells_of_the_task_runner_in_any_order_lose_nothing(notebook: Kernel, seed: int) -> None:
    run_cells(notebook, SERIALIZE)
    sent = 1 + run_again_in_any_order(notebook, SERIALIZE, TASK_SENDING, seed)
    assert_all_completed_at_first_attempt(notebook, 3 * sent)
    done = notebook.value('(await create_client().vm.get_or_create(["task-agent"]).read_file("done.txt")).decode()')
    assert done.splitlines() == PROMPTS * sent


@pytest.mark.parametrize(("seed", "background"), SEEDS, indirect=["background"])
def test_cells_of_the_reviewer_in_any_order_lose_nothing(notebook: Kernel, seed: int) -> None:
    run_cells(notebook, REQUEST)
    sent = 1 + run_again_in_any_order(notebook, REQUEST, REVIEW_SENDING, seed)
    assert_all_completed_at_first_attempt(notebook, sent)


@pytest.mark.parametrize(("seed", "background"), SEEDS, indirect=["background"])
def test_cells_of_the_issue_worker_in_any_order_lose_nothing(notebook: Kernel, seed: int) -> None:
    notebook.run("worked = []").check()
    run_cells(notebook, INGEST)
    sent = 1 + run_again_in_any_order(notebook, INGEST, INGESTING, seed)
    assert_all_completed_at_first_attempt(notebook, sent)
    assert notebook.value("worked") == ["Login redirect broken"] * sent


@IN_BOTH_PLACES
@pytest.mark.parametrize("alone", [TASK_RUNNER, TASK_SETUP], ids=["class", "setup"])
def test_a_cell_run_again_alone_while_tasks_are_handled_loses_nothing(notebook: Kernel, alone: str) -> None:
    run_cells(notebook, [*SERIALIZE, TASK_SENDING])
    for pause in (0, 0.01, 0.02, 0.03, 0.05, 0, 0, 0.03):
        notebook.run(alone).check()
        notebook.run(f"await asyncio.sleep({pause})").check()
    assert_all_completed_at_first_attempt(notebook, 6)
    done = notebook.value('(await create_client().vm.get_or_create(["task-agent"]).read_file("done.txt")).decode()')
    assert done.splitlines() == PROMPTS * 2


@pytest.mark.parametrize(("seed", "background"), SEEDS[:2], indirect=["background"])
def test_cells_run_again_while_reviews_are_written_lose_none(notebook: Kernel, seed: int) -> None:
    run_cells(notebook, REQUEST)
    send_only = REVIEW_SENDING.partition("\n")[2].partition("\n")[0].replace(", wait=True, timeout=120", "")
    cells = [send_only, send_only, REVIEWER, REVIEW_SETUP, REVIEWING_PI, MODELS]
    sent = 1 + run_again_in_any_order(notebook, cells, send_only, seed)
    assert_all_completed_at_first_attempt(notebook, sent)
    notebook.run(REVIEW_SETUP).check()
    assert notebook.run(REVIEW_SENDING).check().stdout == REVIEWED
    assert notebook.value("[r.response.summary for r in results]") == ["2 lines, 2 uses of any"] * sent


@IN_BOTH_PLACES
def test_with_the_extension_loaded_the_cells_alone_deploy_and_still_there_is_one_host(notebook: Kernel) -> None:
    notebook.run("%load_ext agentq_nb").check()
    run_cells(notebook, SERIALIZE)
    sent = 1 + run_again_in_any_order(notebook, [*SERIALIZE, "%agentq start"], TASK_SENDING, 4)
    assert_all_completed_at_first_attempt(notebook, 3 * sent)
