"""The socket of a store's host in this process: opened with the host, closed with it, and never in its way."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

from agentq_nb._host import registry_server
from agentq_nb._host.registry_server import HostSocket, Serveable

_NOTE_EVERY = 60.0
"""Seconds between two lines of the log about refused processes: one that tries again and again must not fill it."""


class StoreSocket:
    """Opens and closes the socket. What fails becomes a notice.

    :param registry: whose host answers.
    """

    def __init__(self, store: Path, registry: Serveable) -> None:
        self._store = store
        self._registry = registry
        self._path: Path | None = None
        self._socket: HostSocket | None = None
        self._failure: str | None = None
        self._refused_lock = threading.Lock()
        self._refused = 0
        self._refused_pid = 0
        self._noted_at = float("-inf")

    @property
    def notices(self) -> list[str]:
        """Why there is no socket; which processes of VMs it refused."""
        refused = self._refused and (
            f"The host's socket refused processes of VMs {self._refused} time{'' if self._refused == 1 else 's'}, "
            f"at last process {self._refused_pid}: an agent has tried to reach the host from outside its tools."
        )
        return [notice for notice in (self._failure, refused) if notice]

    def choose(self) -> dict[str, Any]:
        """Choose the path, and return what the store's guard says of it: nothing if there is none."""
        self._path, self._failure = None, None
        maker = registry_server.socket_maker
        if maker is None:
            return {}
        try:
            self._path = maker.choose_path(self._store)
        except OSError as error:
            self._failure = _unreachable(error)
            return {}
        return {"socket": str(self._path)}

    def open(self, *, is_kernel: bool) -> None:
        """Listen, now that the host runs and the store's lock is held. ``is_kernel``: something shows notices."""
        maker, path = registry_server.socket_maker, self._path
        if maker is not None and path is not None:
            try:
                self._socket = maker.open(path, self._registry, self._note_refused)
            except (OSError, RuntimeError) as error:  # RuntimeError: no thread can be started
                self._failure = _unreachable(error)
        if self._failure and not is_kernel:
            logging.getLogger("agentq").warning("%s", self._failure)

    async def close(self) -> None:
        """Close it, if it is open."""
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()

    def remove_files(self) -> None:
        """Remove its files, as the process ends."""
        if self._socket is not None:
            self._socket.remove_files()

    def _note_refused(self, pid: int) -> None:
        with self._refused_lock:
            self._refused += 1
            self._refused_pid = pid
            now = time.monotonic()
            if now < self._noted_at + _NOTE_EVERY:
                return
            self._noted_at = now
        logging.getLogger("agentq").warning(
            "The host's socket refused process %d, which a VM started (%d times so far).", pid, self._refused
        )


def _unreachable(error: Exception) -> str:
    return (
        f"This host cannot be reached from a shell or another notebook: its socket could not be made ({error}). All else "
        "works. Name a short path of a folder that only you can write in the variable JUPYTER_RUNTIME_DIR."
    )
