"""Which processes carry a mark in their environment."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from pathlib import Path

MARK = "AGENTQ_TEST_MARK"


def new_mark() -> dict[str, str]:
    """An environment that marks a process and all it starts."""
    return {MARK: f"mark-{uuid.uuid4().hex}"}


def marked(mark: dict[str, str]) -> list[int]:
    """The processes that live."""
    wanted = f"{MARK}={mark[MARK]}".encode()
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def all_gone(mark: dict[str, str], seconds: float = 10) -> bool:
    """Whether none is left, now or soon."""
    until = time.monotonic() + seconds
    while marked(mark) and time.monotonic() < until:
        time.sleep(0.05)
    return not marked(mark)
