"""The command that looks for what is wrong with this installation, this kernel and this file."""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from agentq_nb.commands.scene import Command, Scene, Where
from agentq_nb.commands.sheets import duration
from agentq_nb.commands.words import flag
from agentq_nb.errors import AgentqError, StoreError
from agentq_nb.stall import advice

if TYPE_CHECKING:
    from agentq_nb.registry import Registry

_OLDEST = {"duckdb": 2, "ipykernel": 7, "pydantic": 2}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; ``advice`` says what to do where something is to be done."""

    what: str
    state: Literal["ok", "notice", "problem"]
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What doctor found."""

    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """No check found a problem."""
        return all(check.state != "problem" for check in self.checks)


@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Check versions, the kernel, the file and the isolation of agents, and say what to do.

    With --accept-loss a damaged file is opened without what is lost; copies of the damaged files are kept.
    """

    name: ClassVar[str] = "doctor"
    where: ClassVar[Where] = "both"

    accept_loss: bool = flag("--accept-loss", "open a damaged file without what is lost")

    async def run(self, scene: Scene) -> Diagnosis:
        checks = [*_platform(), *_versions(), *_loop(scene)]
        if self.accept_loss or not scene.in_kernel:
            checks += await _opening(scene, self.accept_loss)
        checks += await _host(scene)
        checks.append(await _isolation())
        return Diagnosis(tuple(checks))


def _platform() -> Iterator[Check]:
    system = f"{platform.system()} {platform.release()} ({platform.machine()})"
    if sys.platform == "darwin":
        yield Check("system", "notice", system, "On macOS agents are not isolated, and their orphans are not ended.")
    else:
        yield Check("system", "ok", system)
    yield Check("Python", "ok", platform.python_version())


def _versions() -> Iterator[Check]:
    for package in ("agentq-nb", "ipykernel", "ipython", "duckdb", "pydantic", "nest-asyncio2"):
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            if package == "agentq-nb":
                yield Check(package, "notice", "used from its source folder, not installed")
            else:
                yield Check(package, "problem", "not installed", f"pip install {package}")
            continue
        oldest = _OLDEST.get(package, 0)
        if int(found.split(".")[0]) < oldest:
            yield Check(package, "problem", found, f'It must be {oldest} or newer: pip install "{package}>={oldest}"')
        else:
            yield Check(package, "ok", found)


def _loop(scene: Scene) -> Iterator[Check]:
    if hasattr(asyncio, "_nest_patched") and not hasattr(asyncio, "_nest_asyncio2"):
        yield Check(
            "nest_asyncio",
            "problem",
            "the old one is loaded",
            "It loses queued cells while something waits. Remove what applies it, then restart the kernel.",
        )
    if scene.in_kernel:
        loop = asyncio.get_running_loop()
        yield Check("event loop", "ok", f"{type(loop).__module__}.{type(loop).__name__}")


async def _opening(scene: Scene, accept_loss: bool) -> list[Check]:
    try:
        await scene.start(None, accept_loss)
    except AgentqError as error:
        return [Check("file", "problem", error.message, error.full_code)]
    return []


async def _host(scene: Scene) -> list[Check]:
    registry = scene.registry()
    if registry is None or not registry.running:
        return _not_running(scene) if scene.in_kernel else []
    status = await registry.status()
    checks = [_file(registry), *(Check("notice", "notice", notice) for notice in status.notices)]
    if status.trouble:
        checks.append(Check("writing", "problem", status.trouble, "What was not acknowledged was not written."))
    if not scene.in_kernel:
        return checks
    place = "in the background" if status.background else "in the kernel's event loop"
    checks.append(Check("host", "ok", f"running for {duration(status.uptime)}, {place}"))
    if status.stall:
        stood = f"{duration(status.stall.seconds)} in {status.stall.place}"
        checks.append(Check("event loop", "notice", f"it stood still for {stood}", advice(status.background)))
    if status.waiting_for:
        names = ", ".join(status.waiting_for)
        checks.append(Check("waiting work", "notice", f"for {names}", "Run the cells that define these actors."))
    return checks


def _not_running(scene: Scene) -> list[Check]:
    from agentq_nb.store.guard import Guard

    checks = [Check("host", "notice", "not running", "Start it: %agentq start")]
    path = scene.store()
    if not path.exists():
        return [*checks, Check("file", "ok", f"{path}, made by %agentq start")]
    try:
        Guard.acquire(path).withdraw()
    except StoreError as error:
        return [*checks, Check("file", "problem", error.message, error.full_code)]
    return [*checks, Check("file", "ok", f"{path}, nobody has it open")]


def _file(registry: Registry) -> Check:
    path = registry.store_path
    guard = path.with_name(path.name + ".guard")
    size = f"{path.stat().st_size / 1e6:,.1f} MB" if path.exists() else "missing"
    if not guard.exists():
        return Check("file", "notice", f"{path} ({size}), without its guard file", "Loss cannot be noticed without it.")
    return Check("file", "ok", f"{path} ({size})")


async def _isolation() -> Check:
    from agentq_nb.agent_os.isolation import in_force

    found = await in_force("auto")
    if found.kind == "none":
        reasons = "; ".join(f"{kind}: {reason}" for kind, reason in found.refused.items())
        return Check("isolation", "notice", "none: agents' processes may do all you may", reasons)
    return Check("isolation", "ok", found.kind)
