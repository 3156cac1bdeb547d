"""Restrict a process before it executes a command: paths, ports, socket types, privileges and keyrings.

The launcher loads this file by its path, so it imports the standard library only. ``python -I -S confinement.py ALLOWED
REFUSED`` tests on itself whether ports can be closed here: something listens on both ports.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

_DROP_FROM_BOUNDING_SET = 24
_SET_NO_NEW_PRIVILEGES = 38
_HIGHEST_CAPABILITY = 63
_CAPSET = {"x86_64": 126, "aarch64": 91, "riscv64": 91, "loongarch64": 91, "ppc64le": 184, "s390x": 185}
_CAPABILITY_VERSION_3 = 0x20080522
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "loongarch64": 219, "ppc64le": 271, "s390x": 280}
_JOIN_SESSION_KEYRING = 1

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_PATH, _PORT = 1, 2
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIRECTORY = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _DEVICE_CONTROL = 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _DEVICE_CONTROL
_CONNECT = 1 << 1
_PORTS_SINCE = 4  # the first version of Landlock that restricts ports

_SET_SECCOMP, _FILTER = 22, 2
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_GREATER_OR_EQUAL, _JUMP_IF_ANY, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | errno.EACCES, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in ``struct seccomp_data``
_IO_URING_SETUP = 425
_FOREIGN_CALLS = 0x40000000  # the first number of x86_64's other system calls (x32)
_FAST_OPEN = 0x20000000
# Numbers instead of the names in ``socket``: importing that takes time before each command.
_UNIX, _IPV4, _IPV6, _NETLINK = 1, 2, 10, 16
_STREAM, _TCP, _KIND_OF_SOCKET = 1, 6, 0xF
_MPTCP = 262
_PROTOCOL_BY_NAME = 31  # a TCP option that switches to another protocol (TCP_ULP)

# The architecture's number in filters, and the numbers of socket, sendto, sendmsg, sendmmsg and setsockopt.
_CALLS = {
    "x86_64": (0xC000003E, 41, 44, 46, 307, 54),
    "aarch64": (0xC00000B7, 198, 206, 211, 269, 208),
}


def landlock_version() -> int:
    """Return the version of Landlock's interface. Raises ``OSError`` where there is none."""
    return _call(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)


def restrict(write: Sequence[str], read: Sequence[str], ports: Sequence[int] | None = None) -> None:
    """Use Landlock to restrict this process and all it starts to these paths. This cannot be undone.

    With ``ports``, only TCP is allowed, and connections only to these ports. Raises ``OSError``, also where ports
    cannot be restricted.
    """
    version = landlock_version()
    if ports is not None and version < _PORTS_SINCE:
        raise OSError("this system's Linux is older than 6.7: its Landlock does not know of ports")
    handled = (1 << 13) - 1
    for since, right in ((2, 1 << 13), (3, _TRUNCATE), (5, _DEVICE_CONTROL)):
        handled |= right if version >= since else 0
    connecting = 0 if ports is None else _CONNECT
    scoped = 3 if version >= 6 else 0  # no signals and no abstract sockets to processes outside
    rules = struct.pack(
        "QQQ", handled, connecting, scoped
    )  # a version ignores fields that it does not know, if they are 0
    ruleset = _call(_LANDLOCK_CREATE, rules, ctypes.c_size_t(len(rules)), 0)
    for paths, rights in ((read, _EXECUTE | _READ_FILE | _READ_DIRECTORY), (write, handled)):
        for path in paths:
            _allow(ruleset, path, rights & handled)
    for port in ports or ():
        _call(_LANDLOCK_ADD, ruleset, _PORT, struct.pack("=QQ", _CONNECT, port), 0)
    if ctypes.CDLL(None).prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError("new privileges could not be ruled out")
    drop_capabilities()
    _call(_LANDLOCK_RESTRICT, ruleset, 0)
    if ports is not None:
        _only_tcp()


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # missing on this machine, or not accessible to us: nothing to allow
        return
    if not os.path.isdir(path):
        rights &= _OF_FILES
    _call(_LANDLOCK_ADD, ruleset, _PATH, struct.pack("=Qi", rights, file), 0)
    os.close(file)


