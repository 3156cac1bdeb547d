"""Find the files of a folder that are worth a review, and review one."""

from __future__ import annotations

import codecs
import os
import re
import stat
from pathlib import Path, PurePath

from agentq_nb._demo import plain_text, python_code
from agentq_nb._demo.report import FileReview, Finding

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


LARGEST = 2_000_000
"""Bytes of the largest file that is reviewed: parsing a larger one takes seconds, and it is most likely data."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def review_source(path_name: str, source: bytes) -> FileReview:
    """Review the file ``path_name`` (only its name is used) with the contents ``source``. Never raises."""
    size = len(source)
    if not source.strip():
        return FileReview(path_name, "empty", size)
    if size > LARGEST:
        return FileReview(path_name, "too large", size)
    text, remarks = _decode(source)
    if text is None:
        return FileReview(path_name, "binary", size)
    remarks += plain_text.check(path_name, text)
    lines = len(plain_text.lines_of(text))
    if PurePath(path_name).suffix.lower() not in (".py", ".pyi"):
        return FileReview(path_name, "text", size, lines, _in_order(remarks))
    code = python_code.examine(path_name, source)
    return FileReview(path_name, "python", size, lines, _in_order(remarks + code.findings), tuple(code.functions))


def _decode(source: bytes) -> tuple[str | None, list[Finding]]:
    """Return the text, or None for binary data, and findings about its encoding."""
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if source.startswith(mark)), "utf-8")
    try:
        text = source.decode(encoding)
    except UnicodeDecodeError as error:
        if b"\0" in source:
            return None, []
        line = source.count(b"\n", 0, error.start) + 1
        return source.decode("latin-1"), [Finding(line, "encoding", f"not valid {encoding.upper()}")]
    return (None if "\0" in text else text), []


def _in_order(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: finding.line))
