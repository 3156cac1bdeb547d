"""Install packages of npm once for all runs, and run scripts with them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.requirements import missing

VERSION = "2.3.19"
"""Of RivetKit."""


def installed(name: str, *packages: str) -> Path:
    """Return the folder with the packages, ``rivetkit@2.3.19``, installed. Skips the test, or fails, where that cannot be."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        missing("Node and npm are not installed. Install them: apt install nodejs npm.")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "agentq-tests" / f"{name}-{VERSION}"
    if not (folder / "node_modules" / "rivetkit" / "package.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
        done = subprocess.run(install, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            missing(f"npm could not install {' '.join(packages)}: {done.stderr[-300:]}")
    found = json.loads((folder / "node_modules" / "rivetkit" / "package.json").read_text())
    assert found["version"] == VERSION
    return folder


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
