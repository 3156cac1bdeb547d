"""The three programs of the README's promise, in a real kernel, with their queues on PostgreSQL: only the address differs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.driving import Kernel
from tests.kernel.test_programs import INGEST, PROMPTS, REQUEST, REVIEWED, SERIALIZE, run_cells
from tests.postgres_queues import new_schema


@pytest.fixture(params=[False, True], ids=["in the kernel's loop", "in the background"])
def notebook(tmp_path: Path, postgres_url: str, request: pytest.FixtureRequest) -> Iterator[Kernel]:
    environment = {
        "ANTHROPIC_API_KEY": "a key that is never written",
        "AGENTQ_DB": f"{postgres_url}?schema={new_schema()}",
    }
    with Kernel(tmp_path, environment, background=request.param) as kernel:
        yield kernel


def statuses(kernel: Kernel, queue: str, count: int) -> list[str]:
    """How the messages of a queue have ended, once all have."""
    ids = f"[str(id) for id in (await registry.messages(queue={queue!r})).message_id]"
    ended = f"[(await create_client().receipt(id).result(60)).status for id in {ids}]"
    found = kernel.value(ended, timeout=90)
    assert len(found) == count
    return found


def test_one_agent_works_through_its_tasks_in_order(notebook: Kernel) -> None:
    run_cells(notebook, SERIALIZE)
    assert statuses(notebook, "tasks", 3) == ["completed"] * 3
    done = notebook.value('(await create_client().vm.get_or_create(["task-agent"]).read_file("done.txt")).decode()')
    assert done.splitlines() == PROMPTS


def test_a_review_is_requested_and_comes_back(notebook: Kernel) -> None:
    assert run_cells(notebook, REQUEST) == REVIEWED


def test_an_action_takes_in_an_issue_and_a_killed_kernel_goes_on_with_what_was_sent(notebook: Kernel) -> None:
    notebook.run("worked = []").check()
    run_cells(notebook, INGEST)
    assert statuses(notebook, "issues", 1) == ["completed"]
    assert notebook.value("worked") == ["Login redirect broken"]
    notebook.run('handle = client.issue_worker.get_or_create(["main"])').check()
    sent = notebook.value('str((await handle.send("issues", {"title": "later", "body": ""}, delay=1.0)).id)')
    notebook.kill()
    notebook.restart()
    notebook.run("worked = []").check()
    run_cells(notebook, INGEST[:-1])
    # The dead kernel's lease of the actor has to end first.
    assert notebook.value(f"(await create_client().receipt({sent!r}).result(60)).status", timeout=90) == "completed"


def test_the_magic_starts_a_host_on_an_address_and_shows_it(notebook: Kernel) -> None:
    notebook.run("%load_ext agentq_nb").check()
    notebook.run(
        "import os\nfrom agentq_nb import Actor, Queue\nclass Echo(Actor):\n    texts = Queue(str, reply=str)\n"
        "    @texts.handler\n    async def echo(self, text: str) -> str:\n        return text.upper()"
    ).check()
    notebook.run("address = os.environ.pop('AGENTQ_DB')").check()
    notebook.run("%agentq start --store {address}").check()
    notebook.run("%agentq start").check()
    answer = notebook.run('%agentq ask echo/main texts "hello"').check()
    assert "HELLO" in answer.text + answer.stdout
    status = notebook.run("%agentq status").check()
    assert "echo/main" in status.text + status.stdout
