"""Kernels as other front ends than JupyterLab launch them: what they say in the environment, and what they lack."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat

from tests.kernel.driving import PROJECT, Kernel

WORKER = """
%load_ext agentq_nb
from pathlib import Path
from agentq_nb import Actor, Queue, create_client, setup

class Worker(Actor):
    names = Queue(str, reply=str)

    async def run(self):
        async for message in self.queue.iter(completable=True):
            await message.complete(message.body.upper())
"""

ASKED = """
result = await create_client().worker.get_or_create().send("names", "hello", wait=True, timeout=30)
assert result.response == "HELLO", result
"""

VS_CODE = {"VSCODE_PID": "4711", "VSCODE_CWD": "/", "VSCODE_IPC_HOOK": "/tmp/none.sock", "JPY_PARENT_PID": None}
COLAB = {
    "COLAB_GPU": "",
    "COLAB_RELEASE_TAG": "release-colab_20261120",
    "COLAB_JUPYTER_TOKEN": "",
    "JPY_PARENT_PID": None,
}

COLAB_MODULES = """
import sys, types
colab, output = types.ModuleType("google.colab"), types.ModuleType("google.colab.output")
output.enable_custom_widget_manager = lambda: setattr(output, "enabled", True)
output._widgets = types.SimpleNamespace(_installed_url="https://manager.example/")
colab.output = output
sys.modules["google.colab"], sys.modules["google.colab.output"] = colab, output
"""

SHOWN = """
from IPython.utils.capture import capture_output
from agentq_nb import dashboard
with capture_output() as captured:
    dashboard()._ipython_display_()
(shown,) = captured.outputs
VIEW = "application/vnd.jupyter.widget-view+json"
"""


def test_vs_code_says_the_notebook_in_the_namespace_and_gets_its_file(tmp_path: Path) -> None:
    notebook = tmp_path / "sub" / "work.ipynb"
    notebook.parent.mkdir()
    notebook.write_text("{}")
    with Kernel(tmp_path, VS_CODE) as kernel:
        # Its extension runs lines of its own like this one.
        kernel.run(f"__vsc_ipynb_file__ = {str(notebook)!r}", silent=True, store_history=False).check()
        kernel.run(WORKER).check()
        started = kernel.run("%agentq start").check()
        assert str(notebook.with_name("work.agentq.duckdb")) in started.text
        assert "is not known here" not in started.text
        assert kernel.run(ASKED).check().silent
        assert "VS Code shows them" in kernel.run("%agentq doctor").check().text
        kernel.run(SHOWN).check()
        assert kernel.value("sorted(shown.data)") == [
            "application/vnd.jupyter.widget-view+json",
            "text/html",
            "text/plain",
        ]


def test_in_colab_the_file_is_named_in_a_notice_and_the_widget_names_its_manager(tmp_path: Path) -> None:
    with Kernel(tmp_path, COLAB) as kernel:
        kernel.run(COLAB_MODULES).check()
        kernel.run(WORKER).check()
        started = kernel.run("%agentq start").check()
        assert f"so its queues are kept in {tmp_path / 'agentq.duckdb'}" in started.text
        assert kernel.run(ASKED).check().silent
        kernel.run(SHOWN).check()
        assert kernel.value("sys.modules['google.colab.output'].enabled") is True
        manager = {"colab": {"custom_widget_manager": {"url": "https://manager.example/"}}}
        assert kernel.value("shown.metadata[VIEW]") == manager


def test_without_a_widget_manager_the_forms_that_any_page_can_draw_are_there(tmp_path: Path) -> None:
    with Kernel(tmp_path, {"JPY_PARENT_PID": None}) as kernel:
        kernel.run(WORKER + "%agentq start").check()
        kernel.run(SHOWN).check()
        assert kernel.value("shown.metadata") == {}
        assert "agentq dashboard" in kernel.value("shown.data['text/plain']")


def test_each_page_of_voila_is_a_kernel_and_the_second_one_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "app.ipynb").write_text("{}")
    voila = {"SERVER_SOFTWARE": "voila/0.5.13", "SCRIPT_NAME": "/voila/render/app.ipynb"}
    with (
        Kernel(tmp_path, {**voila, "VOILA_KERNEL_ID": "one"}) as first,
        Kernel(tmp_path, {**voila, "VOILA_KERNEL_ID": "two"}) as second,
    ):
        for kernel in (first, second):
            kernel.run(WORKER + "import os").check()
        assert "app.agentq.duckdb" in first.run("%agentq start").check().text
        refused = second.run("%agentq start")
        assert refused.error_name == "StoreInUse"
        advice = str(refused.error_value).partition("Give each page a file: ")[2].partition(". [")[0]
        second.run(f"registry = {advice}\nregistry.register(dict(worker=Worker))\nawait registry.start()").check()
        assert second.run(ASKED).check().silent
        assert (tmp_path / "two.duckdb").is_file()


def test_a_program_that_a_cell_runs_does_not_take_the_notebooks_file(tmp_path: Path) -> None:
    (tmp_path / "work.ipynb").write_text("{}")
    (tmp_path / "job.py").write_text("from agentq_nb import setup\nprint(setup().store_path.name)\n")
    with Kernel(tmp_path, {"JPY_SESSION_NAME": str(tmp_path / "work.ipynb")}) as kernel:
        assert "work.agentq.duckdb" in kernel.run(WORKER + "%agentq start").check().text
        job = (
            "import subprocess, sys; subprocess.run([sys.executable, 'job.py'], capture_output=True, text=True).stdout"
        )
        assert "agentq.duckdb" in kernel.run(job).check().text
        assert "work" not in kernel.run(job).check().text


MEETING = """
import asyncio
(Path.cwd() / "{name}.here").touch()
while not Path("{other}.here").exists():
    await asyncio.sleep(0.05)
"""


def test_two_notebooks_that_are_executed_at_once_in_one_folder_have_a_file_each(tmp_path: Path) -> None:
    names = ("one", "two")
    running: list[subprocess.Popen[str]] = []
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "IPYTHONDIR": str(tmp_path / ".ipython")}
    for name, other in (names, names[::-1]):
        cells = [WORKER, "%agentq start", MEETING.format(name=name, other=other), ASKED]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    for name in names:
        command = [sys.executable, "-m", "jupyter", "execute", "--timeout=100", f"{name}.ipynb"]
        running.append(subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, stderr=subprocess.PIPE))
    said = [process.communicate(timeout=200)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)
    assert {path.name for path in tmp_path.glob("*.duckdb")} == {"one.agentq.duckdb", "two.agentq.duckdb"}
