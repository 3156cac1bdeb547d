"""Find the source and text files of a folder that are worth a review."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

_SOURCE = re.compile(
    r".+\.(bash|c|cc|cfg|cpp|cs|css|go|h|hpp|html|ini|java|js|json|jsx|kt|lua|md|php|pl|pyi?|r|rb|rs|rst|scala|sh|sql"
    r"|swift|toml|tsx?|txt|vue|ya?ml)|Dockerfile|Makefile|LICENSE|README",
    re.IGNORECASE,
)
_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "build", "dist"})


def source_files(folder: Path) -> list[Path]:
    """Return the readable source and text files below ``folder``, sorted; links to folders are not followed.

    Hidden files and folders, virtual environments, build results and workspaces of agents (``*.agentq``) are left out.
    Folders that cannot be listed count as empty.
    """
    found: list[Path] = []
    for directory, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _skipped(name)]
        found += [path for name in names if _is_source(path := Path(directory, name))]
    return sorted(found)


def _skipped(folder: str) -> bool:
    return folder.startswith(".") or folder in _SKIPPED_FOLDERS or folder.endswith((".agentq", ".egg-info"))


def _is_source(path: Path) -> bool:
    if path.name.startswith(".") or not _SOURCE.fullmatch(path.name):
        return False
    try:
        # Regular files only: reading a pipe could block without end.
        return stat.S_ISREG(path.stat().st_mode) and os.access(path, os.R_OK)
    except OSError:
        return False
