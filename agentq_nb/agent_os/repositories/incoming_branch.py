"""Take over a branch that comes out of a VM: a bundle, which is checked, and fetched so that nothing in it runs.

Git before 2.46 does not check the objects of a bundle, whatever ``transfer.fsckObjects`` says. So its objects go into an
empty repository first, and are fetched from there.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from agentq_nb._core.threads import to_its_end
from agentq_nb.agent_os.repositories.changes import parse_changes
from agentq_nb.agent_os.repositories.host_git import host_git
from agentq_nb.agent_os.repositories.mirror import borrow, common_folder, init
from agentq_nb.agent_os.repositories.repository import why_not_a_branch
from agentq_nb.agent_os.sandbox.workspace import Workspace
from agentq_nb.agent_os.values import FileChange
from agentq_nb.errors import RepositoryError

LARGEST_BUNDLE = 8 << 30
"""Bytes."""

_INCOMING = "refs/heads/incoming"
_PIECE = 1 << 20
_LONGEST_HEADER = 1 << 16
_SIGNATURE = re.compile(rb"# v([23]) git bundle")
_ABILITY = re.compile(rb"@object-format=(sha1|sha256)")
_PREREQUISITE = re.compile(rb"-[0-9a-f]{40,64}( .*)?")
_REF = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) HEAD")

_SAFE = (
    ("transfer.fsckObjects", "true"),
    ("fetch.fsckObjects", "true"),
    ("protocol.allow", "never"),
    ("protocol.file.allow", "always"),
    ("fetch.prune", "false"),
    ("fetch.bundleURI", ""),
)
"""Every object is checked, and nothing is fetched from anywhere else."""


def copy_out(workspace: Workspace, name: str, copy: Path) -> Path:
    """Copy a file of the VM to ``copy``, where its agents cannot change it meanwhile; return that.

    Blocks. Raises ``RepositoryError`` for a file that is too large, and ``WorkspaceError`` for one that is none.
    """
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with workspace.reader(name) as source, open(copy, "xb") as target:
            left = os.fstat(source.fileno()).st_size
            if left > LARGEST_BUNDLE:
                raise RepositoryError(
                    f"The commits of the VM take more than {LARGEST_BUNDLE} bytes.", code="bad_bundle"
                )
            while left and (data := source.read(min(left, _PIECE))):
                target.write(data)
                left -= len(data)
    except BaseException:
        copy.unlink(missing_ok=True)
        raise
    return copy


@dataclass(frozen=True)
class Bundle:
    """A bundle with nothing but the history of one commit."""

    path: Path
    commit: str
    start: int
    """Where its objects begin, in bytes."""


def checked_bundle(path: Path) -> Bundle:
    """Return what a file holds if it is a bundle of the history of ``HEAD``. Blocks. Raises ``RepositoryError``."""
    with open(path, "rb") as file:
        header, end, _ = file.read(_LONGEST_HEADER).partition(b"\n\n")
    first, *lines = header.split(b"\n")
    refs = [line for line in lines if not line.startswith((b"@", b"-"))]
    known = all(_ABILITY.fullmatch(line) or _PREREQUISITE.fullmatch(line) for line in lines if line not in refs)
    found = _REF.fullmatch(refs[0]) if len(refs) == 1 else None
    if not end or not _SIGNATURE.fullmatch(first) or not known or found is None:
        raise RepositoryError("What the VM gave as its commits is no bundle of one branch.", code="bad_bundle")
    return Bundle(path, found.group(1).decode(), len(header) + len(end))


@asynccontextmanager
async def unpacked(bundle: Bundle, repository: Path) -> AsyncGenerator[Path]:
    """Unpack a bundle into a new repository, which borrows all that is not in the bundle from the user's."""
    quarantine = bundle.path.with_suffix(".git")
    doing = "The commits of the VM could not be read"
    try:
        await init(quarantine, bundle.commit, "--bare")
        await to_its_end(borrow, quarantine, Path(await common_folder(str(repository))))
        with await to_its_end(_objects_of, bundle) as objects:
            await host_git("index-pack", "--stdin", "--fix-thin", at=quarantine, doing=doing, stdin=objects)
        await host_git("update-ref", _INCOMING, bundle.commit, at=quarantine, doing=doing)
        yield quarantine
    finally:
        await to_its_end(shutil.rmtree, quarantine, ignore_errors=True)


def _objects_of(bundle: Bundle) -> BinaryIO:
    """Open a bundle where its objects begin; git reads on from there."""
    file = open(bundle.path, "rb", buffering=0)  # noqa: SIM115  # the caller closes it
    file.seek(bundle.start)
    return cast(BinaryIO, file)


async def fetch_branch(repository: Path, bundle: Bundle, branch: str, replace: str | None) -> None:
    """Fetch the bundle's commit as ``branch``. Nothing else in the repository changes.

    ``replace``: the branch may be moved to another line of history if it is at this commit. Raises ``RepositoryError``.
    """
    check_branch(branch)
    ref = f"refs/heads/{branch}"
    doing = f"The branch {branch} could not be brought back into {repository}"
    _, now = await host_git("rev-parse", "--verify", "--quiet", ref, at=repository, doing=doing, accept=(0, 1))
    force = "+" if replace is not None and now.strip() == replace else ""
    words = ["fetch", "--no-progress", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"]
    words += ["--no-auto-maintenance", "--show-forced-updates", "--"]
    try:
        async with unpacked(bundle, repository) as quarantine:
            words += [str(quarantine), f"{force}{_INCOMING}:{ref}"]
            await host_git(*words, at=repository, doing=doing, options=_SAFE)
    except RepositoryError as error:
        if "refusing to fetch into" in error.message:
            raise RepositoryError(
                f"The branch {branch} is checked out in {repository}, so it is left alone. Bring the work back as another "
                'one: await vm.bring_back(branch="...").',
                code="branch_checked_out",
            ) from None
        if "non-fast-forward" in error.message or "[rejected]" in error.message:
            raise RepositoryError(
                f"The branch {branch} of {repository} has commits that the VM does not have, so it is left alone. Bring "
                'the work back as another one: await vm.bring_back(branch="...").',
                code="branch_moved",
            ) from None
        raise


def check_branch(branch: str) -> None:
    """Raise ``RepositoryError`` for what cannot be a branch's name."""
    if (why := why_not_a_branch(branch)) is not None:
        raise RepositoryError(f"{branch!r:.200} is no name for a branch: {why}.", code="bad_branch")


async def changes_between(repository: Path, before: str, after: str) -> tuple[FileChange, ...]:
    """Return the files that differ between two commits of the user's repository."""
    words = ("diff-tree", "-r", "-z", "-M", "--raw", "--numstat", "--no-ext-diff", "--no-textconv", before, after)
    return parse_changes((await host_git(*words, at=repository, doing="The changes could not be read"))[1])


async def bundle_commit(repository: Path, commit: str, have: tuple[str, ...], bundle: Path) -> bool:
    """Write the history of a commit of a mirror to a bundle, without what a clone has. False if it has all of it."""
    doing = f"Commit {commit} could not be given to the VM"
    without = [f"^{each}" for each in have]
    _, new = await host_git("rev-list", "--max-count=1", commit, *without, at=repository, doing=doing)
    if not new.strip():
        return False
    ref = f"refs/agentq/{commit}"
    await host_git("bundle", "create", "--quiet", str(bundle), ref, *without, at=repository, doing=doing)
    return True
