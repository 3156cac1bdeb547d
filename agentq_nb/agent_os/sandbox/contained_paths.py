"""Open files below a folder so that no link, not even one swapped in during the call, escapes it."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Sequence
from functools import cache

DIRECTORY = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
"""Flags for a folder that only serves as a starting point and is not read itself."""

_OPENAT2 = 437  # the same number on every architecture Python runs on
_NO_MAGIC_LINKS = 0x02
_BENEATH = 0x08
_ATTEMPTS = 64


def open_beneath(root: int, parts: Sequence[str], flags: int) -> int:
    """Open ``parts`` below the folder ``root`` and return its file descriptor.

    With ``openat2``, links that stay inside are followed; without it, no link is. Raises ``OSError``: ``EXDEV`` or
    ``ELOOP`` where a link leads out or may not be followed. ``parts`` must not hold ``..``, ``/`` or empty names.
    """
    flags |= os.O_CLOEXEC
    return _by_kernel(root, parts, flags) if kernel_can() else _by_walking(root, parts, flags)


@cache
def kernel_can() -> bool:
    """Whether this kernel has ``openat2`` and lets us call it (some containers' filters do not)."""
    if not sys.platform.startswith("linux"):
        return False
    root = os.open("/", DIRECTORY)
    try:
        os.close(_by_kernel(root, (), DIRECTORY))
    except OSError:
        return False
    finally:
        os.close(root)
    return True


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _by_kernel(root: int, parts: Sequence[str], flags: int) -> int:
    path = b"/".join(os.fsencode(part) for part in parts) or b"."
    how = struct.pack("QQQ", flags, 0, _BENEATH | _NO_MAGIC_LINKS)
    number = errno.EAGAIN
    for _ in range(_ATTEMPTS):
        opened: int = _library().syscall(_OPENAT2, root, path, how, ctypes.c_size_t(len(how)))
        if opened >= 0:
            return opened
        number = ctypes.get_errno()
        # EAGAIN: because of a rename elsewhere, the kernel could not prove that a `..` in a link stays inside.
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, os.strerror(number))


def _by_walking(root: int, parts: Sequence[str], flags: int) -> int:
    here = os.open(".", DIRECTORY, dir_fd=root)
    try:
        for part in parts[:-1]:
            below = os.open(part, DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        return os.open(parts[-1] if parts else ".", flags | os.O_NOFOLLOW, dir_fd=here)
    finally:
        os.close(here)
