"""Find the host that has a store's file open: its process, and the socket on which it listens."""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from agentq_nb._core.runtime_files import check_owner, read_private, secret_of
from agentq_nb._store.guard import holder_of

_CONNECT_TIMEOUT = 2.0


@dataclass(frozen=True)
class RunningHost:
    """A host of this user that listens.

    :ivar store: its file.
    :ivar socket: the Unix domain socket on which it answers HTTP requests.
    :ivar secret: what every request carries, as ``Authorization: Bearer SECRET``.
    :ivar pid: its process.
    :ivar notebook: the path of its notebook, if it has one.
    :ivar queues: the address, without its password, of the server that has its queues; None: the file has them.
    :ivar started: when it opened the file, as ISO text in UTC.
    """

    store: Path
    socket: Path
    secret: str
    pid: int | None = None
    notebook: str | None = None
    started: str | None = None
    queues: str | None = None

    def __repr__(self) -> str:
        """The secret is not for logs and notebooks."""
        return f"<RunningHost of {self.store}, process {self.pid}>"

    def __str__(self) -> str:
        """Say which one it is, for people."""
        where = self.store if self.notebook is None else f"notebook {self.notebook}"
        since = f", since {self.started}" if self.started else ""
        return f"the host of {where} (process {self.pid}{since})"


def find_host(store: Path) -> RunningHost | None:
    """Return the host that runs on a file and listens; None if there is none. Blocks, for milliseconds.

        found = find_host(Path("analysis.agentq.duckdb"))
        if found is not None:
            http.connect(found.socket)  # with the header Authorization: Bearer found.secret

    Reads the store's guard without locking it, so that a host can start meanwhile. A host of another user, or one whose
    socket could not be made, is not found: opening the file then raises StoreInUse.
    """
    real = Path(os.path.realpath(store))
    holder = holder_of(real)
    path = Path(str(holder.get("socket", "")))
    if not path.is_absolute():
        return None
    try:
        check_owner(path.parent)
        if not stat.S_ISSOCK(check_owner(path).st_mode):
            return None
        secret = read_private(secret_of(path))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_CONNECT_TIMEOUT)
            probe.connect(str(path))
    except (OSError, ValueError):  # gone, or left by a host that was killed
        return None
    said = (holder.get(name) for name in ("pid", "notebook", "started", "queues"))
    return RunningHost(real, path, secret, *said)
