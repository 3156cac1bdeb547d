"""What ``import agentq_nb`` brings along: only what queues need, so that it costs little more than pydantic and duckdb."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]

LOADED_BESIDES = """
import json, sys
import pydantic, duckdb
before = set(sys.modules)
{code}
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
"""

SIDE_EFFECTS = """
import json, os, sys, threading
import pydantic, duckdb

def begun():
    return threading.active_count(), len(os.listdir("/dev/fd"))

before = begun()
import agentq_nb
print(json.dumps([begun() == before, agentq_nb.current_registry() is None, os.listdir(".")]))
"""

HEAVY = {
    "IPython",
    "ipykernel",
    "ipywidgets",
    "anywidget",
    "jupyter_client",
    "jupyter_core",
    "traitlets",
    "zmq",
    "tornado",
    "nbclient",
    "nbconvert",
    "nbformat",
    "nest_asyncio",
    "nest_asyncio2",
    "pandas",
    "numpy",
    "pyarrow",
    "httpx",
    "requests",
    "aiohttp",
    "acp",
    "anthropic",
    "openai",
    "google",
    "mcp",
    "pytest",
}


def outcome(code: str, folder: Path) -> tuple[object, str, str]:
    """What a fresh Python prints as JSON on its last line, all before that, and its stderr."""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    *before, last = ran.stdout.splitlines()
    return json.loads(last), "\n".join(before), ran.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import agentq_nb",
        "from agentq_nb import *",
        "from agentq_nb import Actor, Queue, agent_os, agents, create_client, setup",
    ],
)
def test_importing_the_package_loads_nothing_that_queues_do_not_need(code: str, tmp_path: Path) -> None:
    loaded, printed, errors = outcome(LOADED_BESIDES.format(code=code), tmp_path)
    assert isinstance(loaded, list)
    assert set(loaded) & HEAVY == set()
    foreign = {name for name in loaded if name not in sys.stdlib_module_names and not name.startswith("_")}
    assert foreign <= {"agentq_nb", "anyio", "sniffio", "idna", "typing_extensions", "pydantic", "duckdb"}
    assert (printed, errors) == ("", "")


def test_importing_the_package_starts_no_thread_and_opens_no_file(tmp_path: Path) -> None:
    assert outcome(SIDE_EFFECTS, tmp_path) == ([True, True, []], "", "")
