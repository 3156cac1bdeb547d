"""A VM's root folder: its path, and file operations that cannot leave it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeAlias

from agentq_nb.agent_os.sandbox.contained_paths import DIRECTORY, open_beneath
from agentq_nb.agent_os.sandbox.launcher import remove_tree
from agentq_nb.agent_os.values import FileInfo, FileKind
from agentq_nb.errors import WorkspaceError

HOME = "/home/user"
"""The root's name inside a VM, whatever its path outside."""

LARGEST_READ = 256 * 1024 * 1024
"""The most bytes that ``read`` loads into memory."""

_READ = os.O_RDONLY | os.O_NONBLOCK
"""Opening a pipe must not wait for a writer."""

FileName: TypeAlias = str | os.PathLike[str]

_UNREADABLE = re.compile(r"[^A-Za-z0-9._-]+")


def root_folder(parent: Path, actor_name: str, key: Sequence[str]) -> Path:
    """Return the root of the VM ``actor_name`` with ``key``: a readable name with a hash of the whole key."""
    canonical = json.dumps(list(key), ensure_ascii=False, separators=(",", ":"))
    readable = _UNREADABLE.sub("_", "-".join(key))[:40].strip("._-") or "vm"
    return parent / actor_name / f"{readable}-{hashlib.sha256(canonical.encode()).hexdigest()[:16]}"


