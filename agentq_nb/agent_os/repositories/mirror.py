"""A copy of a repository beside the VMs' folders, from which their clones are made.

It has only the history of one ref, so that nothing else of the user's repository, such as what was amended away, gets into
a VM; and it makes the second clone a copy of files. No agent can reach it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import shutil
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agentq_nb._core.threads import to_its_end
from agentq_nb.agent_os.repositories.host_git import host_git
from agentq_nb.agent_os.repositories.repository import Repository
from agentq_nb.agent_os.sandbox.launcher import remove_tree
from agentq_nb.errors import RepositoryError

FOLDER = ".repositories"
"""The name of the folder of mirrors, among those of VMs."""

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_UPLOAD = "git -c uploadpack.allowAnySHA1InWant=true upload-pack"


@dataclass(frozen=True)
class Resolved:
    """A ref, looked up."""

    commit: str
    label: str
    """The name that the clone gives to where it began, below ``refs/remotes/origin/``."""
    fetch: str
    """What to ask the repository for: the commit, or the full name of a ref."""


async def resolve(repository: Repository) -> Resolved:
    """Look up the repository's ref. Raises ``RepositoryError``."""
    return await (_resolve_remote(repository) if repository.is_url else _resolve_local(repository))


async def _resolve_local(repository: Repository) -> Resolved:
    at = Path(repository.source)
    doing = f"Ref {repository.ref!r:.200} of the repository {at} could not be looked up"
    verify = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{repository.ref}^{{commit}}")
    await host_git("rev-parse", "--git-dir", at=at, doing=f"{at} is not a git repository")
    code, commit = await host_git(*verify, at=at, doing=doing, accept=(0, 1, 128))
    if code:
        raise RepositoryError(
            f"{doing}: it names no commit. A new repository needs a first commit: git commit.", code="not_found"
        )
    name = repository.ref
    if name == "HEAD":
        name = (await host_git("symbolic-ref", "--quiet", "HEAD", at=at, doing=doing, accept=(0, 1)))[1].strip()
    return Resolved(commit.strip(), _label(name), commit.strip())


async def _resolve_remote(repository: Repository) -> Resolved:
    url = os.fspath(repository.source)
    if _COMMIT.fullmatch(repository.ref):
        return Resolved(repository.ref, "base", repository.ref)
    doing = f"The repository {repository} could not be read"
    refs = [f"refs/{kind}{repository.ref}" for kind in ("", "tags/", "heads/")]
    wanted = [repository.ref, *refs, *(f"{ref}^{{}}" for ref in refs)]
    _, listed = await host_git("ls-remote", "--quiet", "--", url, *wanted, at="/", doing=doing)
    found = {ref: commit for commit, _, ref in (line.partition("\t") for line in listed.splitlines())}
    for ref in (repository.ref, *refs):
        if ref in found:
            return Resolved(found.get(f"{ref}^{{}}", found[ref]), _label(ref), ref)
    raise RepositoryError(f"The repository {repository} has no ref {repository.ref!r:.200}.", code="not_found")


def _label(ref: str) -> str:
    name = re.sub(r"^refs/(heads|tags)/", "", ref)
    is_name = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*", name) and ".." not in name
    return "base" if not is_name or _COMMIT.fullmatch(name) or name.endswith((".", ".lock")) else name


_locks: weakref.WeakValueDictionary[tuple[int, Path], asyncio.Lock] = weakref.WeakValueDictionary()
"""One lock for each loop and mirror: two VMs that begin at the same time fetch once."""


