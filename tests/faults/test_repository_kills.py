"""``kill -9`` at any moment of a clone's life: no half clone is used, no work is lost, and the user's repository is whole."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentq_nb import Repository, agent_os
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.user_repository import UserRepository, git

PROJECT = Path(__file__).resolve().parents[2]


def killed_after(folder: Path, work: str, word: str, seconds: float) -> list[str]:
    """Run the host until it says ``word``, and kill it some seconds later; return what it said."""
    words = [sys.executable, "-m", "tests.faults.repository_host", str(folder), work]
    with subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        said: list[str] = []
        for line in host.stdout:
            said.append(line.strip())
            if line.startswith(word):
                break
        time.sleep(seconds)
        host.kill()
        said += [line.strip() for line in host.stdout]
    return said


@pytest.mark.timeout(240)
def test_a_clone_that_was_killed_while_it_was_made_is_made_again(tmp_path: Path) -> None:
    user = UserRepository(tmp_path)
    before = user.bytes()
    ends = [killed_after(tmp_path, "begin", "started", seconds) for seconds in (0.02, 0.08, 0.15, 0.3, 0.5, 0.8)]
    assert any("ready" not in said for said in ends)

    async def program() -> None:
        cls = agent_os(workspace=Repository(user.path, setup="mkdir -p build; echo ready > build/ready"))
        async with Machine(cls, tmp_path) as vm:
            assert await vm.read_file("build/ready") == b"ready\n"
            assert not await vm.diff()
            assert (await vm.exec("git fsck --strict && git log --format=%s")).stdout.splitlines()[-3:] == [
                "Cart",
                "Login",
                "First",
            ]
            clone = await vm.path()
            left = [path.name for path in clone.parent.parent.iterdir() if path.name.startswith(".clone-")]
            assert left == []

    asyncio.run(program())
    assert user.changed_since(before) == []


@pytest.mark.timeout(240)
def test_work_survives_kills_during_commit_and_bring_back(tmp_path: Path) -> None:
    user = UserRepository(tmp_path)
    before = user.bytes()
    written = brought = 0
    for word, seconds in (("wrote", 0.05), ("wrote", 0.2), ("committed", 0.05), ("committed", 0.15), ("brought", 0.1)):
        said = killed_after(tmp_path, "commit", word, seconds)
        written = max([written, *(int(line.split()[1]) for line in said if line.startswith("wrote"))])
        brought = max([brought, *(int(line.split()[1]) for line in said if line.startswith("brought"))])
        assert user.changed_since(before) == []
        if brought:
            assert user.git("cat-file", "-p", f"agentq/vm/a:numbers/{brought}") == str(brought)
        assert user.git("fsck", "--strict") == ""

    async def program() -> None:
        cls = agent_os(workspace=Repository(user.path))
        async with Machine(cls, tmp_path) as vm:
            clone = next((tmp_path / "nb.agentq" / "vm").glob("a-*/shop"))
            (clone / ".git" / "index.lock").touch()  # as a git that was killed leaves it
            for number in range(1, written + 1):
                assert await vm.read_file(f"numbers/{number}") == str(number).encode()
            await vm.commit("The rest")
            assert not (await vm.bring_back()).uncommitted

    asyncio.run(program())
    assert user.git("ls-tree", "--name-only", "agentq/vm/a:numbers").count("\n") + 1 == written
    (copy,) = (tmp_path / "nb.agentq" / ".repositories").iterdir()
    assert git(copy, "fsck") == ""
    (root,) = (path for path in (tmp_path / "nb.agentq" / "vm").iterdir() if path.is_dir())
    assert [path.name for path in root.iterdir() if path.name.startswith(".agentq-")] == []
