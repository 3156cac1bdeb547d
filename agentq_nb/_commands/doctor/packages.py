"""Check the operating system, Python, and the packages that this one needs."""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import sys
from collections.abc import Iterator

from packaging.requirements import Requirement

from agentq_nb._commands.doctor.diagnosis import Check
from agentq_nb._core.package_versions import differ, loaded_version

_NAME = "agentq-nb"
_SHOWN = ("ipykernel", "duckdb", "pydantic", "ipywidgets", "anywidget")

_WHY_NOT_OLDER = {"ipykernel": "with older ones a cell that awaits may hang when a widget is on the page"}


def checks() -> Iterator[Check]:
    """Check the system, Python, and each package that is missing, too old, or newer on disk than in this kernel."""
    system = f"{platform.system()} {platform.release()} ({platform.machine()}), Python {platform.python_version()}"
    if sys.platform == "darwin":
        yield Check("system", "notice", system, "On macOS agents are not isolated, and their orphans are not ended.")
    else:
        yield Check("system", "ok", system)
    try:
        needed = list(_needed())
    except importlib.metadata.PackageNotFoundError:
        yield Check("packages", "notice", f"{_NAME} is used from its source folder, not installed", "pip install -e .")
        return
    troubles = [trouble for requirement in needed if (trouble := _trouble(requirement)) is not None]
    yield from troubles
    if not troubles:
        yield Check("packages", "ok", f"{_NAME} {importlib.metadata.version(_NAME)} with {_versions(needed)}")


def old_nest_asyncio() -> Iterator[Check]:
    """Report the unmaintained nest_asyncio, which breaks waiting in current kernels."""
    if hasattr(asyncio, "_nest_patched") and not hasattr(asyncio, "_nest_asyncio2"):
        yield Check(
            "nest_asyncio",
            "problem",
            "the old one patched this kernel: queued cells are lost while something waits",
            "Remove nest_asyncio.apply() (cells can simply await), then restart the kernel.",
        )
    elif "nest_asyncio" in sys.modules:
        yield Check(
            "nest_asyncio",
            "notice",
            "the old one is imported, and not applied",
            "Do not call nest_asyncio.apply(): cells can simply await.",
        )


def _needed() -> Iterator[Requirement]:
    for text in importlib.metadata.requires(_NAME) or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def _trouble(requirement: Requirement) -> Check | None:
    name, wanted = requirement.name, f'pip install "{requirement.name}{requirement.specifier}"'
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "problem", "not installed", f"{wanted}, then restart the kernel.")
    if not requirement.specifier.contains(found, prereleases=True):
        why = f": {_WHY_NOT_OLDER[name]}" if name in _WHY_NOT_OLDER else ""
        found_text = f"{found}, and {requirement.specifier} is needed{why}"
        return Check(name, "problem", found_text, f"{wanted}, then restart the kernel.")
    loaded = loaded_version(name)
    if loaded is not None and differ(loaded, found):
        return Check(name, "problem", f"{loaded} is loaded, {found} is installed", "Restart the kernel.")
    return None


def _versions(needed: list[Requirement]) -> str:
    named = [requirement.name for requirement in needed if requirement.name in _SHOWN]
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in named)