class Mirror:
    """The copy of one repository's history up to one ref."""

    def __init__(self, repository: Repository, workspaces: Path) -> None:
        self.repository = repository
        named = "\0".join((os.fspath(repository.source), repository.ref, str(repository.depth)))
        digest = hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self.path = workspaces / FOLDER / f"{repository.name}-{digest}.git"

    async def fetch(self, resolved: Resolved) -> None:
        """Get the commit with its history, if it is not here yet. Raises ``RepositoryError``."""
        async with self._lock():
            if not self.path.is_dir():
                await self._create(resolved.commit)
            elif await self._has(resolved.commit):
                return
            await self._fetch(resolved)

    def _lock(self) -> asyncio.Lock:
        return _locks.setdefault((id(asyncio.get_running_loop()), self.path), asyncio.Lock())

    async def _create(self, commit: str) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        making = self.path.with_name(f".new-{secrets.token_hex(8)}")
        await init(making, commit, "--bare")
        await to_its_end(_put_in_place, making, self.path)

    async def _has(self, commit: str) -> bool:
        code, _ = await host_git(
            "rev-parse", "--verify", "--quiet", _kept(commit), at=self.path, doing="", accept=(0, 1)
        )
        return code == 0

    async def _fetch(self, resolved: Resolved) -> None:
        source = os.fspath(self.repository.source)
        words = ["fetch", "--quiet", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance"]
        if self.repository.depth is not None and not (self.path / "shallow").exists():
            words.append(f"--depth={self.repository.depth}")
        if not self.repository.is_url:
            words.append(f"--upload-pack={_UPLOAD}")
            source = await common_folder(source)
        await host_git(
            *words,
            "--",
            source,
            f"+{resolved.fetch}:{_kept(resolved.commit)}",
            at=self.path,
            doing=f"The repository {self.repository} could not be copied",
        )

    async def for_branches(self) -> Path:
        """Return the repository for branches that are brought back from VMs, if the user's repository is a URL.

        It is not the mirror itself, so that no VM's work gets into the clones of others.
        """
        path = self.path.with_name(f"{self.path.stem}-branches.git")
        async with self._lock():
            if not path.is_dir():
                making = path.with_name(f".new-{secrets.token_hex(8)}")
                objects = 64 if "sha256" in await self._format() else 40
                await init(making, "0" * objects, "--bare")
                await to_its_end(borrow, making, self.path)
                await to_its_end(_put_in_place, making, path)
            await to_its_end(borrow, path, self.path)
        return path

    async def _format(self) -> str:
        doing = f"{self.path} could not be read"
        return (await host_git("rev-parse", "--show-object-format", at=self.path, doing=doing))[1]

    async def tags(self) -> str:
        """Return the tags, as input for ``git update-ref --stdin``."""
        words = ("for-each-ref", "--format=create %(refname) %(objectname)", "refs/tags")
        return (await host_git(*words, at=self.path, doing="The tags could not be read"))[1]


def _put_in_place(making: Path, path: Path) -> None:
    """Give a new repository its name, unless another host has made it meanwhile. Blocks."""
    try:
        os.rename(making, path)
    except OSError:
        if not path.is_dir():
            raise
        remove_tree(str(making))


def _kept(commit: str) -> str:
    return f"refs/agentq/{commit}"


async def init(folder: Path, commit: str, *options: str) -> None:
    """Make an empty repository for objects named like ``commit``; no template of the user's gets into it."""
    kind = f"--object-format={'sha256' if len(commit) == 64 else 'sha1'}"
    words = ("init", "--quiet", "--template=", kind, *options, "--", str(folder))
    await host_git(*words, at="/", doing=f"{folder} could not be created")


def borrow(borrower: Path, lender: Path) -> None:
    """Let a repository of ours use the objects of another, as if they were its own. Blocks."""
    info, line = borrower / "objects" / "info", os.fsencode(lender / "objects") + b"\n"
    info.mkdir(exist_ok=True)
    alternates = info / "alternates"
    if not alternates.exists() or alternates.read_bytes() != line:  # git may be reading it
        alternates.write_bytes(line)
    with suppress(FileNotFoundError):
        shutil.copyfile(lender / "shallow", borrower / "shallow")


async def common_folder(source: str) -> str:
    """Return the folder with the objects of a local repository, also of one of its work trees."""
    words = ("rev-parse", "--path-format=absolute", "--git-common-dir")
    _, found = await host_git(*words, at=source, doing=f"{source} is not a git repository")
    return found.rstrip("\n")
