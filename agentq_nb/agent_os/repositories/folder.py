"""An existing folder in which a VM works in place: one VM at a time, among all kernels of this user on this machine."""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agentq_nb._core.runtime_files import make_private_folder, runtime_folders
from agentq_nb.agent_os.repositories.repository import folder_name, is_path, local_path
from agentq_nb.errors import RepositoryError


@dataclass(frozen=True)
class Folder:
    """An existing folder as the workspace of a VM: agents change the files in place.

        vm = agent_os(agents=[agents.claude], workspace=Folder("~/src/shop"))

    One VM at a time uses it, until it goes to sleep; another raises ``repository.folder_in_use``, which names that VM.
    Agents can change everything in it, hooks and configuration of a git repository too: those run, outside any sandbox, when
    you use git there. A :class:`Repository` does not have this risk.

    Raises TypeError for something that is no path.
    """

    path: str | os.PathLike[str]

    def __post_init__(self) -> None:
        if not is_path(self.path):
            raise TypeError(f"Folder takes the path of a folder, not {self.path!r:.200}.")
        object.__setattr__(self, "path", str(local_path(os.fspath(self.path))))

    @property
    def name(self) -> str:
        """The name of the folder in the VM."""
        return folder_name(os.path.basename(os.path.realpath(self.path)), "folder")


class FolderLock:
    """Holds a folder for one VM until :meth:`release`, or until the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None

    def take(self, holder: str) -> None:
        """Take it for the VM that is described as ``holder``. Blocks. Raises ``RepositoryError`` if another has it."""
        if not self._folder.is_dir():
            raise RepositoryError(f"There is no folder {self._folder}, which is this VM's workspace.", code="not_found")
        if self._file is not None:
            return
        digest = hashlib.sha256(os.fsencode(os.path.realpath(self._folder))).hexdigest()[:20]
        parent = runtime_folders(os.environ)[0]
        make_private_folder(parent)
        file = os.open(parent / f"folder-{digest}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = os.pread(file, 4096, 0).decode(errors="replace").strip() or "another VM"
            os.close(file)
            raise RepositoryError(
                f"The folder {self._folder} is in use by {other}: one VM at a time works in it. It is free when that VM "
                "sleeps or is destroyed. Or give agent_os a Repository: each VM then gets its own clone.",
                code="folder_in_use",
                metadata={"holder": other},
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, holder.encode("utf-8", "replace"), 0)
        self._file = file

    def release(self) -> None:
        """Let the next VM have it."""
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
            self._file = None