def _only_tcp() -> None:
    """Use seccomp to refuse what Landlock's port rules do not cover. Raises ``OSError``.

    Refused are every protocol but TCP, MPTCP among them, which falls back to TCP; connections made by sending (TCP Fast
    Open); io_uring, whose requests no filter sees; and system calls of other architectures.
    """
    if (machine := os.uname().machine) not in _CALLS:
        raise OSError(f"sockets cannot be restricted on {machine}")
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _filter(*_CALLS[machine]))
    held = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HP", len(program) // 8, ctypes.addressof(held))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_SET_SECCOMP, _FILTER, ctypes.c_char_p(described), 0, 0):
        raise OSError(ctypes.get_errno(), f"sockets cannot be restricted: {os.strerror(ctypes.get_errno())}")


_Instruction = tuple[int, int, int, int]
"""One filter instruction: its code, how many to skip if it is true and if it is false, and an operand."""


def _filter(
    architecture: int, socket_call: int, sendto: int, sendmsg: int, sendmmsg: int, setsockopt: int
) -> list[_Instruction]:
    allow, refuse, kill = ((_RETURN, 0, 0, what) for what in (_ALLOW, _REFUSE, _KILL))
    program: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 1, 0, architecture),
        kill,
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_IF_GREATER_OR_EQUAL, 0, 1, _FOREIGN_CALLS),
        refuse,
        (_JUMP_IF_EQUAL, 0, 1, _IO_URING_SETUP),
        refuse,
    ]
    local = [(_JUMP_IF_EQUAL, 0, 1, family) for family in (_UNIX, _NETLINK)]
    program += _when(
        socket_call,
        [
            _argument(0),
            *(step for jump in local for step in (jump, allow)),
            (_JUMP_IF_EQUAL, 2, 0, _IPV4),
            (_JUMP_IF_EQUAL, 1, 0, _IPV6),
            refuse,
            _argument(1),
            (_AND, 0, 0, _KIND_OF_SOCKET),
            (_JUMP_IF_EQUAL, 1, 0, _STREAM),
            refuse,
            _argument(2),
            (_JUMP_IF_EQUAL, 1, 0, 0),
            (_JUMP_IF_EQUAL, 0, 1, _TCP),
            allow,
            refuse,
        ],
    )
    for call, flags in ((sendto, 3), (sendmsg, 2), (sendmmsg, 3)):
        program += _when(call, [_argument(flags), (_JUMP_IF_ANY, 0, 1, _FAST_OPEN), refuse, allow])
    return [
        *program,
        *_when(
            setsockopt,
            [
                _argument(1),
                (_JUMP_IF_EQUAL, 0, 3, _TCP),
                _argument(2),
                (_JUMP_IF_EQUAL, 0, 1, _PROTOCOL_BY_NAME),
                refuse,
                allow,
            ],
        ),
        allow,
    ]


def _when(call: int, then: list[_Instruction]) -> list[_Instruction]:
    return [(_JUMP_IF_EQUAL, 0, len(then), call), *then]


def _argument(index: int) -> _Instruction:
    """Load an argument's lower half: the supported architectures are little-endian, and the calls read no more."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index)


def drop_capabilities() -> None:
    """Drop root's capabilities, such as reading any process's environment."""
    for capability in range(_HIGHEST_CAPABILITY + 1):
        ctypes.CDLL(None).prctl(_DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _call(_CAPSET[os.uname().machine], header, bytes(24))


def leave_session_keyring() -> None:
    """Join an empty session keyring: all that the kernel's process starts could read the keys in its own.

    Raises ``OSError`` where that fails, except where the system has no keyrings or forbids all access to them.
    """
    number = _KEYCTL.get(os.uname().machine)
    if number is None:
        return
    try:
        _call(number, _JOIN_SESSION_KEYRING, None)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise


def _call(number: int, *arguments: Any) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    result: int = library.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def main(words: list[str]) -> int:
    import socket

    allowed, refused = (("127.0.0.1", int(word)) for word in words)
    try:
        restrict(write=["/"], read=[], ports=[allowed[1]])
        socket.create_connection(allowed).close()
    except OSError as error:
        sys.stderr.write(f"{error.strerror or error}\n")
        return 1
    ways: dict[str, Callable[[], object]] = {
        "TCP": lambda: socket.create_connection(refused),
        "TCP Fast Open": lambda: socket.socket().sendto(b"x", _FAST_OPEN, refused),
        "MPTCP": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, _MPTCP),
        "UDP": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "io_uring": lambda: _call(_IO_URING_SETUP, 1, ctypes.create_string_buffer(120)),
    }
    for name, way in ways.items():
        with suppress(OSError):
            way()
            sys.stderr.write(f"it was tried, and {name} gets through\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
