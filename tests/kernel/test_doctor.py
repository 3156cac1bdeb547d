"""Doctor tells of every common trouble, each made for real here, and what to do about it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.kernel.driving import PROJECT, Kernel
from tests.unit.store.test_writing import in_small_disk

Row = tuple[str, str, str]
"""State, what was found, what to do."""

CELL = """
from agentq_nb import Actor, Queue
class Worker(Actor):
    tasks = Queue(int)
"""


def diagnosed(kernel: Kernel) -> dict[str, Row]:
    """The rows of ``%agentq doctor`` by what they are about."""
    kernel.run("%load_ext agentq_nb").check()
    kernel.run("health = %agentq doctor").check()
    rows = kernel.value("[[check.what, check.state, check.found, check.advice] for check in health.checks]")
    return {what: (state, found, advice) for what, state, found, advice in rows}


def in_shell(folder: Path, *words: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit code and output of ``agentq doctor``, each run of spaces as one."""
    ran = subprocess.run(
        [sys.executable, "-m", "agentq_nb.cli", "doctor", *words],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(PROJECT), **(environment or {})},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    return ran.returncode, " ".join((ran.stdout + ran.stderr).split())


def installed(folder: Path, name: str, version: str, requires: Sequence[str] = ()) -> None:
    """What pip leaves of an installed package, in a folder to be put first on the path."""
    facts = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    facts.mkdir(parents=True)
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder that kernels have before all others on their path."""
    made = tmp_path / "site"
    made.mkdir()
    return made


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    path = tmp_path / "nb" / "a.ipynb"
    path.parent.mkdir()
    path.write_text("{}")
    return path


def kernel_of(notebook: Path, site: Path | None = None, **environment: str | None) -> Kernel:
    path = os.pathsep.join(map(str, (site, PROJECT) if site else (PROJECT,)))
    return Kernel(
        notebook.parent, {"JPY_SESSION_NAME": str(notebook), "AGENTQ_DB": None, "PYTHONPATH": path, **environment}
    )


# --- nothing wrong ----------------------------------------------------------------------------------------------------


def test_where_all_is_well_nothing_is_a_problem(notebook: Path) -> None:
    with kernel_of(notebook) as kernel:
        before = diagnosed(kernel)
        assert before["host"] == ("notice", "not running", "Start it: %agentq start")
        assert before["file"] == ("ok", f"{notebook.parent}/a.agentq.duckdb, made by %agentq start", "")
        assert list(notebook.parent.glob("a.agentq*")) == []
        kernel.run(CELL).check()
        kernel.run("%agentq start").check()
        rows = diagnosed(kernel)
        assert [what for what, row in rows.items() if row[0] == "problem"] == []
        assert kernel.value("health.healthy") is True
        assert rows["notebook"] == ("ok", str(notebook), "")
        assert "duckdb 2." in rows["packages"][1]
        for what in ("system", "host", "file", "disk", "event loop", "widgets"):
            assert rows[what][0] == "ok", what


# --- packages ---------------------------------------------------------------------------------------------------------


def test_an_old_ipykernel_a_missing_package_and_one_that_was_upgraded_meanwhile(notebook: Path, site: Path) -> None:
    installed(site, "ipykernel", "7.3.0")
    installed(site, "pydantic", "2.99.0")
    installed(
        site, "agentq-nb", "1.0", ["ipykernel>=7.4", "pydantic>=2.11", "no-such-package>=3", 'other; extra == "x"']
    )
    with kernel_of(notebook, site) as kernel:
        rows = diagnosed(kernel)
        assert rows["ipykernel"] == (
            "problem",
            "7.3.0, and >=7.4 is needed: with older ones a cell that awaits may hang when a widget is on the page",
            'pip install "ipykernel>=7.4", then restart the kernel.',
        )
        assert rows["no-such-package"][:2] == ("problem", "not installed")
        assert rows["pydantic"][0] == "problem"
        assert "is loaded, 2.99.0 is installed" in rows["pydantic"][1]
        assert rows["pydantic"][2] == "Restart the kernel."
        assert "other" not in rows
        assert kernel.value("health.healthy") is False


def test_an_old_duckdb(notebook: Path, site: Path) -> None:
    installed(site, "duckdb", "1.4.2")
    with kernel_of(notebook, site) as kernel:
        state, found, advice = diagnosed(kernel)["duckdb"]
        assert (state, "1.4.2" in found, "pip install" in advice) == ("problem", True, True)


def test_the_old_nest_asyncio(notebook: Path, site: Path) -> None:
    (site / "nest_asyncio.py").write_text(
        "import asyncio\ndef apply():\n    asyncio._nest_patched = True  # the mark that it leaves\n"
    )
    with kernel_of(notebook, site) as kernel:
        assert "nest_asyncio" not in diagnosed(kernel)
        kernel.run("import nest_asyncio").check()
        assert diagnosed(kernel)["nest_asyncio"][0] == "notice"
        kernel.run("nest_asyncio.apply()").check()
        state, found, advice = diagnosed(kernel)["nest_asyncio"]
        assert (state, "queued cells are lost" in found, "restart the kernel" in advice) == ("problem", True, True)


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A process that looks like a Jupyter server of an environment of its own; that environment, and its number."""
    prefix = tmp_path / "env"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    script = prefix / "bin" / "jupyter-lab"
    script.write_text("import time\ntime.sleep(600)\n")
    with subprocess.Popen([str(prefix / "bin" / "python"), str(script)]) as process:
        yield prefix, process.pid
        process.kill()


