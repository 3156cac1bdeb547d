"""The tests with other Pythons, with the lowest versions that pyproject.toml allows, and where other programs run kernels.

``python -m tests --full`` does this after all checks. It needs the extra ``full``, which brings uv.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

CHECKOUT = Path(__file__).resolve().parent.parent

UNIT_AND_KERNEL = (
    "tests/unit",
    "tests/kernel",
    "tests/agents/test_acp_turns.py",
    "tests/agents/test_host_tools.py",
    "tests/agents/test_host_tools_served.py",
    # What these show depends on disks and chance, not on versions of Python and of packages, and they take long.
    "--ignore=tests/unit/properties",
    "--ignore=tests/unit/store/test_damage.py",
    "--ignore=tests/unit/store/test_full_disk.py",
    "--ignore=tests/unit/store/test_power.py",
    "--ignore=tests/kernel/test_kill.py",
)


@dataclass(frozen=True)
class Environment:
    """Where tests are run: a Python, the versions of what is installed, and which tests."""

    name: str
    python: str
    tests: Sequence[str] = UNIT_AND_KERNEL
    extras: str = "test"
    lowest: bool = False


ENVIRONMENTS = [
    Environment("lowest versions", "3.11", lowest=True),
    Environment("Python 3.12", "3.12"),
    Environment("Python 3.13", "3.13"),
    Environment("Voila, marimo and ipyparallel", "3.11", ["tests/kernel/more_places.py"], extras="test,places"),
]


def run_all() -> int:
    """Make each environment in a folder of its own and run its tests; how many of them failed."""
    failed = [environment.name for environment in ENVIRONMENTS if not _passes(environment)]
    for name in failed:
        print(f"FAILED with {name}", file=sys.stderr)
    return len(failed)


def _passes(environment: Environment) -> bool:
    print(f"\n=== {environment.name}", flush=True)
    with tempfile.TemporaryDirectory(prefix="agentq-environment-", ignore_cleanup_errors=True) as folder:
        python = f"{folder}/bin/python"
        _run([sys.executable, "-m", "uv", "venv", "-q", "--python", interpreter(environment.python), folder])
        resolution = ["--resolution", "lowest-direct"] if environment.lowest else []
        wanted = f".[{environment.extras}]"
        _run([sys.executable, "-m", "uv", "pip", "install", "-q", "--python", python, *resolution, "-e", wanted])
        untried = list(untried_bounds(python)) if environment.lowest else []
        for line in untried:
            print(line, file=sys.stderr)
        command = [python, "-m", "pytest", "-q", "-n", "3", "--dist", "loadfile", *environment.tests]
        print(f"$ {' '.join(command)}", flush=True)
        return subprocess.run(command, cwd=CHECKOUT).returncode == 0 and not untried


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, cwd=CHECKOUT, check=True)


def interpreter(version: str) -> str:
    """A Python of this version: the present one, one on the path, one of pyenv, or one that uv has or can get."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    found = [shutil.which(f"python{version}"), *sorted(glob.glob(f"{pyenv}/versions/{version}.*/bin/python"))]
    return next((path for path in found if path is not None and _answers(path)), version)


def _answers(path: str) -> bool:
    """A shim of pyenv does not, where its Python is not chosen."""
    return subprocess.run([path, "--version"], capture_output=True).returncode == 0


def untried_bounds(python: str) -> Iterator[str]:
    """A sentence for each requirement whose lower bound is not what is installed: nobody can have tried it."""
    listed = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "list", "-q", "--python", python, "--format", "json"],
        capture_output=True,
        check=True,
        text=True,
    )
    installed = {package["name"]: package["version"] for package in json.loads(listed.stdout)}
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in map(Requirement, project["dependencies"]):
        bounds = [one.version for one in requirement.specifier if one.operator == ">="]
        found = installed[requirement.name]
        if [Version(bound) for bound in bounds] != [Version(found)]:
            yield f"pyproject.toml says {requirement}, and the lowest version that can be installed is {found}."


if __name__ == "__main__":
    sys.exit(run_all())
