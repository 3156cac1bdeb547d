"""What changed in a VM's repository, as values; and how to read what ``git diff-tree`` prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from agentq_nb.agent_os.values import ChangeKind, FileChange

_KINDS: dict[str, ChangeKind] = {"A": "added", "D": "deleted", "R": "renamed"}


@dataclass(frozen=True)
class Diff:
    """All that a VM has changed since the commit it began from, whether committed or not, new files included."""

    branch: str
    base: str
    """The commit it began from; after ``update``, the one it was updated to."""
    text: str = field(repr=False)
    """The changes as a unified diff. What is longer than 16 million characters is left out in the middle."""
    files: tuple[FileChange, ...]
    insertions: int
    deletions: int
    truncated: bool = False

    def __bool__(self) -> bool:
        return bool(self.files)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Commit:
    """The result of ``commit``: ``commit`` is None where there was nothing to commit."""

    branch: str
    commit: str | None
    files: tuple[FileChange, ...]
    insertions: int
    deletions: int

    def __bool__(self) -> bool:
        return self.commit is not None


@dataclass(frozen=True)
class BroughtBack:
    """The result of ``bring_back``: the VM's commits are on ``branch`` of ``repository``."""

    repository: str
    """The path of the repository that has the branch."""
    branch: str | None
    """None: the VM has committed nothing, so there is no branch."""
    commit: str | None
    files: tuple[FileChange, ...]
    insertions: int
    deletions: int
    uncommitted: tuple[str, ...] = ()
    """Paths that changed and are not committed: they were not brought back, and are still in the VM."""

    def __bool__(self) -> bool:
        return self.branch is not None


@dataclass(frozen=True)
class Updated:
    """The result of ``update``. After conflicts the VM's branch is as it was before."""

    status: Literal["current", "updated", "conflicts"]
    base: str
    """The commit at which the repository's ref is now."""
    conflicts: tuple[str, ...] = ()
    """The files that both sides changed."""
    ref: str = ""
    """What an agent in the VM calls that commit, to merge it itself: ``origin/main``."""

    def __bool__(self) -> bool:
        return not self.conflicts


@dataclass(frozen=True)
class Discarded:
    """The result of ``discard``."""

    files: tuple[FileChange, ...]
    """What was taken back."""
    kept: str | None
    """The commit in the VM's clone that still has all of it: ``git cherry-pick`` or ``git branch`` get it back."""


def parse_changes(printed: str) -> tuple[FileChange, ...]:
    """Read what ``git diff-tree -r -z -M --raw --numstat`` printed. Raises ``ValueError`` for anything else."""
    words = iter(printed.split("\0")[:-1])
    kinds: dict[str, tuple[ChangeKind, str | None]] = {}
    counts: dict[str, tuple[str, str]] = {}
    for word in words:
        if word.startswith(":"):
            _raw(word, words, kinds)
        else:
            added, deleted, path = word.split("\t", 2)
            if not path:  # renamed: both paths follow
                _next(words)
                path = _next(words)
            counts[path] = (added, deleted)
    return tuple(_change(path, *found, *counts.get(path, ("0", "0"))) for path, found in kinds.items())


def _raw(word: str, words: Iterator[str], kinds: dict[str, tuple[ChangeKind, str | None]]) -> None:
    letter = word.split(" ")[4][:1]
    path, old = _next(words), None
    if letter in "RC":
        old, path = path, _next(words)
    kinds[path] = (_KINDS.get(letter, "modified"), old)


def _next(words: Iterator[str]) -> str:
    word = next(words, None)
    if word is None:
        raise ValueError("a path is missing")
    return word


def _change(path: str, kind: ChangeKind, old: str | None, added: str, deleted: str) -> FileChange:
    if added == "-":
        return FileChange(path, kind, binary=True, old_path=old)
    return FileChange(path, kind, int(added), int(deleted), old_path=old)


def lines_of(files: tuple[FileChange, ...]) -> tuple[int, int]:
    """Return how many lines were inserted and deleted in all files."""
    return sum(file.insertions for file in files), sum(file.deletions for file in files)
