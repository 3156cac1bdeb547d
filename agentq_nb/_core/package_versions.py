"""Find packages that were installed in another version after this process loaded them."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from agentq_nb.errors import AgentqError

PACKAGE = "agentq-nb"
_ALSO = ("ipython",)


class RestartNeeded(AgentqError):
    """A package was installed into a process that had loaded another version of it."""

    group = "packages"
    code = "restart_needed"


def check_loaded() -> None:
    """Raise RestartNeeded where this process has loaded another version of a needed package than is installed."""
    stale = [f"{name} {loaded} is loaded, {found} is installed" for name, loaded, found in stale_packages()]
    if stale:
        raise RestartNeeded(
            f"Packages were installed while this kernel ran: {'; '.join(stale)}. Restart the kernel, then run the cells "
            f"again. Nothing was changed.",
            metadata={"stale": stale},
        )


def stale_packages() -> Iterator[tuple[str, str, str]]:
    """Yield the name, the loaded version and the installed version of each required package where the two differ."""
    for name in [*(requirement.name for requirement in needed()), *_ALSO]:
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        loaded = loaded_version(name)
        if loaded is not None and differ(loaded, found):
            yield name, loaded, found


def needed() -> list[Requirement]:
    """Return this package's requirements in this environment; none where it runs from its source folder."""
    try:
        found = [Requirement(text) for text in importlib.metadata.requires(PACKAGE) or ()]
    except (importlib.metadata.PackageNotFoundError, InvalidRequirement):  # `%agentq doctor` reports the latter
        return []
    return [one for one in found if one.marker is None or one.marker.evaluate({"extra": ""})]


def loaded_version(name: str) -> str | None:
    """Return the version of a package that this process has loaded, if the package states one."""
    module = sys.modules.get("IPython" if name == "ipython" else name.replace("-", "_"))
    version = getattr(module, "__version__", None)
    return version if isinstance(version, str) else None


def differ(loaded: str, found: str) -> bool:
    """Whether these are two different versions."""
    try:
        return Version(loaded) != Version(found)
    except InvalidVersion:
        return False
