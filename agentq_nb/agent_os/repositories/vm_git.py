"""Git inside the sandbox: all that reads the clone of a VM, whose files and configuration its agents may have written.

What it prints is as trustworthy as the agent. It is only shown, or checked again outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agentq_nb.agent_os.repositories.changes import parse_changes
from agentq_nb.agent_os.values import ExecResult, FileChange
from agentq_nb.errors import RepositoryError

LARGEST_DIFF = 16_000_000
"""Characters."""
_LONGEST_COMPLAINT = 2000

_SETTINGS = {
    "advice.addEmbeddedRepo": "false",
    "color.ui": "false",
    "commit.gpgSign": "false",
    "core.attributesFile": "/dev/null",
    "core.bare": "false",
    "core.editor": "true",
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.pager": "cat",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "rerere.enabled": "false",
    "safe.directory": "*",
    "submodule.recurse": "false",
}
"""These come before what the clone's own configuration says."""

_CONFLICT, _UNCOMMITTED, _CURRENT = 3, 4, 5

_SNAPSHOT = """
set -e
cp .git/index "$TMPDIR/agentq-index" 2>/dev/null || :
export GIT_INDEX_FILE="$TMPDIR/agentq-index"
git add -A --ignore-errors . >/dev/null 2>&1 || [ $? -eq 1 ]
tree=$(git write-tree)
unset GIT_INDEX_FILE
base=
for one in "$@"; do if git merge-base --is-ancestor "$one" HEAD 2>/dev/null; then base=$one; fi; done
: "${base:=$1}"
"""
"""Makes a tree of all files that are not ignored, and finds the last commit of ours from which HEAD came."""

_CHANGES = "git diff-tree -r -z -M --raw --numstat --no-ext-diff --no-textconv"

_STATE = f"""{_SNAPSHOT}
printf '%s\\0%s\\0%s\\0' "$tree" "$base" "$(git rev-parse --verify HEAD)"
{_CHANGES} "$base" "$tree"
"""

_BETWEEN = f"""{_CHANGES} "$1" "$2" """

_PATCH = """
git diff-tree -r -p -M --no-color --no-ext-diff --no-textconv --src-prefix=a/ --dst-prefix=b/ "$1" "$2"
"""

_COMMIT = f"""
set -e
message=$1; shift
before=$(git rev-parse --verify HEAD)
git add -A --ignore-errors . >/dev/null || [ $? -eq 1 ]
if [ "$(git write-tree)" = "$(git rev-parse "HEAD^{{tree}}")" ]; then exit 0; fi
git commit --quiet --no-verify --no-gpg-sign --cleanup=verbatim --allow-empty-message --message="$message"
printf '%s\\0' "$(git rev-parse --verify HEAD)"
{_CHANGES} "$before" HEAD
"""

_BUNDLE = f"""
file=$1; shift
{_SNAPSHOT}
head=$(git rev-parse --verify HEAD)
printf '%s\\0%s\\0' "$head" "$base"
git diff-tree -r -z --name-only "$head" "$tree"
if [ -n "$(git rev-list --max-count=1 HEAD --not "$@")" ]; then
    git bundle create --quiet "$file" HEAD --not "$@"
fi
"""

_UNSAVED = f"""
brought=$1; shift
{_SNAPSHOT}
git rev-list --count --exclude='refs/agentq/*' --all HEAD --ignore-missing --not "$@" $brought
printf '\\0'
git diff-tree -r -z --name-only HEAD "$tree"
"""

_UPDATE = f"""
set -e
how=$1; commit=$2; label=$3; file=$4
if git merge-base --is-ancestor "$commit" HEAD 2>/dev/null; then exit {_CURRENT}; fi
if [ -n "$(git status --porcelain)" ]; then exit {_UNCOMMITTED}; fi
if [ -n "$file" ]; then git fetch --quiet --no-write-fetch-head --no-tags "$file" "refs/agentq/$commit"; fi
git update-ref "refs/remotes/origin/$label" "$commit"
if [ "$how" = rebase ]; then git rebase --quiet "$commit" >&2 && exit 0
else git merge --quiet --no-edit "$commit" >&2 && exit 0; fi
git diff --name-only --diff-filter=U -z
git "$how" --abort >&2
exit {_CONFLICT}
"""

_DISCARD = f"""{_SNAPSHOT}
kept=$(git commit-tree "$tree" -p HEAD -m "Discarded")
git update-ref "refs/agentq/discarded/$kept" "$kept"
printf '%s\\0' "$kept"
{_CHANGES} "$base" "$tree"
git reset --quiet --hard "$base"
git clean --quiet -d --force
"""


class Run(Protocol):
    """Runs a command in the clone's folder, inside the sandbox; output beyond ``limit`` characters is left out."""

    async def __call__(
        self, words: Sequence[str], env: Mapping[str, str], limit: int, timeout: float | None = None
    ) -> ExecResult: ...


@dataclass(frozen=True)
class Snapshot:
    """All files of a clone as one tree."""

    tree: str
    base: str
    head: str
    changes: tuple[FileChange, ...]


@dataclass(frozen=True)
class Bundled:
    head: str
    base: str
    uncommitted: tuple[str, ...]


