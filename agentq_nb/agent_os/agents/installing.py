"""Where coding agents are found, which version they have, and how they get into the user's cache when asked for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import anyio

from agentq_nb.errors import AgentError
from agentq_nb.threads import to_its_end

OLDEST_NODE = 22
_NODE_PACKAGE = f"node@{OLDEST_NODE}"
_GET_NPM = "npm is not on the PATH: install Node.js with npm first (https://nodejs.org, or `apt install npm`)"


@dataclass(frozen=True)
class Found:
    """A program on this machine, and the folders it needs to read."""

    program: str
    version: str | None
    readable: tuple[str, ...]


def cache() -> Path:
    """The folder that holds installed agents: one folder each, with its ``node_modules``."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "agentq" / "agents"


def find(program: str, name: str) -> Found | None:
    """``program`` in the cache folder of the agent ``name``, else on the PATH."""
    path = shutil.which(program, path=_binaries(name)) or shutil.which(program)
    if path is None:
        return None
    real = Path(os.path.realpath(path))
    package = _package(real)
    return Found(os.path.abspath(path), package and _version(package), _readable(Path(path), real))


def find_node() -> Found | None:
    """A Node that is new enough: that of the cache, else that of the PATH."""
    for path in (shutil.which("node", path=_binaries("node")), shutil.which("node")):
        if path is not None and (version := node_version(path)) is not None and version[0] >= OLDEST_NODE:
            readable = _readable(Path(path), Path(os.path.realpath(path)))
            return Found(os.path.abspath(path), ".".join(map(str, version)), readable)
    return None


def why_no_node() -> str:
    """What to say where :func:`find_node` found nothing."""
    path = shutil.which("node")
    version = node_version(path) if path else None
    has = "there is none" if version is None else f"the one here is {'.'.join(map(str, version))}"
    return f"It needs Node {OLDEST_NODE} or newer, and {has}."


def node_version(path: str) -> tuple[int, ...] | None:
    """What ``node --version`` says; None where it does not run."""
    return _asked_version(path, os.stat(path).st_mtime_ns)


async def install(name: str, packages: Sequence[str], as_of: str) -> Path:
    """Put an agent's npm packages into the cache, and a Node where none is new enough. The folder.

    What they depend on is taken as it was on the day ``as_of`` (like ``2026-11-09``). What was there before is replaced once the new one is whole. Raises ``AgentError``.
    """
    if find_node() is None:
        await _npm_install("node", [_NODE_PACKAGE])
    return await _npm_install(name, [f"--before={as_of}", *packages])


async def _npm_install(name: str, words: Sequence[str]) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise AgentError(f"{_GET_NPM}.", code="not_installed")
    target = cache() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    try:
        # With a package.json of its own, npm does not look for one further up.
        (fresh / "package.json").write_text("{}")
        quiet = ["--no-audit", "--no-fund", "--loglevel=error"]
        command = [npm, "install", "--prefix", str(fresh), *quiet, *words]
        done = await anyio.run_process(command, check=False, stderr=subprocess.STDOUT, cwd=fresh)
        if done.returncode:
            said = done.stdout.decode(errors="replace").strip()[-2000:]
            raise AgentError(
                f"npm could not install {' '.join(words)}. Check that this machine reaches npm's registry, then try "
                "again. "
                f"npm said: {said}",
                code="not_installed",
            )
        await to_its_end(shutil.rmtree, target, True)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def _binaries(name: str) -> str:
    return str(cache() / name / "node_modules" / ".bin")


def _package(program: Path) -> Path | None:
    """The npm package that a program belongs to."""
    for folder in program.parents:
        if (folder / "package.json").is_file():
            return folder
    return None


def _version(package: Path) -> str | None:
    try:
        version = json.loads((package / "package.json").read_text()).get("version")
    except (OSError, ValueError, AttributeError):
        return None
    return version if isinstance(version, str) else None


def _readable(path: Path, real: Path) -> tuple[str, ...]:
    """What a program needs to read: the folder it is called from, and the one that holds it with all its packages.

    Only the file itself where that folder is the user's home or above it, so that nothing else of it is shown.
    """
    parts = real.parts
    modules = Path(*parts[: parts.index("node_modules") + 1]) if "node_modules" in parts else real.parent
    shown = {
        os.path.abspath(file if Path.home().is_relative_to(folder) else folder)
        for folder, file in ((path.absolute().parent, path), (modules, real))
    }
    return tuple(sorted(shown))


@lru_cache
def _asked_version(path: str, changed: int) -> tuple[int, ...] | None:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.match(r"v(\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else None
