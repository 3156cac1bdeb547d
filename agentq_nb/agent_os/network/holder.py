"""Makes sockets in the network namespace that it runs in and hands them out: ``python -I -S holder.py CONTROL [USER NET]``.

The sockets belong to this namespace wherever they are used, so that another process listens and connects here without
being in it. Each byte that comes on the Unix socket CONTROL (a file descriptor) is answered with one socket: ``4`` asks
for IPv4, ``6`` for IPv6. The first answer, which nobody asked for, is the namespace itself: two files, that of the user
namespace which owns it and its own. USER and NET are such files, of a namespace to enter first. It ends with CONTROL.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys

NEW_USER, NEW_NETWORK = 0x10000000, 0x40000000


def main(words: list[str]) -> int:
    if len(words) > 1:
        enter(int(words[1]), int(words[2]))
    with socket.socket(fileno=int(words[0])) as control:
        files = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("user", "net")]
        socket.send_fds(control, [b"ready"], files)
        while asked := control.recv(1):
            _answer(control, socket.AF_INET6 if asked == b"6" else socket.AF_INET)
    return 0


def _answer(control: socket.socket, family: int) -> None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as made:
            socket.send_fds(control, [b"socket"], [made.fileno()])
    except OSError as error:
        control.send(str(error).encode() or b"no socket")


def enter(user: int, network: int) -> None:
    """Join a user namespace and the network namespace that it owns. Raises ``OSError``."""
    library = ctypes.CDLL(None, use_errno=True)
    for file, kind in ((user, NEW_USER), (network, NEW_NETWORK)):
        if library.setns(file, kind):
            raise OSError(ctypes.get_errno(), f"a namespace cannot be joined: {os.strerror(ctypes.get_errno())}")
        os.close(file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
