"""Find coding agents and their versions, and install them into the user's cache on request.

Each folder in ``locks`` names an agent's packages in ``package.json`` and pins them, with all dependencies and their
hashes, in ``package-lock.json``. After a change of the former, create the latter with ``npm install --package-lock-only
--ignore-scripts --omit-lockfile-registry-resolved``.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import anyio

from agentq_nb._core.threads import to_its_end
from agentq_nb.errors import AgentError

LOCKS = Path(__file__).with_name("locks")
OLDEST_NODE = (22, 19, 0)
"""The version that the agents of this package need."""

_GET_NPM = "npm is not on the PATH: install Node.js with npm first (https://nodejs.org, or `apt install npm`)"

_KEPT = re.compile(r"PATH|HOME|TMPDIR|LANG|NODE_EXTRA_CA_CERTS|(https?|all|no)_proxy|npm_config_.*", re.IGNORECASE)
"""The variables that npm gets. The notebook's keys must not reach it."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True)
class Found:
    """A program on this machine, and the folders it needs to read."""

    program: str
    version: str | None
    readable: tuple[str, ...]


def cache() -> Path:
    """Return the folder that holds installed agents: one folder each, with its ``node_modules``."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "agentq" / "agents"


def find(program: str, name: str) -> Found | None:
    """Find ``program`` in the cache folder of the agent ``name``, else on the PATH."""
    path = shutil.which(program, path=_binaries(name)) or shutil.which(program)
    if path is None:
        return None
    real = Path(os.path.realpath(path))
    package = _package(real)
    return Found(os.path.abspath(path), package and _version(package), _readable(Path(path), real))


def find_node() -> Found | None:
    """Find a Node that is new enough: that of the cache, else that of the PATH."""
    for path in (shutil.which("node", path=_binaries("node")), shutil.which("node")):
        if path is not None and (version := node_version(path)) is not None and version >= OLDEST_NODE:
            readable = _readable(Path(path), Path(os.path.realpath(path)))
            return Found(os.path.abspath(path), ".".join(map(str, version)), readable)
    return None


def why_no_node() -> str:
    """Return the reason, as a sentence, why :func:`find_node` found nothing."""
    path = shutil.which("node")
    version = node_version(path) if path else None
    has = "there is none" if version is None else f"the one here is {'.'.join(map(str, version))}"
    return f"It needs Node {OLDEST_NODE[0]}.{OLDEST_NODE[1]} or newer, and {has}."


def node_version(path: str) -> tuple[int, ...] | None:
    """Return what ``node --version`` prints, as numbers; None where it does not run."""
    return _asked_version(path, os.stat(path).st_mtime_ns)


async def install(name: str) -> Path:
    """Install an agent's packages as its lock file pins them, and Node where none is new enough; return the folder.

    An earlier installation is replaced once the new one is complete. Raises ``AgentError``.
    """
    if find_node() is None:
        await _install("node")
    return await _install(name)


async def _install(name: str) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise AgentError(f"{_GET_NPM}.", code="not_installed")
    package = _locked_for_this_machine(name)
    fresh, held = await to_its_end(_fresh_folder, name)
    try:
        shutil.copy(LOCKS / name / "package.json", fresh)
        shutil.copy(LOCKS / name / "package-lock.json", fresh)
        kept = {variable: value for variable, value in os.environ.items() if _KEPT.fullmatch(variable)}
        await _run_npm([npm, "ci", "--ignore-scripts", "--engine-strict=false"], fresh, held, kept)
        if package.get("scriptsOf"):
            # A HOME of its own: these scripts must not see npm's settings and the keys in them.
            path = os.pathsep.join([_binaries("node"), os.environ["PATH"]])
            bare = {"PATH": path, "HOME": str(fresh)}
            await _run_npm([npm, "rebuild", *package["scriptsOf"]], fresh, held, bare)
        await to_its_end(_replace, cache() / name, fresh)
    finally:
        os.close(held)
        shutil.rmtree(fresh, ignore_errors=True)
    return cache() / name


def _locked_for_this_machine(name: str) -> Mapping[str, Any]:
    """Return the agent's ``package.json``. Raises ``AgentError`` where packages are pinned for other machines only."""
    package = json.loads((LOCKS / name / "package.json").read_text())
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    if sys.platform not in package.get("os", [sys.platform]) or machine not in package.get("cpu", [machine]):
        wanted = " ".join(f"{one}@{version}" for one, version in package["dependencies"].items())
        raise AgentError(
            f"Agent '{name}' can be installed on {' and '.join(package['os'])} ({' and '.join(package['cpu'])}) only, as "
            f"far as its packages are pinned. Install it yourself: npm install --global {wanted}.",
            code="not_installed",
        )
    return package


def _fresh_folder(name: str) -> tuple[Path, int]:
    """Return an empty folder in the cache, and a descriptor that locks it while it is open.

    Unlocked folders were left by installations that were killed: they are removed.
    """
    cache().mkdir(parents=True, exist_ok=True)
    whole = os.open(cache(), _FOLDER)
    try:
        fcntl.flock(whole, fcntl.LOCK_EX)
        for left in cache().glob(".*-*"):
            held = os.open(left, _FOLDER)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            except BlockingIOError:
                pass
            finally:
                os.close(held)
        fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache()))
        held = os.open(fresh, _FOLDER)
        fcntl.flock(held, fcntl.LOCK_EX)
        return fresh, held
    finally:
        os.close(whole)


async def _run_npm(command: Sequence[str], folder: Path, held: int, environment: Mapping[str, str]) -> None:
    """Run npm, which inherits the lock of the folder: it may outlive us."""
    command = [*command, "--no-audit", "--no-fund", "--loglevel=error"]
    done = await anyio.run_process(
        command, check=False, stderr=subprocess.STDOUT, cwd=folder, env=environment, pass_fds=[held]
    )
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip()[-2000:]
        raise AgentError(
            f"`npm {' '.join(command[1:])}` failed. Check that this machine reaches npm's registry, then try again. "
            f"npm said: {said}",
            code="not_installed",
        )


def _replace(target: Path, fresh: Path) -> None:
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    if target.exists():
        target.rename(old / target.name)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _binaries(name: str) -> str:
    return str(cache() / name / "node_modules" / ".bin")


def _package(program: Path) -> Path | None:
    """Return the npm package that a program belongs to."""
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
    """Return what a program needs to read: the folder it is called from, and the one with all its packages.

    Only the file itself where that folder is the user's home or above it, so that nothing else there is exposed.
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
