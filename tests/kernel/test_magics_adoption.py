"""A notebook that was renamed goes on with its work, in real kernels; nobody begins an empty file unawares."""

from __future__ import annotations

from pathlib import Path

from tests.kernel.driving import CellResult, Kernel

CELL = """
from agentq_nb import Actor, Queue, agent_os, agents, create_client

def echo(session, prompt):
    session.write("said.txt", prompt)
    return prompt

vm = agent_os(agents=[agents.function(echo)])

class Worker(Actor):
    tasks = Queue(str, reply=str)

    async def run(self):
        box = self.actors.vm.get_or_create("box")
        async for message in self.queue.iter(completable=True):
            session = await box.create_session("echo")
            await box.send_prompt(session.session_id, message.body)
            await message.complete(message.body.upper())
"""


def kernel_of(notebook: Path) -> Kernel:
    return Kernel(notebook.parent, {"JPY_SESSION_NAME": str(notebook), "AGENTQ_DB": None})


def load(kernel: Kernel) -> None:
    kernel.run("%load_ext agentq_nb").check()
    kernel.run(CELL).check()


def one_line(cell: CellResult) -> str:
    assert cell.status == "error"
    said = (cell.traceback or cell.stderr).strip()
    assert len(said.splitlines()) == 1
    return said


def worked_in(notebook: Path) -> str:
    """Leave a notebook's kernel with one message done and two waiting; the id of the last one."""
    notebook.write_text("{}")
    with kernel_of(notebook) as kernel:
        load(kernel)
        kernel.run("%agentq start").check()
        kernel.run("%agentq ask worker/main tasks first").check()
        kernel.run("%agentq pause worker/main tasks").check()
        kernel.run("%agentq send worker/main tasks second").check()
        kernel.run("last = %agentq send worker/main tasks third").check()
        return str(kernel.value("last.id"))


def test_a_renamed_notebook_finds_its_file_again_in_one_line(tmp_path: Path) -> None:
    last = worked_in(tmp_path / "a.ipynb")
    (tmp_path / "a.ipynb").rename(tmp_path / "b.ipynb")
    with kernel_of(tmp_path / "b.ipynb") as kernel:
        load(kernel)
        said = one_line(kernel.run("%agentq start"))
        assert "a.agentq.duckdb holds 2 unfinished messages, and its notebook a.ipynb is gone" in said
        assert not (tmp_path / "b.agentq.duckdb").exists()
        assert "left_behind" in one_line(kernel.run("from agentq_nb import setup\n%agentq start"))
        kernel.run("%agentq start --adopt a.agentq.duckdb").check()
        kernel.run("%agentq resume worker/main tasks").check()
        assert kernel.value(f"(await create_client().receipt({last!r}).result(30)).response") == "THIRD"
        kernel.run("messages = %agentq sql select status from messages").check()
        assert kernel.value("list(messages['status'])") == ["completed"] * 3
        assert kernel.value("(await create_client().vm.get_or_create('box').read_file('said.txt')).decode()") == "third"
    assert {path.name for path in tmp_path.iterdir() if path.name[0] != '.'} == {
        "b.ipynb", "b.agentq", "b.agentq.duckdb", "b.agentq.duckdb.guard",
    }  # fmt: skip


def test_programs_that_use_setup_are_stopped_as_well(tmp_path: Path) -> None:
    worked_in(tmp_path / "a.ipynb")
    (tmp_path / "a.ipynb").rename(tmp_path / "b.ipynb")
    with kernel_of(tmp_path / "b.ipynb") as kernel:
        cell = kernel.run("from agentq_nb import setup\nawait setup(use={}).start()")
        assert cell.error_name == "StoreLeftBehind"
        assert not (tmp_path / "b.agentq.duckdb").exists()


def test_a_new_file_is_begun_when_that_is_said(tmp_path: Path) -> None:
    worked_in(tmp_path / "a.ipynb")
    (tmp_path / "a.ipynb").unlink()
    (tmp_path / "b.ipynb").write_text("{}")
    with kernel_of(tmp_path / "b.ipynb") as kernel:
        load(kernel)
        assert "--new" in one_line(kernel.run("%agentq start"))
        kernel.run("%agentq start --new").check()
        assert kernel.run("x = %agentq ask worker/main tasks new\nx.response").check().text == "'NEW'"
        said = one_line(kernel.run("%agentq start --adopt a.agentq.duckdb"))
        assert "Stop it first: %agentq stop" in said
        kernel.run("%agentq stop").check()
        said = one_line(kernel.run("%agentq start --adopt a.agentq.duckdb"))
        assert "is this notebook's file already, with work in it" in said
        kernel.run("%agentq start").check()
    assert (tmp_path / "a.agentq.duckdb").exists()


def test_a_file_with_history_only_is_told_of_and_can_still_be_adopted(tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_text("{}")
    with kernel_of(tmp_path / "a.ipynb") as kernel:
        load(kernel)
        kernel.run("%agentq start").check()
        kernel.run("%agentq ask worker/main tasks first").check()
    (tmp_path / "a.ipynb").rename(tmp_path / "b.ipynb")
    with kernel_of(tmp_path / "b.ipynb") as kernel:
        load(kernel)
        assert "%agentq start --adopt a.agentq.duckdb" in kernel.run("%agentq start").check().text
        kernel.run("%agentq stop").check()
        told = kernel.run("%agentq start --adopt a.agentq.duckdb").check().text
        assert "--adopt" not in told
        kernel.run("messages = %agentq sql select body->>'$' as body from messages").check()
        assert kernel.value("list(messages['body'])") == ["first"]


def test_a_host_goes_on_while_its_notebook_is_renamed(tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_text("{}")
    with kernel_of(tmp_path / "a.ipynb") as kernel:
        load(kernel)
        kernel.run("%agentq start").check()
        (tmp_path / "a.ipynb").rename(tmp_path / "b.ipynb")
        assert kernel.run("x = %agentq ask worker/main tasks on\nx.response").check().text == "'ON'"
        kernel.run("%agentq stop").check()
        kernel.run("%agentq start").check()
        assert kernel.value("len(await __import__('agentq_nb').current_registry().messages())") == 1
