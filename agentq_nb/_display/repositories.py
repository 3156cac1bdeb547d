"""Documents of diffs, commits and clones of repositories."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from agentq_nb._display.document import Cell, Document, shows
from agentq_nb.agent_os import BroughtBack, Commit, Diff, Discarded, FileChange, Updated

_LONGEST_DIFF = 200_000
"""Characters. A longer one is cut in the middle where it is shown; ``diff.text`` has all of it."""
_MOST_FILES = 200
_RED, _GREEN, _CYAN, _BOLD, _PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[1m", "\x1b[0m"


@shows(Diff)
def _diff(diff: Diff) -> Document:
    return Document(
        title=f"{diff.branch}: {counted(len(diff.files), diff.insertions, diff.deletions)}",
        facts=[("since", diff.base[:12])],
        **_table(diff.files),
        texts=[("Diff", diff.text)] if diff.text else [],
        longest=_LONGEST_DIFF,
        is_diff=True,
    )


@shows(Commit)
def _commit(commit: Commit) -> Document:
    if commit.commit is None:
        return Document(notes=[f"There was nothing to commit on {commit.branch}."])
    size = counted(len(commit.files), commit.insertions, commit.deletions)
    return Document(title=f"{commit.commit[:12]} on {commit.branch}: {size}", **_table(commit.files))


@shows(BroughtBack)
def _brought_back(brought: BroughtBack) -> Document:
    notes = [f"Not committed, so still in the VM: {', '.join(brought.uncommitted[:20])}"] if brought.uncommitted else []
    if brought.branch is None:
        return Document(notes=["The VM has no commits of its own, so no branch was made.", *notes])
    size = counted(len(brought.files), brought.insertions, brought.deletions)
    return Document(
        title=f"Branch {brought.branch}: {size}",
        facts=[("commit", brought.commit), ("repository", brought.repository)],
        **_table(brought.files),
        notes=notes,
    )


@shows(Updated)
def _updated(updated: Updated) -> Document:
    said = {
        "current": Cell("The branch has the repository's head already.", "good"),
        "updated": Cell("The branch was updated to the repository's head.", "good"),
        "conflicts": Cell("Both sides changed the same files, so the branch is as it was.", "bad"),
    }[updated.status]
    advice = f"An agent in the VM can solve it: ask it to merge {updated.ref}."
    return Document(
        facts=[("result", said), ("head", updated.base[:12]), *(("conflict", path) for path in updated.conflicts)],
        notes=[advice] if updated.conflicts else [],
    )


@shows(Discarded)
def _discarded(discarded: Discarded) -> Document:
    return Document(
        title=f"Discarded: {_files(len(discarded.files))}",
        **_table(discarded.files),
        notes=[f"All of it is kept in the VM as commit {discarded.kept}: git branch NAME {discarded.kept}"],
    )


@shows(FileChange)
def _file(change: FileChange) -> Document:
    return Document(**_table([change]))


def counted(files: int, insertions: int, deletions: int) -> str:
    """Return the size of a change: ``3 files, +10 -2``."""
    return f"{_files(files)}, +{insertions:,} -{deletions:,}"


def _files(files: int) -> str:
    return f"{files:,} file{'' if files == 1 else 's'}"


def _table(files: Sequence[FileChange]) -> dict[str, Any]:
    rows = [(_name(file), file.kind, *_lines(file)) for file in files[:_MOST_FILES]]
    if len(files) > _MOST_FILES:
        rows.append((f"and {len(files) - _MOST_FILES:,} more", "", "", ""))
    return {"columns": ("file", "change", "+", "-"), "rows": rows, "empty": "Nothing has changed."}


def _name(file: FileChange) -> str:
    return file.path if file.old_path is None else f"{file.old_path} → {file.path}"


def _lines(file: FileChange) -> tuple[object, object]:
    if file.binary:
        return ("binary", "")
    return (Cell(str(file.insertions), "good"), Cell(str(file.deletions), "bad"))


def for_terminal(text: str) -> str:
    """Return a printed document, its diffs in colours if the output is a terminal that has them, unless ``NO_COLOR`` is set."""
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain else coloured(text)


def coloured(text: str) -> str:
    """Return a printed document with the lines of its diffs in colours, for a terminal."""
    lines: list[str] = []
    inside = False
    for line in text.split("\n"):
        inside = inside or line.startswith("  diff --git ")
        colour = _colour(line[2:]) if inside and line.startswith("  ") else ""
        lines.append(f"{colour}{line}{_PLAIN}" if colour else line)
    return "\n".join(lines)


def _colour(line: str) -> str:
    if line.startswith(("+++", "---", "diff --git", "index ", "new file", "deleted file", "rename ", "similarity ")):
        return _BOLD
    return {"+": _GREEN, "-": _RED, "@": _CYAN}.get(line[:1], "")
