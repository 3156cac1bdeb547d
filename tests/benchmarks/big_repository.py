"""``python -m tests.benchmarks.big_repository``: time and disk of VMs' clones beside a plain ``git worktree add``.

The repository is made by this program: 50,000 files, and 1 GB of history that no compression makes smaller. Words after it
set other sizes: ``--files N --megabytes N``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agentq_nb import Repository, agent_os
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.user_repository import git

FILES = 50_000
MEGABYTES = 1_000
_SMALL = 2_000
"""Bytes of each file."""
_COMMITS = 100


@dataclass(frozen=True)
class Measured:
    what: str
    seconds: float
    megabytes: float


def make(path: Path, files: int, megabytes: int) -> None:
    """Make a repository with so many files, and so much history."""
    git(path.parent, "init", "--quiet", "--initial-branch=main", str(path))
    with subprocess.Popen(["git", "fast-import", "--quiet"], cwd=path, stdin=subprocess.PIPE) as importing:
        assert importing.stdin is not None
        for piece in _history(files, megabytes):
            importing.stdin.write(piece)
    if importing.returncode:
        raise AssertionError("git fast-import failed")
    git(path, "reset", "--hard", "--quiet")


def _history(files: int, megabytes: int) -> Iterator[bytes]:
    """Yield the input of ``git fast-import``: a first commit with all files, then commits that replace large ones."""
    chance = random.Random(1)
    yield _commit(0)
    for number in range(files):
        yield _file(f"src/{number // 500}/{number}.txt", chance.randbytes(_SMALL // 2).hex().encode())
    large = max(1, megabytes - files * _SMALL // 2 // 1_000_000) * 1_000_000 // _COMMITS
    for number in range(1, _COMMITS + 1):
        yield _commit(number)
        yield _file(f"large/{number % 10}", chance.randbytes(large))


def _commit(number: int) -> bytes:
    message = f"Commit {number}".encode()
    return b"commit refs/heads/main\ncommitter A <a@example.org> %d +0000\ndata %d\n%s\n" % (
        1_700_000_000 + number,
        len(message),
        message,
    )


def _file(name: str, content: bytes) -> bytes:
    return b"M 644 inline %s\ndata %d\n%s\n" % (name.encode(), len(content), content)


def megabytes_of(folder: Path) -> float:
    """Return what a folder takes on the disk."""
    size = 0
    for inside, _, names in os.walk(folder):
        size += sum(os.lstat(os.path.join(inside, name)).st_blocks * 512 for name in names)
    return size / 1e6


async def measured(folder: Path, shop: Path) -> list[Measured]:
    """Measure a work tree, then VMs one after the other, with the whole history and with one commit."""
    rows: list[Measured] = []
    begun = time.perf_counter()
    git(shop, "worktree", "add", "--quiet", str(folder / "worktree"))
    rows.append(Measured("git worktree add", time.perf_counter() - begun, megabytes_of(folder / "worktree")))
    for depth in (None, 1):
        notebook = folder / f"notebook-{depth}"
        notebook.mkdir()
        async with Machine(agent_os(workspace=Repository(shop, depth=depth)), notebook) as vm:
            await vm.isolation()
            for number in ("first", "second", "third"):
                other = vm.registry.host.client.vm.get_or_create(number)
                before = megabytes_of(notebook)
                begun = time.perf_counter()
                path = await other.path()
                seconds = time.perf_counter() - begun
                name = f"{number} VM{'' if depth is None else f', depth={depth}'}"
                rows.append(Measured(name, seconds, megabytes_of(notebook) - before))
            await other.write_file("src/0/0.txt", "changed")
            begun = time.perf_counter()
            await other.diff()
            rows.append(Measured(f"diff(), depth={depth}", time.perf_counter() - begun, 0))
            await other.commit("x")
            begun = time.perf_counter()
            await other.bring_back(f"back-{depth}")
            rows.append(Measured(f"bring_back(), depth={depth}", time.perf_counter() - begun, 0))
            assert path.is_dir()
    return rows


def render(rows: list[Measured]) -> str:
    lines = [f"{'':32}{'seconds':>10}{'MB on the disk':>18}"]
    return "\n".join([*lines, *(f"{row.what:32}{row.seconds:10.1f}{row.megabytes:18.0f}" for row in rows)])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--files", type=int, default=FILES)
    arguments.add_argument("--megabytes", type=int, default=MEGABYTES)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"making {chosen.files:,} files and {chosen.megabytes:,} MB of history …", file=sys.stderr, flush=True)
        make(folder / "shop", chosen.files, chosen.megabytes)
        print(render(asyncio.run(measured(folder, folder / "shop"))))


if __name__ == "__main__":
    main()
