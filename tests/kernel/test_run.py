"""``agentq run`` and ``agentq serve``: hosting without Jupyter, a clean stop, and what cannot be hosted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

from tests.kernel.driving import PROJECT

ECHO = """
import asyncio
from pathlib import Path
from agentq_nb import Actor, Queue, action

class Echo(Actor):
    tasks = Queue(str, reply=str)

    @tasks.handler
    async def echo(self, body):
        with open("ledger", "a") as ledger:
            ledger.write(f"began {body}\\n")
        await asyncio.sleep(0.3)
        with open("ledger", "a") as ledger:
            ledger.write(f"ended {body}\\n")
        return body.upper()

    @action
    async def double(self, number):
        return 2 * number
"""


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "agentq_nb.cli", *words]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT)}


def agentq(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=90
    )


@contextmanager
def hosting(folder: Path, *words: str) -> Generator[subprocess.Popen[str]]:
    """A process that hosts, once it does. It is ended by SIGTERM, and must end well."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command(*words), cwd=folder, env=environment(), text=True, stdout=pipe, stderr=pipe
    ) as process:
        assert process.stderr is not None
        said = ""
        try:
            for line in process.stderr:
                said += line
                if "Ctrl-C or SIGTERM stops it" in line:
                    break
            else:
                raise AssertionError(said)
            process.said = said  # type: ignore[attr-defined]  # for the tests
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            _, rest = process.communicate(timeout=30)
        assert process.returncode == 0, said + rest
        assert "stopped" in rest


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ledger(folder: Path) -> list[str]:
    path = folder / "ledger"
    return path.read_text().splitlines() if path.exists() else []


def test_sigterm_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "workers.py").write_text(ECHO)
    names = [f"m{number}" for number in range(6)]
    with hosting(tmp_path, "run", "workers.py"):
        for name in names:
            sent = agentq(tmp_path, "send", "echo/main", "tasks", name)
            assert sent.returncode == 0, sent.stderr
        agentq(tmp_path, "pause", "echo/main", "tasks")
        for name in ("p1", "p2"):
            assert agentq(tmp_path, "send", "echo/main", "tasks", name).returncode == 0
        agentq(tmp_path, "resume", "echo/main", "tasks")
        wait_until(lambda: "began p1" in ledger(tmp_path))
    assert (tmp_path / "agentq.duckdb").exists()
    with hosting(tmp_path, "run", "workers"):
        wait_until(lambda: "ended p2" in ledger(tmp_path))
        rows = agentq(tmp_path, "sql", "select reply, attempts, status from messages order by reply").stdout
    assert sorted(ledger(tmp_path)) == sorted(
        f"{what} {name}" for name in [*names, "p1", "p2"] for what in ("began", "ended")
    )
    assert rows.count("completed") == 8
    assert set(re.findall(r"\s(\d+)\s+completed", rows)) == {"1"}


def notebook(path: Path, *cells: str) -> None:
    found = [nbformat.v4.new_markdown_cell("# About this"), *map(nbformat.v4.new_code_cell, cells)]
    nbformat.write(nbformat.v4.new_notebook(cells=found), path)


def test_a_notebook_is_run_and_hosted_with_the_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    notebook(
        tmp_path / "sub" / "work.ipynb",
        "%load_ext agentq_nb\nfrom agentq_nb import create_client",
        ECHO,
        "%agentq start",
        "receipt = await create_client().echo.get_or_create('main').send('tasks', 'from a cell')\n"
        "assert (await receipt).unwrap() == 'FROM A CELL'",
        "%agentq dashboard",
    )
    with hosting(tmp_path, "run", "sub/work.ipynb"):
        asked = agentq(tmp_path / "sub", "ask", "echo/main", "tasks", "hello")
        assert "HELLO" in asked.stdout, asked.stderr
        assert f"the host of notebook {tmp_path / 'sub' / 'work.ipynb'} " in asked.stderr
    assert (tmp_path / "sub" / "work.agentq.duckdb").exists()
    assert "FROM A CELL" in agentq(tmp_path / "sub", "results").stdout


def test_a_notebook_that_starts_no_host_is_hosted_too(tmp_path: Path) -> None:
    notebook(tmp_path / "work.ipynb", ECHO)
    with hosting(tmp_path, "run", "work.ipynb", "--store", "elsewhere.duckdb"):
        assert "YES" in agentq(tmp_path, "ask", "--store", "elsewhere.duckdb", "echo/main", "tasks", "yes").stdout
    assert not (tmp_path / "work.agentq.duckdb").exists()


