"""Deliveries to a notebook by curl: handled by an agent, their results seen in a cell, also while another cell blocks."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.driving import CellResult, Kernel

BLOCKED_IN_BACKGROUND = 30.0
BLOCKED_IN_LOOP = 8.0
"""Seconds for which a cell blocks; a request waits for 5 of them."""

SECRET = "It's a secret to everybody"

CELLS = """
import time
from pydantic import BaseModel
from agentq_nb import Actor, Queue, agent_os, agents, create_client

class Issue(BaseModel):
    title: str
    body: str

async def triage(session, prompt):
    session.write("/home/user/issue.txt", prompt)
    yield "bug" if "broken" in prompt else "question"

vm = agent_os(agents=[agents.function(triage)])

class IssueWorker(Actor):
    issues = Queue(Issue, reply=str)

    @issues.handler
    async def work(self, issue: Issue) -> str:
        vm = self.actors.vm.get_or_create(self.key)
        session = await vm.create_session("triage")
        answer = await vm.send_prompt(session.session_id, f"{issue.title}: {issue.body}")
        await vm.close_session(session.session_id)
        return answer.text
"""

SERVING = f"""
webhook = registry.webhook(
    "github",
    to=IssueWorker,
    key=lambda payload: payload["repository"]["full_name"],
    queue="issues",
    secret={SECRET!r},
    map=lambda payload: payload["issue"] if payload["action"] == "opened" else None,
)
server = await registry.serve(port=0)
"""


def issue(title: str) -> dict[str, Any]:
    described = {"title": title, "body": "Users are redirected to /undefined", "number": 7}
    return {"action": "opened", "issue": described, "repository": {"full_name": "me/shop"}}


def curl(url: str, payload: Any, delivery: str, *, timeout: float = 60) -> tuple[int, Any]:
    """Send as GitHub does, by a program of its own; the HTTP status and the answer."""
    body = json.dumps(payload).encode()
    signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "content-type": "application/json",
        "x-github-event": "issues",
        "x-github-delivery": delivery,
        "x-hub-signature-256": signature,
    }
    words = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    command = ["curl", "-sS", "-w", "\n%{http_code}", *words, "--data-binary", "@-", f"{url}/webhook/github"]
    ran = subprocess.run(command, input=body, capture_output=True, timeout=timeout, check=True)
    answer, _, status = ran.stdout.decode().rpartition("\n")
    return int(status), json.loads(answer)


@contextmanager
def serving(folder: Path, option: str) -> Generator[Kernel]:
    with Kernel(folder) as running:
        running.run("%load_ext agentq_nb").check()
        running.run(CELLS).check()
        running.run(f"registry = %agentq start {option}").check()
        running.run(SERVING).check()
        yield running


@pytest.fixture(params=["", "--background"], ids=["in the kernel's loop", "in the background"])
def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kernel]:
    with serving(tmp_path, request.param) as running:
        yield running


@pytest.fixture
def in_loop(tmp_path: Path) -> Iterator[Kernel]:
    with serving(tmp_path, "") as running:
        yield running


@pytest.fixture
def background(tmp_path: Path) -> Iterator[Kernel]:
    with serving(tmp_path, "--background") as running:
        yield running


def test_a_signed_issue_is_handled_by_an_agent_and_its_result_is_seen(kernel: Kernel) -> None:
    url = kernel.value("server.url")
    status, answer = curl(url, issue("Login broken"), "d-1")
    assert status == 202
    assert (
        kernel.value(f"(await create_client().receipt({answer['message_id']!r}).result(timeout=60)).response") == "bug"
    )
    assert curl(url, issue("Login broken"), "d-1") == (202, {**answer, "repeated": True})
    kernel.run("messages = await registry.messages('issue_worker/me%2Fshop')").check()
    assert kernel.value("messages['reply'].tolist()") == ["bug"]


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} did not appear"
        time.sleep(0.01)


def block(kernel: Kernel, seconds: float) -> CellResult:
    """Begin a cell that blocks, and return it once it does."""
    folder = Path(kernel.value("__import__('os').getcwd()"))
    cell = kernel.submit(
        f"open('blocks', 'w').close(); began = time.time(); time.sleep({seconds}); ended = time.time()"
    )
    wait_for(folder / "blocks")
    return cell


def test_while_a_cell_blocks_for_half_a_minute_issues_are_handled_in_the_background(background: Kernel) -> None:
    url = background.value("server.url")
    cell = block(background, BLOCKED_IN_BACKGROUND)
    accepted: list[str] = []
    for number in range(3):
        status, answer = curl(url, issue("Login broken"), f"d-{number}")
        assert status == 202
        accepted.append(answer["message_id"])
        time.sleep(BLOCKED_IN_BACKGROUND / 4)
    background.wait(cell, 2 * BLOCKED_IN_BACKGROUND).check()
    background.run("results = await registry.results('issue_worker')").check()
    assert background.value("sorted(results['message_id'])") == sorted(accepted)
    assert background.value("results['reply'].tolist()") == ["bug"] * 3
    assert background.value("[bool(began < each.timestamp() < ended) for each in results['finished_at']]") == [True] * 3


def test_while_a_cell_blocks_the_hosts_loop_issues_are_refused_clearly(in_loop: Kernel) -> None:
    url = in_loop.value("server.url")
    cell = block(in_loop, BLOCKED_IN_LOOP)
    status, answer = curl(url, issue("Login broken"), "d-2")
    in_loop.wait(cell).check()
    assert (status, answer["code"]) == (503, "blocked")
    assert "%agentq start --background" in answer["message"]
    status, answer = curl(url, issue("Login broken"), "d-2")
    assert status == 202
    receipt = f"create_client().receipt({answer['message_id']!r})"
    assert in_loop.value(f"(await {receipt}.result(timeout=60)).response") == "bug"


def test_what_was_accepted_survives_a_kill_and_is_not_stored_again_when_it_is_sent_again(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        for code in ("%load_ext agentq_nb", CELLS, "registry = %agentq start", SERVING):
            kernel.run(code).check()
        kernel.run("await create_client().issue_worker.get_or_create('me/shop').pause('issues')").check()
        url = kernel.value("server.url")
        accepted = [curl(url, issue(f"Page {number} broken"), f"d-{number}") for number in range(5)]
        assert {status for status, _ in accepted} == {202}
        kernel.kill()
        kernel.restart()
        for code in ("%load_ext agentq_nb", CELLS, "registry = %agentq start", SERVING):
            kernel.run(code).check()
        url = kernel.value("server.url")
        again = [curl(url, issue(f"Page {number} broken"), f"d-{number}") for number in range(5)]
        assert again == [(202, {**answer, "repeated": True}) for _, answer in accepted]
        kernel.run("await create_client().issue_worker.get_or_create('me/shop').resume('issues')").check()
        for _, answer in accepted:
            receipt = f"create_client().receipt({answer['message_id']!r})"
            assert kernel.value(f"(await {receipt}.result(timeout=60)).response") == "bug"
        kernel.run("messages = await registry.messages('issue_worker')").check()
        assert kernel.value("messages['status'].tolist()") == ["completed"] * 5
        assert kernel.value("messages['origin'].tolist()") == ["webhook:github"] * 5
