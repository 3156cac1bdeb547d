"""A repository that each VM gets a clone of, and the names of the branches in which VMs work."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OTHER = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 60
"""Characters of a key in a branch's name: each part of the name is a file's name in many repositories."""

_NEVER = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")
"""What ``git check-ref-format`` refuses anywhere in a name."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[^/\s:]+@[^/\s:]+:")
"""The beginning of a URL, or of what ssh takes for one: ``git@github.com:owner/name``."""
_PASSWORD = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/@]*:[^/@]+@")
_UNREADABLE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Repository:
    """A git repository as the workspace of VMs: each VM works in a clone of its own, on a branch of its own.

        vm = agent_os(agents=[agents.claude], workspace=Repository("~/src/shop", setup="npm ci"))
        box = create_client().vm.get_or_create("fix-login")
        ...
        await box.commit("Fix the login")
        await box.bring_back()                  # the branch agentq/vm/fix-login is in ~/src/shop now

    The clone is made when the VM is first used, and is called ``/home/user/NAME`` there. It contains the history of
    ``ref`` with its tags. Its objects are copies: nothing of your repository can be written from the VM, and your hooks
    and configuration are not in it. Submodules and files of Git LFS are not fetched. The clone survives restarts.

    :param source: the path of a repository on this machine, or a URL that git can fetch without asking for a password.
    :param ref: a branch, tag or commit; ``HEAD`` is what is checked out. It is looked up when the clone is made.
    :param branch: the name of each VM's branch; ``{name}`` is the actor's name, ``{key}`` its key. What cannot be part of a
        branch's name is replaced, and a hash added.
    :param setup: a command that is run once in the new clone, inside the sandbox: ``"npm ci"``, ``["uv", "sync"]``.
    :param depth: how many commits of the history the clone contains; None: all.

    Raises TypeError for arguments of the wrong kind, and ValueError for a branch that git would refuse and for a URL with a
    password.
    """

    source: str | os.PathLike[str]
    ref: str = "HEAD"
    branch: str = "agentq/{name}/{key}"
    setup: str | Sequence[str] | None = None
    depth: int | None = None

    def __post_init__(self) -> None:
        if not is_path(self.source):
            raise TypeError(f"Repository takes the path or the URL of a repository, not {self.source!r:.200}.")
        text = os.fspath(self.source)
        for name in ("ref", "branch"):
            value: object = getattr(self, name)
            if not isinstance(value, str) or not value or "\0" in value:
                raise TypeError(f"Repository({name}=...) is a name, not {value!r:.200}.")
        depth: Any = self.depth
        if depth is not None and (not isinstance(depth, int) or isinstance(depth, bool) or depth < 1):
            raise TypeError(f"Repository(depth=...) is a number of commits of 1 or more, or None; not {depth!r:.100}.")
        if (why := why_not_a_branch(branch_of(self.branch, "vm", ("key",)))) is not None:
            raise ValueError(f"Repository(branch={self.branch!r:.200}) is no name that git accepts: {why}.")
        if "{key}" not in self.branch:
            raise ValueError(
                f"Repository(branch={self.branch!r:.200}) gives every VM the same branch: put {{key}} into it."
            )
        if _PASSWORD.search(text):
            raise ValueError(
                "Repository takes no URL with a password: git would put it into command lines, which every user of this "
                "machine can read. Leave it out, and let git's credential helper or an SSH key do its work."
            )
        if not self.is_url:
            object.__setattr__(self, "source", str(local_path(text)))
        if self.setup is not None and not isinstance(self.setup, str):
            object.__setattr__(self, "setup", tuple(self.setup))

    @property
    def is_url(self) -> bool:
        """Whether it is fetched over the network."""
        text = os.fspath(self.source)
        return bool(_URL.match(text)) and not text.startswith("file://")

    @property
    def name(self) -> str:
        """The name of the clone's folder in the VM."""
        text = os.fspath(self.source).rstrip("/")
        return folder_name(re.split(r"[/:]", text)[-1].removesuffix(".git"), "repository")

    def branch_for(self, name: str, key: Sequence[str]) -> str:
        """Return the branch of the VM ``name`` with ``key``."""
        return branch_of(self.branch, name, key)

    def __str__(self) -> str:
        return without_password(os.fspath(self.source))


def is_path(value: object) -> bool:
    """Whether it is the text of a path, or an object that stands for one."""
    if isinstance(value, os.PathLike):
        value = os.fspath(cast("os.PathLike[Any]", value))
    return isinstance(value, str) and value != "" and "\0" not in value


def local_path(text: str) -> Path:
    """Return a path, or a ``file:`` URL, as an absolute path."""
    path = unquote(urlsplit(text).path) if text.startswith("file://") else text
    return Path(os.path.abspath(Path(path).expanduser()))


def folder_name(name: str, otherwise: str) -> str:
    """Return a name as that of a plain folder: no hidden one, and nothing that a program takes for an option."""
    return _UNREADABLE.sub("-", name)[:60].strip("._-") or otherwise


def without_password(url: str) -> str:
    """Return a URL without its user and password; a path as it is."""
    return re.sub(r"(?<=://)[^/@]*@", "", url)


def branch_of(template: str, name: str, key: Sequence[str]) -> str:
    """Return the branch of the VM ``name`` with ``key``: the template with both put in, safe as a branch's name.

    Different keys give different branches: what had to be changed or joined gets a hash of the whole key.
    """
    return template.replace("{name}", safe_part([name])).replace("{key}", safe_part(key))


def safe_part(key: Sequence[str]) -> str:
    """Return a key as one part of a branch's name."""
    joined = "-".join(key)
    if len(key) == 1 and len(joined) <= _LONGEST and _PLAIN.fullmatch(joined) and why_not_a_branch(joined) is None:
        return joined
    readable = re.sub(r"\.{2,}", ".", _OTHER.sub("-", joined))[:_LONGEST].strip("._-") or "vm"
    canonical = json.dumps(list(key), ensure_ascii=True, separators=(",", ":"))
    return f"{readable}-{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"


def why_not_a_branch(name: str) -> str | None:
    """Return why git would refuse a branch of this name, as the end of a sentence; None if it would not."""
    if found := _NEVER.search(name):
        return f"it contains {found.group()!r}"
    if name in ("", "@", "HEAD") or name.startswith("refs/"):
        return f"{name!r} has a meaning of its own"
    for part in name.split("/"):
        if part.startswith((".", "-")) or part.endswith((".", ".lock")) or not part:
            return f"{part!r} cannot be a part of one"
    return None
