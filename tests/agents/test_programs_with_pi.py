"""Programs 1 and 2 with the real Pi, in a real kernel, cell by cell; the model behind it is a fake one on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentq_nb import agents
from agentq_nb.agent_os.values import IsolationKind
from tests.agents.fake_llm import FakeModel, serving
from tests.agents.real_agents import KEY, need_agent
from tests.kernel.driving import Kernel
from tests.kernel.test_programs import (
    FILE,
    IMPORTS,
    MODELS,
    PROMPTS,
    REVIEW_SENDING,
    REVIEW_SETUP,
    REVIEWER,
    TASK,
    TASK_RUNNER,
    TASK_SENDING,
    TASK_SETUP,
    assert_all_completed_at_first_attempt,
    run_cells,
)
from tests.unit.agent_os.needs import need

CONFIGURE = """
import types
from tests.agents.real_agents import configure
await configure(create_client().vm.get_or_create([{key!r}]), types.SimpleNamespace(url={url!r}))
"""

ALONE = "mkdir busy || echo 'two at once' >> tasks.txt; sleep 0.3; echo '{prompt}' >> tasks.txt; rmdir busy"
"""A task that notices another one at work."""

FROM_START_TO_END = """
[[r[0], r[1]] for r in (await registry.sql(
    "select kind, session_id from events where kind in ('session.created', 'session.closed') order by seq"
)).rows]
"""


@pytest.fixture
def model() -> Iterator[FakeModel]:
    need_agent(agents.pi)
    with serving() as running:
        yield running


@pytest.fixture
def notebook(tmp_path: Path, model: FakeModel) -> Iterator[Kernel]:
    with Kernel(tmp_path, {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": model.url}) as kernel:
        yield kernel
    assert any(KEY in key for key in model.keys)
    for path in tmp_path.glob("*.duckdb*"):
        assert KEY.encode() not in path.read_bytes(), path


def with_pi(cell: str) -> str:
    """The cell as the program has it, where the tests without Pi put a function in its place."""
    assert 'agents.function(pi, name="pi")' in cell
    return cell.replace('agents.function(pi, name="pi")', "agents.pi")


def test_program_1_works_through_its_tasks_in_order_and_one_at_a_time(notebook: Kernel, model: FakeModel) -> None:
    model.scripts = {prompt: f"@run {ALONE.format(prompt=prompt)}\n@say did: {prompt}" for prompt in PROMPTS}
    configure = CONFIGURE.format(key="task-agent", url=model.url)
    run_cells(notebook, [IMPORTS, TASK, TASK_RUNNER, with_pi(TASK_SETUP), configure, TASK_SENDING])
    assert_all_completed_at_first_attempt(notebook, 3)
    done = notebook.value('(await create_client().vm.get_or_create(["task-agent"]).read_file("tasks.txt")).decode()')
    assert done.splitlines() == PROMPTS
    # What Node has compiled is kept for the next session: without it each would start a second later.
    compiled = '(await create_client().vm.get_or_create(["task-agent"]).list_dir(".cache/node-compile-cache"))'
    assert notebook.value(f"len({compiled})") > 0

    steps = notebook.value(FROM_START_TO_END.strip())
    assert [kind for kind, _ in steps] == ["session.created", "session.closed"] * 3
    told = notebook.value(
        "[[r[0], r[1], r[2]] for r in (await registry.sql('select session_id, type, text from transcripts "
        "order by time, index')).rows]"
    )
    for number, prompt in enumerate(PROMPTS):
        session = steps[2 * number][1]
        assert steps[2 * number + 1][1] == session
        said = [(what, text) for of, what, text in told if of == session]
        assert said[0] == ("prompt", prompt)
        assert "".join(text for what, text in said if what == "text").endswith(f"did: {prompt}")
        assert sum(what == "tool_call" for what, _ in said) == 1

    notebook.kill()
    notebook.restart()
    run_cells(notebook, [IMPORTS, TASK, TASK_RUNNER, with_pi(TASK_SETUP)])
    vm = 'create_client().vm.get_or_create(["task-agent"])'
    assert notebook.value(f'(await {vm}.read_file("tasks.txt")).decode()').splitlines() == PROMPTS
    first = notebook.value(f"[e.text for e in await {vm}.session_events({steps[0][1]!r}) if e.type == 'prompt']")
    assert first == PROMPTS[:1]


@pytest.mark.parametrize("kind", ["bubblewrap", "landlock", "none"])
def test_program_2_gets_its_review(kind: IsolationKind, notebook: Kernel, model: FakeModel) -> None:
    need(kind)
    model.scripts = {"write a summary to": "@write /home/user/review.txt 2 lines, 2 uses of any\n@say written"}
    program = with_pi(REVIEW_SETUP)
    if kind == "landlock":
        notebook.run(
            "from agentq_nb.agent_os.sandbox import isolation; isolation._tried['bubblewrap'] = 'not here'"
        ).check()
    if kind == "none":
        program = program.replace("agents=[agents.pi]", 'agents=[agents.pi], isolation="off"')
    assert "env=..." in REVIEWER
    reviewer = REVIEWER.replace("env=...", 'env={"ANTHROPIC_API_KEY": os.environ["ANTHROPIC_API_KEY"]}')
    configure = CONFIGURE.format(key="reviewer", url=model.url)
    printed = run_cells(notebook, [IMPORTS, MODELS, reviewer, program, configure, FILE, REVIEW_SENDING])
    assert printed == "Review: 2 lines, 2 uses of any\n"
    assert_all_completed_at_first_attempt(notebook, 1)
    assert notebook.value('(await client.vm.get_or_create(["reviewer"]).isolation()).kind') == kind
    assert (model.home == "/home/user") == (kind == "bubblewrap")
    sent = notebook.value("(await registry.sql(\"select text from transcripts where type = 'prompt'\")).rows[0][0]")
    assert sent == (
        "Review this code and write a summary to /home/user/review.txt:\n\nlet user: any;\nlet role: any;\n"
    )