def test_a_server_without_a_widget_manager(notebook: Path, server: tuple[Path, int], tmp_path: Path) -> None:
    prefix, pid = server
    with kernel_of(notebook, JUPYTER_DATA_DIR=str(tmp_path / "data"), JUPYTER_PATH=None) as kernel:
        kernel.run(f"import os; os.environ['JPY_PARENT_PID'] = '{pid}'").check()
        state, found, advice = diagnosed(kernel)["widgets"]
        assert state == "problem"
        assert f"{prefix} has no widget manager" in found
        assert f"{prefix}/bin/python -m pip install ipywidgets" in advice
        manager = prefix / "share/jupyter/labextensions/@jupyter-widgets/jupyterlab-manager/package.json"
        manager.parent.mkdir(parents=True)
        manager.write_text("{}")
        assert diagnosed(kernel)["widgets"][0] == "ok"


def test_the_server_that_really_runs_kernels_here_has_one() -> None:
    from agentq_nb._commands.doctor.front_end import widget_manager

    assert widget_manager(Path(sys.prefix)) is not None


def test_a_notebook_whose_path_is_not_known(tmp_path: Path) -> None:
    with Kernel(tmp_path, {"JPY_SESSION_NAME": None, "AGENTQ_DB": None}) as kernel:
        state, found, advice = diagnosed(kernel)["notebook"]
        assert state == "notice"
        assert f"so the file is {tmp_path}/agentq.duckdb" in found
        assert "--store PATH" in advice


def test_a_notebook_that_was_renamed_since_the_kernel_began(notebook: Path) -> None:
    with kernel_of(notebook) as kernel:
        notebook.rename(notebook.with_name("b.ipynb"))
        state, found, advice = diagnosed(kernel)["notebook"]
        assert state == "notice"
        assert "a.ipynb is not there: it was renamed" in found
        assert "keeps using a.agentq.duckdb" in advice


# --- the kernel -------------------------------------------------------------------------------------------------------


