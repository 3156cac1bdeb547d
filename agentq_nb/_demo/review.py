"""Find the files of a folder that are worth a review, and review one."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from agentq_nb._demo.python_code import Finding, Function, examine

LARGEST = 2_000_000
"""Bytes of the largest file that is reviewed: parsing a larger one takes seconds, and it is most likely data."""

_SOURCE = re.compile(
    r"(?!\.)(.+\.(c|cfg|cpp|css|go|h|html|ini|java|js|json|jsx|md|pyi?|r|rb|rs|rst|sh|sql|toml|tsx?|txt|ya?ml)"
    r"|Dockerfile|Makefile|LICENSE|README)",
    re.IGNORECASE,
)
_SKIPPED_FOLDER = re.compile(r"\..*|__pycache__|node_modules|site-packages|venv|build|dist|.*\.(agentq|egg-info)")
_IN_LINES = (
    ("merge-conflict", "merge conflict left in the file", True, re.compile(r"^<<<<<<< ")),
    ("secret", "what looks like a private key", True, re.compile(r"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----")),
    ("unfinished", "a comment that says it is unfinished", False, re.compile(r"^[^'\"]*(#|//|<!--)\s*(TODO|FIXME)\b")),
)


@dataclass(frozen=True)
class FileReview:
    """The review of one file. ``kind`` is python, text, binary, empty or too large; ``size`` is in bytes."""

    path: str
    kind: str
    size: int
    lines: int = 0
    findings: tuple[Finding, ...] = ()
    functions: tuple[Function, ...] = ()

    @property
    def problems(self) -> list[Finding]:
        """The serious findings, in the order of their lines."""
        return [finding for finding in self.findings if finding.serious]

    @property
    def notes(self) -> list[Finding]:
        """The findings that are not serious."""
        return [finding for finding in self.findings if not finding.serious]

    @property
    def summary(self) -> str:
        """One or two plain sentences: what to look at, and the file's measures."""
        if self.kind not in ("python", "text"):
            return "The file is empty." if self.kind == "empty" else f"The file is {self.kind}: {self.size} bytes."
        notes = _count(self.notes, "note")
        said = f"No problems, {notes}: {_named(self.notes)}." if self.notes else "Nothing to remark."
        if problems := self.problems:
            said = f"{_count(problems, 'problem')}: {_named(problems)}{f', and {notes}' if self.notes else ''}."
        said = f"{said} {_count(range(self.lines), 'line')}"
        if not self.functions:
            return f"{said}."
        name, line, complexity = max(self.functions, key=lambda function: function.complexity)
        functions = _count(self.functions, "function")
        return f"{said} with {functions}; the most complex is {name} ({complexity}, line {line})."


def _count(things: Collection[object], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _named(findings: Sequence[Finding]) -> str:
    more = f"; {len(findings) - 3} more" if len(findings) > 3 else ""
    return "; ".join(map(str, findings[:3])) + more


def source_files(folder: Path) -> list[Path]:
    """Return the readable source and text files below ``folder``, sorted; links to folders are not followed.

    Hidden files and folders, virtual environments, build results and workspaces of agents (``*.agentq``) are left out.
    """
    found: list[Path] = []
    for directory, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _SKIPPED_FOLDER.fullmatch(name)]
        paths = [Path(directory, name) for name in names if _SOURCE.fullmatch(name)]
        # Regular files only: reading a pipe could block without end.
        found += [path for path in paths if path.is_file() and os.access(path, os.R_OK)]
    return sorted(found)


def review_source(path_name: str, source: bytes) -> FileReview:
    """Review the file ``path_name`` (only its name is used) with the contents ``source``. Never raises."""
    size, suffix = len(source), PurePath(path_name).suffix.lower()
    if not source.strip() or size > LARGEST or b"\0" in source:
        return FileReview(path_name, "too large" if size > LARGEST else "binary" if source.strip() else "empty", size)
    findings, functions = examine(source) if suffix in (".py", ".pyi") else ([], [])
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = source.decode("latin-1")
        findings.append(Finding(source.count(b"\n", 0, error.start) + 1, "encoding", "not valid UTF-8"))
    lines = text.removesuffix("\n").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    findings = sorted([*findings, *_in_lines(lines), *_unreadable(text, suffix)])
    kind = "python" if suffix in (".py", ".pyi") else "text"
    return FileReview(path_name, kind, size, len(lines), tuple(findings), tuple(functions))


def _in_lines(lines: Sequence[str]) -> Iterator[Finding]:
    """Yield one finding for all lines of a kind, at the first of them, so that a file full of them has one remark."""
    for rule, what, serious, pattern in _IN_LINES:
        if numbers := [number for number, line in enumerate(lines, 1) if pattern.search(line)]:
            times = f", {len(numbers)} times" if len(numbers) > 1 else ""
            yield Finding(numbers[0], rule, what + times, serious)


def _unreadable(text: str, suffix: str) -> Iterator[Finding]:
    try:
        {".json": json.loads, ".toml": tomllib.loads}.get(suffix, str)(text)
    except (ValueError, RecursionError) as error:
        line = re.search(r"line (\d+)", str(error))
        what = f"not valid {suffix[1:].upper()}: {error}"
        yield Finding(int(line[1]) if line else 1, "unreadable", what, serious=True)
