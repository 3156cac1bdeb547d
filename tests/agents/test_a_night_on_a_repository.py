"""Tasks on a repository overnight: limits, a kill, a crash, an approval left open and a budget, and a branch for each.

What is true is known from outside: the model's own account, the receiver of notifications, and git. ``AGENTQ_NIGHT_TASKS``
says how many tasks there are.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agents.fake_llm import Tokens, serving
from tests.agents.night_model import PRICES, MeteredNight, cost
from tests.kernel.driving import Kernel
from tests.unit.agent_os.user_repository import UserRepository
from tests.unit.host.receiver import Receiver, receiving

TASKS = int(os.environ.get("AGENTQ_NIGHT_TASKS", "10"))
LONGEST = 120 + 6.0 * TASKS  # seconds
LIMITS = [TASKS // 10, TASKS // 2]
KILL, CRASH, APPROVAL = TASKS // 3, TASKS * 7 // 10, TASKS * 8 // 10
"""The tasks at which these happen."""
CONCURRENCY = 3
BUDGET = sum(cost(Tokens("", 1000 + 10 * number, 5 + number, 300, 20)) for number in range(1, int(1.2 * TASKS)))
"""What about six tenths of the tasks cost: each takes two requests."""
AGENT = Path(__file__).with_name("small_agent.py")

NIGHT = """
import agentq_nb
from agentq_nb import LLM, Budget, Repository, agent_os, agents, create_client

agent = agents.acp("small", [{python!r}, {program!r}], readable=[{folder!r}])

def careful(request):
    return "ask" if "deploy" in request.title else "allow"

vm = agent_os(
    agents=[agent],
    workspace=Repository({repository!r}),
    llm=LLM("anthropic", "sk-the-real-key", base_url={url!r}, prices={prices!r}, budget=Budget(usd={budget!r}, hold=0)),
    permissions=careful,
    permission_timeout=None,
)
batch = await agentq_nb.map(agent, {tasks!r}, name="night", vm=vm, concurrency={concurrency})
"""

WAITING = """
vms = [row[0] for row in (await registry.sql("select distinct actor_id from sessions where status = 'open'")).rows]
waiting = []
for name in vms:
    box = create_client().map_night_vm.get_or_create(name.partition("/")[2])
    waiting += [(box, request) for request in await box.list_permission_requests()]
"""

UNSENT = """json.loads((await registry.sql(
    "select data::varchar from events where kind = 'notices.sent' order by seq desc limit 1"
)).rows[0][0])["unsent"]"""

FAILURES = """[row[0] for row in (await registry.sql(
    "select data->>'$.error.message' from events where kind = 'message.retried' order by seq"
)).rows]"""


def prompt(task: int) -> str:
    lines = [f"Task {task}", f"@write task-{task}.txt done by {task}"]
    if task == CRASH:
        lines.append("@run test -e ../crashed || { touch ../crashed; kill -9 $PPID; }")
    if task == APPROVAL:
        lines.append("@run echo deploy >> deployed.txt")
    return "\n".join([*lines, f"@say task {task}"])


def until(condition: Callable[[], Any], what: str, seconds: float = LONGEST) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)


class Night:
    """The notebook, and what is seen of its work from outside."""

    def __init__(self, kernel: Kernel, user: UserRepository, model: MeteredNight, receiver: Receiver) -> None:
        self.kernel, self.user, self.model, self.receiver = kernel, user, model, receiver

    def run_cells(self) -> None:
        """Run the notebook's cells, as after each start of its kernel."""
        self.kernel.run("%load_ext agentq_nb\nimport json").check()
        self.kernel.run(f"registry = %agentq start --notify {self.receiver.url}").check()
        cell = NIGHT.format(
            python=sys.executable,
            program=str(AGENT),
            folder=str(AGENT.parent),
            repository=str(self.user.path),
            url=self.model.url,
            prices=PRICES,
            budget=BUDGET,
            tasks=[prompt(task) for task in range(TASKS)],
            concurrency=CONCURRENCY,
        )
        self.kernel.run(cell).check()

    def metered(self) -> tuple[int, float]:
        """How many answers were counted, and what they cost, as the file knows it."""
        rows = self.kernel.value(
            "[list(row) for row in "
            "(await registry.sql('select count(*), sum(cost) from usage where status = 200')).rows]"
        )
        return rows[0][0], rows[0][1] or 0.0

    def statuses(self) -> Counter[str]:
        return Counter(self.kernel.value("list((await batch.frame(wait=False))['status'])"))

    def branches(self) -> list[str]:
        return self.user.git("for-each-ref", "--format=%(refname:short)", "refs/heads/agentq").split()

    def told(self, word: str) -> int:
        return sum(word in title for title in self.receiver.titles)


