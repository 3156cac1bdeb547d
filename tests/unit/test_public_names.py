"""Names that users import, type and pickle. Changing one of these lists breaks a user's program."""

from __future__ import annotations

import importlib
import inspect
import pickle
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

import agentq_nb
from agentq_nb import agent_os, errors
from agentq_nb._core.message_status import ALL

CHECKOUT = Path(__file__).resolve().parents[2]

NAMES = [
    "LLM",
    "Actor",
    "AgentqError",
    "Batch",
    "Budget",
    "ConcurrencyLimit",
    "Folder",
    "Message",
    "Queue",
    "RateLimit",
    "RateLimited",
    "Receipt",
    "Registry",
    "Repository",
    "Result",
    "Retry",
    "SyncBatch",
    "UserError",
    "WaitWouldDeadlock",
    "action",
    "agent_os",
    "agents",
    "as_completed",
    "create_client",
    "cron",
    "current_registry",
    "dashboard",
    "gather",
    "map",
    "map_sync",
    "setup",
]

AGENT_OS_NAMES = [
    "LLM",
    "VM",
    "AgentCheck",
    "BroughtBack",
    "Commit",
    "Diff",
    "Discarded",
    "ExecResult",
    "FileChange",
    "FileInfo",
    "Folder",
    "Forward",
    "Isolation",
    "OutputSoFar",
    "PermissionRequest",
    "ProcessInfo",
    "ProcessOutput",
    "PromptResult",
    "Repository",
    "SessionEvent",
    "SessionInfo",
    "TranscriptView",
    "Updated",
    "agent_os",
    "agents",
]

AGENTS_NAMES = [
    "AcpAgent",
    "Agent",
    "AgentEvent",
    "AgentSession",
    "FunctionAgent",
    "ShellAgent",
    "acp",
    "claude",
    "codex",
    "function",
    "gemini",
    "opencode",
    "pi",
    "shell",
]

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())


def test_the_package_exports_these_names() -> None:
    assert agentq_nb.__all__ == NAMES
    assert [name for name in NAMES if not hasattr(agentq_nb, name)] == []


def test_agent_os_exports_these_names() -> None:
    module = importlib.import_module("agentq_nb.agent_os")
    assert module.__all__ == AGENT_OS_NAMES
    assert [name for name in AGENT_OS_NAMES if not hasattr(module, name)] == []


def test_agents_offers_these_presets_and_makers() -> None:
    assert agentq_nb.agents.__all__ == AGENTS_NAMES
    assert [name for name in AGENTS_NAMES if not hasattr(agentq_nb.agents, name)] == []


def test_agent_os_is_the_same_function_from_both_places() -> None:
    assert agent_os is importlib.import_module("agentq_nb.agent_os").agent_os


def test_public_names_say_that_they_are_in_the_package_and_not_in_a_private_module() -> None:
    private = {
        name: module
        for name in NAMES
        if re.search(r"\._", module := str(getattr(getattr(agentq_nb, name), "__module__", "")))
    }
    assert private == {}
    own = {name for name in NAMES if getattr(getattr(agentq_nb, name), "__module__", "") == "agentq_nb"}
    errors_and_agents = {"AgentqError", "RateLimited", "UserError", "WaitWouldDeadlock", "agent_os", "agents"}
    assert own == set(NAMES) - errors_and_agents


MEMBERS = {
    agentq_nb.Message: ["after", "complete", "fail", "retry"],
    agentq_nb.Actor: [
        "aborted",
        "actor_id",
        "actors",
        "broadcast",
        "declared",
        "destroy",
        "in_thread",
        "keep_awake",
        "key",
        "log",
        "name",
        "on_create",
        "on_destroy",
        "on_sleep",
        "on_wake",
        "queue",
        "run",
        "runtime",
        "save_state",
        "schedule",
        "sleep",
        "state",
    ],
    agentq_nb.Registry: [
        "background",
        "batch",
        "batches",
        "classes",
        "deploy",
        "export",
        "host",
        "limits",
        "messages",
        "notices",
        "prune",
        "redeliver",
        "register",
        "results",
        "retention",
        "run",
        "running",
        "sql",
        "start",
        "status",
        "stop",
        "transcripts",
    ],
}


@pytest.mark.parametrize("cls", MEMBERS, ids=lambda cls: cls.__name__)
def test_public_classes_have_these_members(cls: type) -> None:
    slots = set(getattr(cls, "__slots__", ()))
    assert sorted(name for name in vars(cls) if not name.startswith("_") and name not in slots) == MEMBERS[cls]


def test_the_docstring_of_messages_names_every_status() -> None:
    described = str(inspect.getdoc(agentq_nb.Registry.messages)).partition(":param status:")[2].partition(":param")[0]
    assert sorted(re.findall(r"``(\w+)``", described)) == sorted(ALL)


def test_public_classes_pickle_by_the_name_that_is_public() -> None:
    for name in NAMES:
        value = getattr(agentq_nb, name)
        if inspect.isclass(value):
            assert pickle.loads(pickle.dumps(value)) is value
    result = agentq_nb.Result("completed", "0198c0de", response={"stars": 5}, attempts=1)
    assert b"_client" not in pickle.dumps(result)
    assert pickle.loads(pickle.dumps(result)) == result


def test_a_result_can_still_be_the_body_of_a_message() -> None:
    """Pydantic looks its annotations up in the module that the class names."""
    assert agentq_nb.Queue(agentq_nb.Result).body.declared is agentq_nb.Result


def test_every_error_pickles_by_agentq_nb_errors() -> None:
    found = [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, errors.AgentqError) and not value.__name__.startswith("_")
    ]
    assert len(found) > 30
    for kind in found:
        assert kind.__module__ == "agentq_nb.errors"
        error = kind.__new__(kind)
        errors.AgentqError.__init__(error, "what happened", metadata={"limit": 3})
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind
        assert (again.message, again.full_code, again.metadata) == (error.message, error.full_code, error.metadata)


def test_the_package_is_an_ipython_extension() -> None:
    assert callable(agentq_nb.load_ipython_extension)
    assert callable(agentq_nb.unload_ipython_extension)


def test_the_shell_command_is_declared_and_can_be_imported() -> None:
    assert PROJECT["project"]["scripts"] == {"agentq": "agentq_nb.cli:main"}
    installed = metadata.entry_points(group="console_scripts", name="agentq")
    assert [entry.value for entry in installed] == ["agentq_nb.cli:main"]
    assert all(callable(entry.load()) for entry in installed)


def test_the_version_is_that_of_the_project() -> None:
    assert agentq_nb.__version__ == PROJECT["project"]["version"]


def test_the_package_says_that_it_is_typed() -> None:
    assert (CHECKOUT / "agentq_nb" / "py.typed").read_text() == ""


@pytest.mark.skipif(find_spec("hatchling") is None, reason="hatchling, which builds the wheel, is not installed")
def test_the_wheel_holds_what_the_package_needs_besides_python(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=CHECKOUT, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as built:
        held = set(built.namelist())
    files = [path for path in (CHECKOUT / "agentq_nb").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    modules = "agentq_nb/_notebook/dashboard/js/"  # bundled into dashboard/static
    needed = {path.relative_to(CHECKOUT).as_posix() for path in files}
    assert "agentq_nb/py.typed" in held
    assert {name for name in needed if not name.startswith(modules)} - held == set()
    assert {name for name in held if name.startswith(modules)} == set()
    assert {name for name in held if name.startswith("tests/")} == set()
