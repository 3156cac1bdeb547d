"""What clones cost: the second one of a repository copies files, and one with a depth has little of the history."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.benchmarks.big_repository import make, measured, megabytes_of
from tests.unit.agent_os.user_repository import git


def test_the_second_vm_costs_one_copy_and_a_shallow_one_little_of_the_history(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    make(shop, 1_000, 20)
    git(shop, "gc", "--quiet")
    history = megabytes_of(shop / ".git")
    rows = {row.what: row for row in asyncio.run(measured(tmp_path, shop))}
    files = rows["git worktree add"].megabytes
    assert history > 15
    assert rows["first VM"].megabytes < 1.2 * (2 * history + files)
    assert rows["second VM"].megabytes < 1.2 * (history + files)
    assert rows["second VM, depth=1"].megabytes < 0.5 * (history + files)
    assert git(shop, "rev-list", "--count", "main..back-1") == "1"
    assert git(shop, "rev-list", "--count", "main..back-None") == "1"