def test_a_loop_that_was_blocked_and_work_that_waits_for_its_class(notebook: Path) -> None:
    with kernel_of(notebook) as kernel:
        kernel.run("%load_ext agentq_nb").check()
        kernel.run(CELL).check()
        kernel.run("%agentq start").check()
        kernel.run("%agentq send worker/main tasks 1").check()
        kernel.run("import time\ntime.sleep(1.8)").check()
        state, found, advice = diagnosed(kernel)["blocked loop"]
        assert (state, "time.sleep(1.8)" in found) == ("notice", True)
        assert "%agentq start --background" in advice
        kernel.restart()
        kernel.run("%load_ext agentq_nb").check()
        kernel.run("%agentq start").check()
        assert diagnosed(kernel)["waiting work"] == ("notice", "for worker", "Run the cells that define these actors.")


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_file_that_another_kernel_has(notebook: Path) -> None:
    with kernel_of(notebook) as first, kernel_of(notebook) as second:
        first.run("%load_ext agentq_nb").check()
        first.run("%agentq start").check()
        state, found, advice = diagnosed(second)["file in use"]
        assert state == "problem"
        assert f"process {first.pid}" in found
        assert str(notebook) in found
        assert "Shut that kernel down" in advice


def test_a_damaged_file_a_foreign_one_and_one_without_its_guard(notebook: Path) -> None:
    with kernel_of(notebook) as kernel:
        kernel.run("%load_ext agentq_nb").check()
        kernel.run("%agentq start").check()
        kernel.kill()
        store = notebook.with_name("a.agentq.duckdb")
        journal = store.with_name(store.name + ".journal")
        content = journal.read_bytes()
        journal.unlink()
        before = {path.name: path.read_bytes() for path in notebook.parent.glob("a.agentq.duckdb*")}
        kernel.restart()
        state, found, advice = diagnosed(kernel)["file"]
        assert (state, "is damaged" in found, "--accept-loss" in advice) == ("problem", True, True)
        assert {path.name: path.read_bytes() for path in notebook.parent.glob("a.agentq.duckdb*")} == before
        journal.write_bytes(content)
        assert diagnosed(kernel)["file"][0] == "ok"
        kernel.run("%agentq start").check()
        store.with_name(store.name + ".guard").unlink()
        assert "without its guard file" in diagnosed(kernel)["file"][1]
    for path in notebook.parent.glob("a.agentq.duckdb*"):
        path.unlink()
    store.write_text("this is no database, however long it may be")
    with kernel_of(notebook) as kernel:
        state, found, _ = diagnosed(kernel)["file"]
        assert (state, "is not a file that agentq_nb made" in found) == ("problem", True)


def test_a_synchronised_folder(tmp_path: Path) -> None:
    notebook = tmp_path / "Dropbox" / "a.ipynb"
    notebook.parent.mkdir()
    notebook.write_text("{}")
    with kernel_of(notebook) as kernel:
        state, found, advice = diagnosed(kernel)["folder"]
        assert (state, "synchronised by Dropbox" in found) == ("notice", True)
        assert "%agentq start --store PATH" in advice


def test_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    folder, copy = tmp_path / "small", tmp_path / "copy"
    folder.mkdir()
    copy.mkdir()
    code = f"from agentq_nb._commands.doctor.files import _room\nfrom pathlib import Path\nopen({str(folder)!r} + '/work', 'w').write(str(_room(Path({str(folder)!r}))))"
    subprocess.run(in_small_disk(folder, [sys.executable, "-c", code], copy), check=True, cwd=PROJECT)
    said = (copy / "work").read_text()
    assert "state='problem'" in said
    assert "3.1 MB are free" in said
    assert "Make room" in said


def test_a_file_that_was_left_behind(notebook: Path) -> None:
    with kernel_of(notebook) as kernel:
        kernel.run("%load_ext agentq_nb").check()
        kernel.run(CELL).check()
        kernel.run("%agentq start").check()
        kernel.run("%agentq send worker/main tasks 1").check()
    renamed = notebook.rename(notebook.with_name("b.ipynb"))
    with kernel_of(renamed) as kernel:
        state, found, advice = diagnosed(kernel)["renamed notebook"]
        assert (state, "its notebook a.ipynb is gone" in found) == ("notice", True)
        assert advice.endswith("%agentq start --adopt a.agentq.duckdb")