@pytest.mark.timeout(60 + 3 * LONGEST)
def test_by_morning_there_is_a_branch_for_each_task_but_the_one_that_waits_for_its_approval(tmp_path: Path) -> None:
    user = UserRepository(tmp_path)
    before = user.bytes()
    model = MeteredNight(LIMITS, hold_at=KILL)
    with serving(model), receiving() as receiver, Kernel(tmp_path) as kernel:
        night = Night(kernel, user, model, receiver)
        night.run_cells()
        kill_the_kernel_at_work(night)
        raise_the_budget_once_it_is_spent(night)
        until(lambda: night.statuses()["completed"] == TASKS - 1, "all but one are done")
        by_morning(night)
        approve(night)
        kernel.run("await registry.stop()").check()  # sends the words that were being gathered
        assert user.changed_since(before) == []
        assert_told_once(receiver)


def kill_the_kernel_at_work(night: Night) -> None:
    """While each agent waits for the model: what it has answered is counted, and what it has not takes nothing."""
    until(lambda: len(night.model.held) == CONCURRENCY, "the agents wait for the model")
    until(lambda: night.metered()[0] == len(night.model.counted), "all answers are counted")
    # A word that is sent in the second before a crash may come twice.
    until(lambda: night.told("limit") == 1 and night.kernel.value(UNSENT) == [], "the limit is told")
    night.kernel.kill()
    night.model.release()
    night.kernel.restart()
    night.run_cells()


def raise_the_budget_once_it_is_spent(night: Night) -> None:
    until(lambda: night.told("Budget"), "a word says that the budget is spent")
    asked, spent = len(night.model.counted), night.model.spent
    assert BUDGET <= spent <= BUDGET + CONCURRENCY * max(map(cost, night.model.counted))
    shown = night.kernel.run("%agentq status").check().text
    assert "The budget of LLM 'anthropic' is spent" in shown, shown
    time.sleep(1)
    assert len(night.model.counted) == asked
    assert "1 queue continued" in night.kernel.run(f"%agentq budget {10 * BUDGET}").check().text


def by_morning(night: Night) -> None:
    """All but one task have a branch with their work, and what was spent is what the model says."""
    assert night.statuses() == {"completed": TASKS - 1, "running": 1}
    branches = night.branches()
    assert len(branches) == TASKS - 1
    for branch in branches:
        (task,) = re.findall(r"/task-(\d+)-", branch)
        assert night.user.git("diff", "--name-only", f"main...{branch}") == f"task-{task}.txt"
        assert night.user.git("show", f"{branch}:task-{task}.txt") == f"done by {task}"
        assert night.user.git("log", "--format=%s", f"main..{branch}") == f"Task {task}"
    night.user.git("fsck", "--strict")

    answers, usd = night.metered()
    assert (answers, usd) == (len(night.model.counted), pytest.approx(night.model.spent))
    frame = "(await batch.frame(wait=False))"
    assert night.kernel.value(f"float({frame}['cost'].sum())") == pytest.approx(night.model.spent)
    tokens = sum(taken.input + taken.output for taken in night.model.counted)
    assert night.kernel.value(f"int({frame}['tokens'].sum())") == tokens
    assert max(limit.refused for limit in night.model.limits) <= CONCURRENCY
    assert min(limit.refused for limit in night.model.limits) >= 1
    # Only the kill and the crash have taken attempts.
    assert night.kernel.value(FAILURES) == ["Agent 'small' ended in the middle of a prompt (exit code 137)."]
    attempts = night.kernel.value(f"list(map(int, {frame}['attempts']))")
    assert sum(attempts) == TASKS + CONCURRENCY + 1, attempts


def approve(night: Night) -> None:
    """Answer the agent that waits: its task is done too."""
    until(lambda: night.told("asks for permission"), "a word says that an agent waits")
    night.kernel.run(WAITING).check()
    assert night.kernel.value("[request.title for _, request in waiting]") == ["echo deploy >> deployed.txt"]
    night.kernel.run("((box, request),) = waiting").check()
    night.kernel.run("await box.respond_permission(request.session_id, request.request_id, 'allow')").check()
    night.kernel.run("frame = await batch.frame()").check()
    assert night.statuses() == {"completed": TASKS}
    (branch,) = [branch for branch in night.branches() if f"/task-{APPROVAL}-" in branch]
    assert night.user.git("show", f"{branch}:deployed.txt") == "deploy"
    assert len(night.branches()) == TASKS
    assert night.metered() == (len(night.model.counted), pytest.approx(night.model.spent))


def assert_told_once(receiver: Receiver) -> None:
    said = Counter(re.sub(r"map_night_vm/\S+", "a VM", title) for title in receiver.titles)
    assert said == {
        "The provider's limit of map_night, queue 'rows', is reached": len(LIMITS),
        "Budget 'anthropic' is spent": 1,
        "An agent in a VM asks for permission": 1,
        "Batch 'night' is done": 1,
    }
