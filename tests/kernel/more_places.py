"""The real Voila, ipyparallel and marimo.

Together they are large, so pytest collects this file only where it is named, and then it fails where they are missing:

    pip install -e '.[test,places]' && python -m pytest tests/kernel/more_places.py
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import ipyparallel
import marimo
import nbformat
import pytest
import voila
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import chromium  # noqa: F401  # a fixture
from tests.browser.serving import free_port
from tests.kernel.driving import PROJECT
from tests.kernel.test_front_ends import ASKED, WORKER

DASHBOARD = '[data-agentq="dashboard"]'

MARIMO = """
import marimo

app = marimo.App()


@app.cell
def _():
    import asyncio
    from pathlib import Path

    import agentq_nb
    from agentq_nb import Actor, Queue, create_client, setup

    async def watch():
        try:
            await asyncio.Event().wait()
        finally:
            Path("ended").touch()

    class Worker(Actor):
        names = Queue(str, reply=str)

        async def run(self):
            async for message in self.queue.iter(completable=True):
                await message.complete(message.body.upper())

    return Worker, agentq_nb, create_client, setup, asyncio, watch


@app.cell
async def _(Worker, create_client, setup, asyncio, watch):
    registry = await setup(use={"worker": Worker}).start()
    result = await create_client().worker.get_or_create().send("names", "hello", wait=True, timeout=30)
    print(result.response, registry.background, registry.store_path.name)
    watching = asyncio.create_task(watch())
    return (registry, result, watching)


@app.cell
def _(result):
    f"It said {result.response}."
    return


@app.cell
def _(agentq_nb, result):
    agentq_nb.dashboard()
    return


if __name__ == "__main__":
    app.run()
"""


@contextmanager
def serving(folder: Path, module: str, words: Sequence[str], port: int) -> Iterator[str]:
    """A server of pages over the folder; its address."""
    environment = {
        **os.environ,
        "HOME": str(folder),
        "IPYTHONDIR": str(folder / ".ipython"),
        "JUPYTER_DATA_DIR": str(folder / ".jupyter"),
        "PYTHONPATH": str(PROJECT),
    }
    log = folder / "server.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=folder,
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError):
                urllib.request.urlopen(f"{address}/static/none" if module == "voila" else address, timeout=5)
                break
            if module == "voila" and "is running at" in log.read_text():
                break
            assert time.monotonic() < deadline, log.read_text()
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield address
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def page_of(browser: Browser, address: str) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1100, "height": 1400})
    page.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    try:
        page.goto(address)
        yield page
    finally:
        page.close()


# --- Voila ------------------------------------------------------------------------------------------------------------


def test_voila_shows_results_and_a_live_dashboard_and_tells_the_second_page_what_to_do(
    chromium: Browser,  # noqa: F811
    tmp_path: Path,
) -> None:
    assert voila.__version__
    cells = [WORKER, "%agentq start", ASKED, "%agentq dashboard"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "app.ipynb")
    port = free_port()
    words = ["app.ipynb", "--no-browser", f"--port={port}", "--show_tracebacks=True"]
    with serving(tmp_path, "voila", words, port) as address, page_of(chromium, address) as page:
        shown = page.locator(DASHBOARD)
        expect(shown).to_contain_text("live")
        expect(shown).to_contain_text('"HELLO"')
        shown.get_by_role("button", name="Pause").click()
        expect(shown.get_by_role("button", name="Resume")).to_be_visible()
        assert (tmp_path / "app.agentq.duckdb").is_file()
        assert not (tmp_path / "agentq.duckdb").exists()
        with page_of(chromium, address) as second:
            expect(second.locator("body")).to_contain_text("Give each page a file")


# --- marimo -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    path = tmp_path / "work.py"
    path.write_text(MARIMO)
    return path


def test_marimo_run_keeps_the_host_when_its_first_page_is_closed(
    chromium: Browser,  # noqa: F811
    notebook: Path,
) -> None:
    port = free_port()
    words = ["run", notebook.name, "--headless", f"--port={port}", "--no-token", "--session-ttl=1"]
    with serving(notebook.parent, "marimo", words, port) as address:
        for done in ("1 of 1", "2 of 2"):
            with page_of(chromium, address) as page:
                expect(page.locator("body")).to_contain_text("It said HELLO.")
                shown = page.locator(DASHBOARD)
                expect(shown).to_contain_text("live")
                expect(shown).to_contain_text(done)
            log = notebook.with_name("server.log")
            assert "HELLO True work.agentq.duckdb" in log.read_text()
            until_there(notebook.with_name("ended"))
    assert "Traceback" not in log.read_text()


def test_marimo_edit_works_in_its_own_loop_and_shows_a_live_dashboard(
    chromium: Browser,  # noqa: F811
    notebook: Path,
) -> None:
    port = free_port()
    words = ["edit", notebook.name, "--headless", f"--port={port}", "--no-token", "--skip-update-check"]
    with serving(notebook.parent, "marimo", words, port) as address, page_of(chromium, address) as page:
        page.get_by_text("create_client", exact=False).first.wait_for()
        page.keyboard.press("Control+Shift+r")
        expect(page.locator("body")).to_contain_text("HELLO False work.agentq.duckdb")
        expect(page.locator(DASHBOARD)).to_contain_text("live")


@pytest.mark.parametrize("words", [["work.py"], ["-m", "marimo", "export", "html", "work.py", "-o", "out.html", "-f"]])
def test_a_marimo_notebook_as_a_program_has_the_same_file(notebook: Path, words: list[str]) -> None:
    assert marimo.__version__
    ended = subprocess.run(
        [sys.executable, *words], cwd=notebook.parent, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert [path.name for path in notebook.parent.glob("*.duckdb")] == ["work.agentq.duckdb"]


def until_there(file: Path) -> None:
    """Wait until the event loop of a page has ended its tasks, and remove the file that says so."""
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline, "the page's session did not end"
        time.sleep(0.05)
    file.unlink()


# --- ipyparallel ------------------------------------------------------------------------------------------------------


def test_engines_are_told_to_take_a_file_each_and_wait_by_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / ".ipython"))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "work.ipynb"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work.ipynb").write_text("{}")
    with ipyparallel.Cluster(n=2, log_level=40) as engines:
        all_of_them = engines[:]

        def run(code: str) -> None:
            running = all_of_them.execute(code)
            running.wait(60)
            assert running.ready(), f"no answer:\n{code}"
            running.get()

        run(WORKER)
        with pytest.raises(ipyparallel.CompositeError, match="Give each engine a file") as refused:
            run("%agentq start")
        advice = re.search(r"setup\(store=f\"engine-.*?\"\)", str(refused.value))
        assert advice is not None
        assert not (tmp_path / "work.agentq.duckdb").exists()
        run("if (before := __import__('agentq_nb').current_registry()).running: before.run(before.stop())")
        run(f"registry = {advice[0]}\nregistry.register(dict(worker=Worker))\nregistry.run(registry.start())")
        run("worker = create_client().worker.get_or_create()")
        run("result = registry.run(worker.send('names', 'hello', wait=True, timeout=30))")
        run("%agentq ask worker/default names again")
        assert all_of_them["result.response"] == ["HELLO", "HELLO"]
        run("registry.run(registry.stop())")
    assert {path.name for path in tmp_path.glob("engine-*.duckdb")} == {"engine-0.duckdb", "engine-1.duckdb"}