# --- agents -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine that has neither agents nor Node nor bubblewrap."""
    (tmp_path / "bin").mkdir()
    return {"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "COLUMNS": "400"}


def test_no_node_and_no_agent(tmp_path: Path, bare: dict[str, str]) -> None:
    _, said = in_shell(tmp_path, environment=bare)
    assert "Node notice Most coding agents need Node 22.19 or newer, and there is none." in said
    assert "agent pi notice not here; needed only where you use it" in said
    assert "agentq agents install pi" in said


def test_a_node_that_is_too_old(tmp_path: Path, bare: dict[str, str]) -> None:
    node = tmp_path / "bin" / "node"
    node.write_text("#!/bin/sh\necho v18.20.4\n")
    node.chmod(0o755)
    _, said = in_shell(tmp_path, environment=bare)
    assert "and the one here is 18.20.4." in said


@pytest.mark.anyio
async def test_no_isolation_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    from agentq_nb._commands.doctor.agents import checks
    from agentq_nb.agent_os.sandbox import isolation

    async def refused(kind: str) -> str:
        return f"{kind} is not here"

    monkeypatch.setattr(isolation, "_tried", {})
    monkeypatch.setattr(isolation, "why_not", refused)
    (found,) = [check for check in await checks() if check.what == "isolation"]
    assert found.state == "notice"
    assert "bubblewrap is not here; landlock: landlock is not here" in found.found
    assert "Install bubblewrap" in found.advice


NO_NAMESPACE, OPEN_PORTS = "no namespace here", "no rules for ports here"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("tried", "state", "found"),
    [
        ({"namespace": "", "ports": ""}, "ok", "web, unless agent_os(network=…) says otherwise"),
        (
            {"namespace": NO_NAMESPACE, "ports": ""},
            "notice",
            f"web, kept by Landlock's rules for ports, which know no addresses ({NO_NAMESPACE})",
        ),
        (
            {"namespace": NO_NAMESPACE, "ports": OPEN_PORTS},
            "notice",
            f"open, so agents' processes reach this machine's ports, the kernel's too ({NO_NAMESPACE}; {OPEN_PORTS})",
        ),
    ],
)
async def test_the_network_of_agents_and_why_it_is_no_better(
    tried: dict[str, str], state: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentq_nb._commands.doctor.agents import checks
    from agentq_nb.agent_os.network import availability
    from agentq_nb.agent_os.sandbox import isolation

    monkeypatch.setattr(isolation, "_tried", {"bubblewrap": "not in this test", "landlock": ""})
    monkeypatch.setattr(availability, "_tried", tried)
    (check,) = [check for check in await checks() if check.what == "network of agents"]
    assert (check.state, check.found) == (state, found)
    assert ("namespaces" in check.advice) == (state == "notice")


# --- doctor itself ----------------------------------------------------------------------------------------------------


def test_a_look_that_fails_does_not_hide_the_others(notebook: Path, site: Path) -> None:
    installed(site, "agentq-nb", "1.0", ["this is no requirement ==="])
    with kernel_of(notebook, site) as kernel:
        rows = diagnosed(kernel)
        assert rows["packages"][0] == "problem"
        assert "cannot be checked: InvalidRequirement" in rows["packages"][1]
        assert {"notebook", "file", "isolation"} <= rows.keys()


def test_in_a_shell_a_folder_without_a_file_is_no_problem_and_told_how_one_comes_to_be(
    tmp_path: Path, bare: dict[str, str]
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    code, said = in_shell(folder, environment=bare)
    assert f"file ok There is no *.agentq.duckdb in {folder} yet. %agentq start in a notebook makes one" in said
    assert code == 0
    code, said = in_shell(folder, environment={**bare, "AGENTQ_DB": "later.duckdb"})
    assert f"file ok There is no {folder}/later.duckdb yet, which AGENTQ_DB names. %agentq start makes it." in said
    assert code == 0
    assert list(folder.iterdir()) == []


def test_in_a_shell_the_exit_code_tells_of_problems(tmp_path: Path) -> None:
    code, said = in_shell(tmp_path, "--store", "missing.duckdb")
    assert (code, "There is no file" in said) == (1, True)
