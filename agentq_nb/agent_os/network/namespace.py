"""A network namespace with only a loopback, and sockets in it for this process."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

_HOLDER = Path(__file__).with_name("namespace_holder.py")
_STARTING = 10.0  # seconds
_ENDING = 2.0  # seconds
_LONGEST_ANSWER = 1000  # bytes


class Namespace:
    """One network namespace. It exists while this object is open or a process is in it.

    All methods block for milliseconds and may be called from any thread.

    :ivar files: what a process needs to enter: the file of the user namespace that owns it, and its own.
    """

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, files: tuple[int, int]) -> None:
        self.files = files
        self._process = process
        self._control = control
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def start(cls) -> Namespace:
        """Create a namespace, with bubblewrap where possible, else without it. Raises ``OSError`` with the reason.

        Some systems let only bubblewrap create user namespaces; on others it is not installed.
        """
        why: list[str] = []
        if (program := shutil.which("bwrap")) is not None:
            options = ["--dev-bind", "/", "/", "--unshare-user", "--unshare-net", "--cap-drop", "ALL", "--"]
            try:
                return cls(*_held([program, *options]))
            except OSError as error:
                why.append(str(error))
        try:
            return cls(*_held([], "new"))
        except OSError as error:
            raise OSError("; ".join([*why, f"without bubblewrap: {error}"])) from None

    def socket(self, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
        """Return a TCP socket inside, neither bound nor connected. Raises ``OSError``."""
        with self._lock:
            if self._closed:
                raise OSError("the network of this VM is closed")
            made = self._ask(family)
            if made is None:  # the holder was killed, but the namespace still exists
                self._replace_holder()
                made = self._ask(family)
            if made is None:
                raise OSError("the process that holds the network of this VM ended")
            return made

    def listener(self, host: str, port: int = 0, backlog: int = 64) -> socket.socket:
        """Return a socket that listens inside. Raises ``OSError``."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = self.socket(family)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(backlog)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        return listener

    def close(self) -> None:
        """Release the namespace."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._end_holder()
            for file in self.files:
                os.close(file)

    def _ask(self, family: socket.AddressFamily) -> socket.socket | None:
        try:
            self._control.send(b"6" if family == socket.AF_INET6 else b"4")
            said, files = _received(self._control, 1)
        except OSError:
            return None
        if files:
            return socket.socket(fileno=files[0])
        if said:
            raise OSError(said.decode(errors="replace"))
        return None

    def _replace_holder(self) -> None:
        self._end_holder()
        self._process, self._control, files = _held([], *map(str, self.files), inherited=self.files)
        for file in files:
            os.close(file)

    def _end_holder(self) -> None:
        self._control.close()
        try:
            self._process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _held(
    around: list[str], *where: str, inherited: tuple[int, ...] = ()
) -> tuple[subprocess.Popen[bytes], socket.socket, tuple[int, int]]:
    """Start the holder by the command prefix ``around``, with its arguments ``where``.

    Returns its process, its control socket and the files of its namespace. Raises ``OSError``.
    """
    ours, theirs = socket.socketpair()
    ours.settimeout(_STARTING)
    with theirs:
        words = [*around, sys.executable, "-I", "-S", str(_HOLDER), str(theirs.fileno()), *where]
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={},
            cwd="/",
            start_new_session=True,
            pass_fds=[theirs.fileno(), *inherited],
        )
    files: list[int] = []
    with suppress(OSError):
        _, files = _received(ours, 2)
    assert process.stderr is not None
    with process.stderr:
        if len(files) == 2:
            return process, ours, (files[0], files[1])
        ours.close()
        process.kill()
        said = process.stderr.read().decode(errors="replace").strip().splitlines()
    raise OSError(said[-1] if said else f"it ended with exit code {process.wait()}")


def _received(control: socket.socket, most: int) -> tuple[bytes, list[int]]:
    """Return the holder's message and the files that come with it, which other processes must not inherit."""
    said, files, _, _ = socket.recv_fds(control, _LONGEST_ANSWER, most)
    for file in files:
        os.set_inheritable(file, False)
    return said, files