class VmGit:
    """Git in one VM's clone. Every method raises ``RepositoryError`` where git fails.

    :param run: runs a command in the sandbox.
    """

    longest = 600.0
    """Seconds that one call may take: a program that an agent put into the configuration may never end."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def checkout(self) -> None:
        """Write the files of a new clone."""
        await self._git("git reset --quiet --hard", doing="The files of the clone could not be written")

    async def snapshot(self, bases: Sequence[str]) -> Snapshot:
        """Record all files that git does not ignore, committed or not, and compare them with where the clone began."""
        printed = await self._git(_STATE, *bases, doing="The state of the clone could not be read")
        tree, base, head, rest = _fields(printed, 3)
        return Snapshot(tree, base, head, _changes(rest))

    async def between(self, before: str, after: str) -> tuple[FileChange, ...]:
        """Return the files that differ between two trees."""
        return _changes(await self._git(_BETWEEN, before, after, doing="The changes could not be read"))

    async def patch(self, before: str, after: str) -> tuple[str, bool]:
        """Return a unified diff, and whether its middle is missing."""
        result = await self._result(_PATCH, before, after, doing="The diff could not be read")
        return result.stdout, result.truncated

    async def commit(self, message: str) -> tuple[str | None, tuple[FileChange, ...]]:
        """Commit everything; the commit is None where nothing had changed."""
        printed = await self._git(_COMMIT, message, doing="The changes could not be committed")
        if not printed:
            return None, ()
        commit, rest = _fields(printed, 1)
        return commit, _changes(rest)

    async def bundle(self, file: str, bases: Sequence[str]) -> Bundled:
        """Write the commits that came after ``bases`` to a file; none where there are no such commits."""
        printed = await self._git(_BUNDLE, file, *bases, doing="The commits of the VM could not be bundled")
        head, base, rest = _fields(printed, 2)
        return Bundled(head, base, tuple(rest.split("\0")[:-1]))

    async def unsaved(self, bases: Sequence[str], brought: Sequence[str]) -> tuple[tuple[str, ...], int]:
        """Return the files that are not committed, and the number of commits of any branch that were not brought back."""
        doing = "The state of the clone could not be read"
        commits, rest = _fields(await self._git(_UNSAVED, " ".join(brought), *bases, doing=doing), 1)
        return tuple(rest.split("\0")[:-1]), int(commits) if commits.strip().isdigit() else 1

    async def update(self, how: str, commit: str, label: str, file: str) -> tuple[bool, tuple[str, ...]]:
        """Rebase onto a commit, or merge it; return whether anything changed, and the files in conflict.

        ``file``: a bundle with the commit, or ``""`` if the clone has it.
        """
        words, ends = (how, commit, label, file), (0, _CONFLICT, _UNCOMMITTED, _CURRENT)
        result = await self._result(_UPDATE, *words, doing="The branch could not be updated", accept=ends)
        if result.exit_code == _UNCOMMITTED:
            raise RepositoryError(
                "The VM has changes that are not committed, so its branch was not updated. Commit them first: "
                'await vm.commit("..."); or take them back: await vm.discard().',
                code="uncommitted",
            )
        conflicts = tuple(result.stdout.split("\0")[:-1])
        return result.exit_code == 0, conflicts or (("?",) if result.exit_code == _CONFLICT else ())

    async def discard(self, bases: Sequence[str]) -> tuple[str, tuple[FileChange, ...]]:
        """Take everything back to where the clone began, and keep it as a commit; return that."""
        printed = await self._git(_DISCARD, *bases, doing="The changes could not be discarded")
        kept, rest = _fields(printed, 1)
        return kept, _changes(rest)

    async def _git(self, script: str, *arguments: str, doing: str) -> str:
        result = await self._result(script, *arguments, doing=doing)
        if result.truncated:
            raise RepositoryError(f"{doing}: too many files have changed. Let .gitignore list what git should ignore.")
        return result.stdout

    async def _result(self, script: str, *arguments: str, doing: str, accept: Sequence[int] = (0,)) -> ExecResult:
        words = ["/bin/sh", "-c", script, "sh", *arguments]
        result = await self._run(words, git_environment(), LARGEST_DIFF, self.longest)
        if result.timed_out:
            raise RepositoryError(f"{doing}: git did not end within {self.longest:g} seconds, inside the VM.")
        if result.exit_code not in accept:
            said = result.stderr.strip()[-_LONGEST_COMPLAINT:] or f"exit code {result.exit_code}"
            raise RepositoryError(f"{doing}. git said, inside the VM: {said}", metadata={"exit_code": result.exit_code})
        return result


def git_environment() -> dict[str, str]:
    """Return the variables of git in a clone: no configuration of the agent's home, and none of its programs."""
    settings: dict[str, str] = {"GIT_CONFIG_COUNT": str(len(_SETTINGS))}
    for index, (name, value) in enumerate(_SETTINGS.items()):
        settings |= {f"GIT_CONFIG_KEY_{index}": name, f"GIT_CONFIG_VALUE_{index}": value}
    return {
        **settings,
        "GIT_ALLOW_PROTOCOL": "file",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_DIR": ".git",
        "GIT_EDITOR": "true",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_WORK_TREE": ".",
        "LC_ALL": "C",
    }


def _fields(printed: str, count: int) -> list[str]:
    fields = printed.split("\0", count)
    if len(fields) != count + 1:
        raise RepositoryError("What git printed inside the VM cannot be read.")
    return fields


def _changes(printed: str) -> tuple[FileChange, ...]:
    try:
        return parse_changes(printed)
    except (ValueError, IndexError):
        raise RepositoryError("What git printed inside the VM cannot be read.") from None