def test_a_module_that_sets_its_registry_up_keeps_its_file(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        f"{ECHO}\nfrom agentq_nb import setup\nsetup(use={{'mine': Echo}}, store='own.duckdb')\n"
    )
    with hosting(tmp_path, "run", "own.py"):
        assert "mine" in agentq(tmp_path, "actors", "--store", "own.duckdb").stdout
    refused = agentq(tmp_path, "run", "own.py", "--store", "other.duckdb")
    assert refused.returncode == 2
    assert "chooses its file itself" in refused.stderr


@pytest.mark.parametrize(
    ("name", "content", "status", "says"),
    [
        ("nothing.py", None, 2, "There is no file"),
        ("nothing.ipynb", None, 2, "There is no file"),
        ("no.such.module", None, 2, "There is no module no.such.module"),
        ("empty.py", "from agentq_nb import Actor", 2, "empty.py defines no actor class"),
        ("broken.py", "1 / 0", 1, "could not be imported: ZeroDivisionError: division by zero"),
        ("syntax.py", "def", 1, "could not be imported: SyntaxError"),
        ("needs.py", "import no_such_package", 1, "No module named 'no_such_package'"),
        ("bad.ipynb", "{", 2, "cannot be read as a notebook"),
        ("twice.py", "from agentq_nb import agent_os\na = agent_os()\nclass A(a): ...\n", 1, "claim the name 'a'"),
    ],
)
def test_what_cannot_be_hosted_is_said_on_one_line(
    name: str, content: str | None, status: int, says: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    ran = agentq(tmp_path, "run", name)
    assert ran.returncode == status, ran.stderr
    assert says in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.duckdb"))


def test_a_cell_that_fails_is_named_and_nothing_is_hosted(tmp_path: Path) -> None:
    notebook(tmp_path / "work.ipynb", ECHO, "1 / 0")
    ran = agentq(tmp_path, "run", "work.ipynb")
    assert ran.returncode == 1
    assert "ZeroDivisionError: division by zero" in ran.stdout
    assert f"Code cell 2 of {tmp_path / 'work.ipynb'} failed (ZeroDivisionError)" in ran.stderr


def call(url: str, token: str) -> tuple[int, bytes]:
    path = f"{url}/gateway/echo/action/double?rvt-method=getOrCreate&rvt-key=main"
    request = urllib.request.Request(path, b'{"args": [21]}', {"authorization": f"Bearer {token}"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_serve_hosts_and_serves_with_the_token_in_a_private_file(tmp_path: Path) -> None:
    (tmp_path / "workers.py").write_text(ECHO)
    with hosting(tmp_path, "serve", "workers.py", "--port", "0") as process:
        said: str = process.said  # type: ignore[attr-defined]  # for the tests
        kept = Path(re.findall(r"its token in (\S+)", said)[0])
        assert kept.stat().st_mode & 0o777 == 0o600
        found = json.loads(kept.read_text())
        assert found["url"] in said
        assert found["token"] not in said
        assert call(found["url"], found["token"]) == (200, b'{"output":42}')
        assert call(found["url"], "x" * 43)[0] == 401
    assert not kept.exists()


def test_serve_opens_http_on_the_host_that_runs(tmp_path: Path) -> None:
    (tmp_path / "workers.py").write_text(ECHO)
    refused = agentq(tmp_path, "serve", "--store", str(tmp_path / "agentq.duckdb"))
    assert refused.returncode == 1
    with hosting(tmp_path, "run", "workers.py"):
        served = agentq(tmp_path, "serve", "--port", "0").stdout
        url, token, kept = (re.findall(rf"^{name} +(\S+)", served, re.M)[0] for name in ("url", "token", "token file"))
        assert json.loads(Path(kept).read_text()) == {"url": url, "token": token}
        assert call(url, token)[0] == 200
        assert "Closed 1 server" in agentq(tmp_path, "serve", "--close").stdout
        assert not Path(kept).exists()


def test_a_file_that_is_in_use_is_not_hosted_twice_and_the_way_to_use_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "workers.py").write_text(ECHO)
    with hosting(tmp_path, "run", "workers.py"):
        second = agentq(tmp_path, "run", "workers.py")
    assert second.returncode == 1
    assert f"agentq status --store {tmp_path / 'agentq.duckdb'}" in second.stderr
