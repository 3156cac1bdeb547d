"""What the host knows of a VM's clone: kept beside the VM's folder, where no agent can change it."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

_SUFFIX = ".clone.json"


@dataclass(frozen=True)
class CloneRecord:
    """One clone. It is written before the clone gets its place: a clone without a record was not made by us."""

    source: str
    """The repository's path or URL, without a password."""
    actor: str
    branch: str
    folder: str
    """Its name in the VM's folder."""
    bases: tuple[str, ...]
    """The commits of the repository that the clone was given, the first one first."""
    label: str
    ready: bool = False
    """Whether its setup has finished. One that is not ready is made again: nothing has worked in it."""
    brought: dict[str, str] = field(default_factory=dict[str, str])
    """Branches that were brought back, with their commits."""

    def save(self, path: Path) -> None:
        """Write it durably, in place of an earlier one. Raises ``OSError``."""
        temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        try:
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "w") as writer:
                json.dump(asdict(self), writer)
                writer.flush()
                os.fsync(writer.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
        sync_folder(path.parent)

    def with_brought(self, branch: str, commit: str) -> CloneRecord:
        return replace(self, brought={**self.brought, branch: commit})


def read_record(path: Path) -> CloneRecord | None:
    """Return the record, or None where there is none."""
    try:
        data: Any = json.loads(path.read_bytes())
        return CloneRecord(**(data | {"bases": tuple(data["bases"])}))
    except (OSError, ValueError, TypeError, KeyError):
        return None


@dataclass(frozen=True)
class KnownClone:
    """A clone that is there, and its record."""

    record: CloneRecord
    path: Path


def known_clones(workspaces: Path) -> list[KnownClone]:
    """Return the clones of the VMs in this folder, by name. Blocks."""
    found: list[KnownClone] = []
    for path in sorted(workspaces.glob(f"*/*{_SUFFIX}")):
        clone = read_record(path)
        if clone is not None and (folder := path.with_name(path.name.removesuffix(_SUFFIX)) / clone.folder).is_dir():
            found.append(KnownClone(clone, folder))
    return found


def record_path(root: Path) -> Path:
    """Return the path of the record of the VM whose folder is ``root``."""
    return root.with_name(f"{root.name}{_SUFFIX}")


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable. Raises ``OSError``."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