class Workspace:
    """Files below one folder. Names are relative to it, or start with ``/home/user`` or the folder's own path.

    :param start: the name of the folder in it that relative names start from, such as that of a clone.
    :param mounted: the folder that ``start`` is, where that is not in ``root`` but somewhere else.

    Every method raises :class:`~agentq_nb.errors.WorkspaceError` for a name that leaves the folder and for whatever the
    file system refuses. The methods block: call them in a worker thread.
    """

    def __init__(self, root: Path, start: str | None = None, mounted: Path | None = None) -> None:
        self.root = Path(os.path.abspath(root))
        self.start: tuple[str, ...] = () if start is None else (start,)
        self.mounted = mounted

    def ensure(self) -> None:
        """Create the root with mode 0700 if it is missing."""
        with _as_workspace_error(self.root, "could not be created"):
            for folder in (self.root.parent.parent, self.root.parent, self.root):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, name: FileName) -> Path:
        """Return the real path of a name. Links on the way are not checked: use it for display, or under isolation."""
        folder, parts = self._place(self.parts(name))
        return folder.joinpath(*parts)

    def _place(self, parts: tuple[str, ...]) -> tuple[Path, tuple[str, ...]]:
        """Return the folder that a name is in, and the name's components below that."""
        if self.mounted is not None and parts[:1] == self.start:
            return self.mounted, parts[1:]
        return self.root, parts

    def parts(self, name: FileName) -> tuple[str, ...]:
        """Return the components of a name below the root; ``()`` is the root itself."""
        text = os.fspath(name)
        try:
            encoded = os.fsencode(text)
        except UnicodeEncodeError:
            raise _refusal(name, "is no file name: it has characters that no file system can store") from None
        if not text or b"\0" in encoded:
            raise _refusal(name, "is no file name: it is empty or has a NUL character")
        before = self.start
        for folder, below in ((self.mounted, self.start), (self.root, ()), (HOME, ())):
            if folder is not None and (text == str(folder) or text.startswith(f"{folder}/")):
                text, before = text[len(str(folder)) :].lstrip("/"), below
                break
        if text.startswith("/"):
            raise _refusal(name, f"leaves the workspace: use a relative name, or one below {self._called()}")
        parts = tuple(part for part in text.split("/") if part not in ("", "."))
        if ".." in parts:
            raise _refusal(name, "leaves the workspace: `..` is not accepted in names")
        return (*before, *parts)

    def _called(self) -> str:
        """Return what the workspace is called inside and outside."""
        return f"{HOME}, which is {self.root} on this machine"

    def read(self, name: FileName) -> bytes:
        """Return the bytes of a regular file, at most ``LARGEST_READ``."""
        with self.reader(name) as file:
            data = file.read(LARGEST_READ + 1)
        if len(data) > LARGEST_READ:
            raise _refusal(name, f"is larger than {LARGEST_READ} bytes: read it in parts with exec")
        return data

    @contextmanager
    def reader(self, name: FileName) -> Generator[BinaryIO]:
        """Open a regular file to read it in pieces."""
        with _as_workspace_error(name, "could not be read"), self._opened(self.parts(name), _READ) as file:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise _refusal(name, "is not a regular file")
            with os.fdopen(os.dup(file), "rb") as reader:
                yield reader

    def write(self, name: FileName, data: bytes | str) -> None:
        """Write ``data`` (text as UTF-8) atomically: a reader sees the old file or the whole new one.

        Missing parent folders are created. A link is neither written through nor replaced.
        """
        parts = self._leaf(name)
        content = _encoded(name, data) if isinstance(data, str) else bytes(data)
        with _as_workspace_error(name, "could not be written"), self._made(parts[:-1]) as parent:
            mode = _mode_to_keep(name, parent, parts[-1])
            temporary = f".agentq-{secrets.token_hex(8)}.tmp"
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(temporary, flags, 0o644 if mode is None else mode, dir_fd=parent)
            try:
                with os.fdopen(file, "wb") as writer:
                    writer.write(content)
                    if mode is not None:
                        os.fchmod(writer.fileno(), mode)
                os.rename(temporary, parts[-1], src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=parent)
                raise

    def list_dir(self, name: FileName = ".") -> list[FileInfo]:
        """Return the contents of a folder, sorted by name."""
        with (
            _as_workspace_error(name, "could not be listed"),
            self._opened(self.parts(name), os.O_RDONLY | os.O_DIRECTORY) as folder,
        ):
            names = sorted(os.listdir(folder))
            found: list[FileInfo] = []
            for entry in names:
                with suppress(FileNotFoundError):  # deleted since it was listed
                    found.append(_info(entry, os.stat(entry, dir_fd=folder, follow_symlinks=False)))
            return found

    def make_dir(self, name: FileName) -> None:
        """Create a folder and its missing parents; an existing one is fine."""
        with _as_workspace_error(name, "could not be created"), self._made(self.parts(name)):
            pass

    def stat(self, name: FileName) -> FileInfo:
        """Return facts about a name; links are not followed."""
        parts = self.parts(name)
        with _as_workspace_error(name, "could not be looked at"):
            if not parts or parts == self.start:
                with self._opened(parts, DIRECTORY) as root:
                    return _info(parts[-1] if parts else self.root.name, os.fstat(root))
            with self._opened(parts[:-1], DIRECTORY) as parent:
                return _info(parts[-1], os.stat(parts[-1], dir_fd=parent, follow_symlinks=False))

    def exists(self, name: FileName) -> bool:
        """Whether a name exists; a dangling link does."""
        try:
            self.stat(name)
        except WorkspaceError as error:
            if error.metadata.get("errno") in ("ENOENT", "ENOTDIR"):
                return False
            raise
        return True

    def move(self, source: FileName, target: FileName) -> None:
        """Rename a file, folder or link; an existing file is replaced, a folder that is not empty is not."""
        old, new = self._leaf(source), self._leaf(target)
        with (
            _as_workspace_error(source, f"could not be moved to {_shown(target)}"),
            self._opened(old[:-1], DIRECTORY) as old_parent,
            self._made(new[:-1]) as new_parent,
        ):
            os.rename(old[-1], new[-1], src_dir_fd=old_parent, dst_dir_fd=new_parent)

    def delete(self, name: FileName, recursive: bool = False) -> None:
        """Remove a file, a link (never its target), an empty folder, or with ``recursive`` any folder."""
        parts = self._leaf(name)
        with _as_workspace_error(name, "could not be deleted"), self._opened(parts[:-1], DIRECTORY) as parent:
            if not stat.S_ISDIR(os.stat(parts[-1], dir_fd=parent, follow_symlinks=False).st_mode):
                os.unlink(parts[-1], dir_fd=parent)
            elif recursive:
                remove_tree(parts[-1], parent)
            else:
                os.rmdir(parts[-1], dir_fd=parent)

    def remove(self) -> None:
        """Remove the workspace with its contents; do nothing where there is none."""
        with _as_workspace_error(self.root, "could not be removed"), suppress(FileNotFoundError):
            remove_tree(str(self.root))

    def directory(self, name: FileName) -> tuple[str, ...]:
        """Return the components of an existing folder in the workspace."""
        parts = self.parts(name)
        with _as_workspace_error(name, "cannot be a working directory"), self._opened(parts, DIRECTORY):
            return parts

    def snapshot(self) -> dict[str, tuple[int, int, int]]:
        """Return each file's name with what a write changes (size, time, inode), to tell what a command did."""
        found: dict[str, tuple[int, int, int]] = {}
        start = self.path(".")
        folders = [str(start)]  # not os.walk, which recurses into each folder
        while folders:
            with suppress(OSError), os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if not self.start or entry.path != f"{start}/.git":
                            folders.append(entry.path)
                        continue
                    with suppress(OSError):
                        facts = entry.stat(follow_symlinks=False)
                        name = os.path.relpath(entry.path, start)
                        found[name] = (facts.st_size, facts.st_mtime_ns, facts.st_ino)
        return found

    def _leaf(self, name: FileName) -> tuple[str, ...]:
        parts = self.parts(name)
        if not parts or parts == self.start:
            raise _refusal(name, "is the workspace itself, which stays as it is")
        return parts

    @contextmanager
    def _opened(self, parts: Sequence[str], flags: int) -> Generator[int]:
        self.ensure()
        folder, below = self._place(tuple(parts))
        root = os.open(folder, DIRECTORY | (0 if folder == self.mounted else os.O_NOFOLLOW))
        try:
            opened = open_beneath(root, below, flags)
        finally:
            os.close(root)
        try:
            yield opened
        finally:
            os.close(opened)

    @contextmanager
    def _made(self, parts: Sequence[str]) -> Generator[int]:
        """Open the folder ``parts``, creating it and its parents where missing."""
        for depth, part in enumerate(parts):
            with self._opened(parts[:depth], DIRECTORY) as parent, suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=parent)
        with self._opened(parts, DIRECTORY) as folder:
            yield folder


