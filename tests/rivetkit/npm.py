"""Install packages of npm once for all runs, and run scripts with them."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.requirements import missing

VERSION = "2.3.19"
"""Of RivetKit."""


class CannotInstallError(Exception):
    """Says what is missing, and how to get it."""


def installed(name: str, *packages: str) -> Path:
    """Return the folder with the packages, ``rivetkit@2.3.19``, installed. Skips the test, or fails, where that cannot be."""
    try:
        return install(name, *packages)
    except CannotInstallError as error:
        missing(str(error))


def install(name: str, *packages: str) -> Path:
    """Return the folder with the packages, once for all runs. Raises CannotInstallError."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise CannotInstallError("Node and npm are not installed. Install them: apt install nodejs npm.")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "agentq-tests" / f"{name}-{VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes run tests: one of them installs for all
        if not folder.exists():
            _install(folder, packages)
    found = json.loads((folder / "node_modules" / "rivetkit" / "package.json").read_text())
    assert found["version"] == VERSION
    return folder


def _install(folder: Path, packages: Sequence[str]) -> None:
    """Install into another folder, which gets this name once it is complete."""
    made = Path(tempfile.mkdtemp(dir=folder.parent))
    (made / "package.json").write_text('{"private": true, "type": "module"}')
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
    done = subprocess.run(command, cwd=made, capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(made)
        raise CannotInstallError(f"npm could not install {' '.join(packages)}: {done.stderr[-300:]}")
    made.rename(folder)


def script_folder(package: Path, scripts: Path, folder: Path) -> Path:
    """Return ``folder`` with copies of the scripts, which find the package's modules from there."""
    folder.mkdir()
    for script in scripts.glob("*.mjs"):
        shutil.copyfile(script, folder / script.name)
    (folder / "node_modules").symlink_to(package / "node_modules")
    return folder


class Ended(NamedTuple):
    """How a script ended, and what it printed."""

    status: int
    printed: str
    errors: str


async def run_node(folder: Path, *words: str, within: float = 120, **variables: str) -> Ended:
    """Run ``node`` in a folder, with these variables of the environment besides the others."""
    process = await start_node(folder, words, variables)
    printed, errors = await asyncio.wait_for(process.communicate(), within)
    return Ended(process.returncode or 0, printed.decode(), errors.decode())


async def start_node(folder: Path, words: tuple[str, ...], variables: Mapping[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *("node", *words),
        cwd=folder,
        env={**os.environ, "RIVET_LOG_LEVEL": "silent", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
