"""The process at the other end of a local connection: whose it is, and whether a VM started it."""

from __future__ import annotations

import os
import socket
import struct
import sys
from contextlib import suppress
from typing import NamedTuple

from agentq_nb.agent_os.sandbox import orphans
from agentq_nb.agent_os.sandbox.process import LAUNCHER_FILE

_MOST_ANCESTORS = 1000
"""Ids of processes are used again, so a chain that is read while it changes could go round."""


class Peer(NamedTuple):
    """Who connected, as the system knows it. Nothing of it comes from the peer itself."""

    pid: int
    uid: int


def peer_of(connection: socket.socket) -> Peer | None:
    """Return who made a connection over a Unix socket; None where the system does not say. Raises OSError."""
    if not sys.platform.startswith("linux"):
        return None
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Peer(pid, uid)


def is_of_vm(pid: int) -> bool:
    """Whether a VM started this process, or any of those that led to it. True for a process that cannot be seen.

    A VM in which this very host runs does not count. A launcher is recognised by its command line: those of other hosts
    count as well. Processes whose launcher was killed are recognised by the mark in their environment.
    """
    own_mark, own = orphans.mark_in(os.getpid()), set(_ancestors(os.getpid()))
    if not _exists(pid):
        return True
    for ancestor in _ancestors(pid):
        if ancestor in own:
            return False
        mark = orphans.mark_in(ancestor)
        if _is_launcher(ancestor) or (mark is not None and mark != own_mark):
            return True
    return False


def _exists(pid: int) -> bool:
    return pid > 0 and os.path.exists(f"/proc/{pid}/stat")


def _ancestors(pid: int) -> list[int]:
    """Return the process, its parent, and so on, as far as they can be seen."""
    found: list[int] = []
    while pid > 0 and len(found) < _MOST_ANCESTORS:
        found.append(pid)
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # The name in parentheses may contain anything, so fields are counted from its end.
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            break
    return found


def _is_launcher(pid: int) -> bool:
    words: list[bytes] = []
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().split(b"\0")
    return words[1:3] == [b"-I", b"-S"] and len(words) > 3 and words[3].endswith(os.fsencode(LAUNCHER_FILE))
