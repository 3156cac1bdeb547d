"""Create sockets in this process's network namespace for another one: ``python -I -S namespace_holder.py CONTROL [WHERE]``.

The sockets belong to this namespace wherever they are used, so that another process listens and connects here without
being in it. Each byte received on the Unix socket CONTROL (a file descriptor) is answered with one socket: ``4`` asks
for IPv4, ``6`` for IPv6. The first, unrequested message is the namespace itself: two files, that of the user namespace
which owns it and its own. WHERE is ``new`` to create a namespace first, or two such files, ``USER NET``, to enter an
existing one. The process ends when CONTROL is closed.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys

NEW_USER, NEW_NETWORK = 0x10000000, 0x40000000
_SET_INTERFACE_FLAGS, _UP = 0x8914, 1


def main(words: list[str]) -> int:
    if words[1:] == ["new"]:
        try:
            create()
        except OSError as error:
            return _failed_with(error)
    elif len(words) > 1:
        enter(int(words[1]), int(words[2]))
    with socket.socket(fileno=int(words[0])) as control:
        files = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("user", "net")]
        socket.send_fds(control, [b"ready"], files)
        while asked := control.recv(1):
            _answer(control, socket.AF_INET6 if asked == b"6" else socket.AF_INET)
    return 0


def _failed_with(error: OSError) -> int:
    sys.stderr.write(f"{error.strerror}\n")
    return 1


def _answer(control: socket.socket, family: int) -> None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as made:
            socket.send_fds(control, [b"socket"], [made.fileno()])
    except OSError as error:
        control.send(str(error).encode() or b"no socket")


def create() -> None:
    """Move to a new user namespace, in which the user keeps its id, and a new network with a loopback.

    Raises ``OSError``.
    """
    user, group = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_USER | NEW_NETWORK):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_INTERFACE_FLAGS, struct.pack("16sH14x", b"lo", _UP))


def enter(user: int, network: int) -> None:
    """Join a user namespace and the network namespace that it owns. Raises ``OSError``."""
    library = ctypes.CDLL(None, use_errno=True)
    for file, kind in ((user, NEW_USER), (network, NEW_NETWORK)):
        if library.setns(file, kind):
            raise OSError(ctypes.get_errno(), f"a namespace cannot be joined: {os.strerror(ctypes.get_errno())}")
        os.close(file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