def _encoded(name: FileName, text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        what = f"could not be written: the text has half a character at position {error.start}; give bytes"
        raise _refusal(name, what) from None


def _mode_to_keep(name: FileName, parent: int, leaf: str) -> int | None:
    """Return the permissions of the file to be replaced; None where there is none."""
    try:
        facts = os.stat(leaf, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(facts.st_mode):
        raise _refusal(name, "is a symbolic link, which is not written through: write to its target, or delete it")
    if not stat.S_ISREG(facts.st_mode):
        raise _refusal(name, "is not a regular file")
    return stat.S_IMODE(facts.st_mode) & 0o777


def _info(name: str, facts: os.stat_result) -> FileInfo:
    kinds: dict[int, FileKind] = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
    return FileInfo(name, kinds.get(stat.S_IFMT(facts.st_mode), "other"), facts.st_size, facts.st_mtime)


def _shown(name: FileName) -> str:
    text = repr(os.fspath(name))
    return text if len(text) <= 200 else f"{text[:150]}…{text[-40:]}"


def _refusal(name: FileName, what: str, number: int | None = None) -> WorkspaceError:
    metadata = {"path": _shown(name)} | ({} if number is None else {"errno": errno.errorcode.get(number, str(number))})
    return WorkspaceError(f"{_shown(name)} {what}.", metadata=metadata)


@contextmanager
def _as_workspace_error(name: FileName, what: str) -> Generator[None]:
    """Translate an error number into a sentence."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        if number in (errno.EXDEV, errno.ELOOP):
            raise _refusal(name, "leaves the workspace by a symbolic link, which is not followed", number) from None
        why = {
            errno.ENOENT: "there is no such file or folder",
            errno.ENOTEMPTY: "the folder is not empty (say recursive=True)",
            errno.ENOTDIR: "a part of it is a link or a file, not a folder",
        }.get(number, error.strerror or str(error))
        raise _refusal(name, f"{what}: {why}", number) from None
