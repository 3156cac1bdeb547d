"""What happens to a branch after it began: updates, taking back, the end of its VM; and repositories with a URL."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agentq_nb import Repository, agent_os
from agentq_nb.agent_os.repositories.clone import TRANSFER, CloneMaker
from agentq_nb.agent_os.repositories.mirror import Mirror, resolve
from agentq_nb.agent_os.sandbox.workspace import root_folder
from agentq_nb.agent_os.values import ExecResult
from agentq_nb.errors import RepositoryError
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.user_repository import UserRepository, git


@pytest.fixture
def user(tmp_path: Path) -> UserRepository:
    return UserRepository(tmp_path)


def test_a_branch_is_updated_to_what_the_repository_has_by_now(user: UserRepository, tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(workspace=Repository(user.path)), tmp_path) as vm:
            assert (await vm.update()).status == "current"
            await vm.write_file("mine.txt", "mine")
            newer = user.commit("theirs.txt", "theirs\n", "Theirs")
            with pytest.raises(RepositoryError, match="not committed") as caught:
                await vm.update()
            assert caught.value.full_code == "repository.uncommitted"
            await vm.commit("Mine")
            updated = await vm.update()
            assert (updated.status, updated.base, updated.ref) == ("updated", newer, "origin/main")
            assert (await vm.exec("git log --format=%s -2")).stdout == "Mine\nTheirs\n"
            assert [file.path for file in (await vm.diff()).files] == ["mine.txt"]
            assert (await vm.update()).status == "current"

            await vm.write_file("theirs.txt", "changed by the VM\n")
            await vm.commit("Change")
            newest = user.commit("theirs.txt", "changed by the user\n", "Conflict")
            for how in ("rebase", "merge"):
                before = (await vm.exec("git rev-parse HEAD; git status --porcelain")).stdout
                conflict = await vm.update(how)
                assert (conflict.status, conflict.conflicts, conflict.base) == ("conflicts", ("theirs.txt",), newest)
                assert not conflict
                assert (await vm.exec("git rev-parse HEAD; git status --porcelain")).stdout == before
            # An agent solves it, and the diff is against what it merged.
            await vm.exec("git merge origin/main; echo both > theirs.txt; git commit -am Both")
            diff = await vm.diff()
            assert (diff.base, [file.path for file in diff.files]) == (newest, ["mine.txt", "theirs.txt"])
            assert (await vm.bring_back()).insertions == 2
            assert user.git("merge-base", "main", "agentq/vm/a") == newest

    asyncio.run(program())


def test_what_is_discarded_is_kept_as_a_commit(user: UserRepository, tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(workspace=Repository(user.path)), tmp_path) as vm:
            await vm.write_file("committed", "1")
            await vm.commit("One")
            await vm.write_file("uncommitted", "2")
            await vm.write_file("build/ignored", "3")
            discarded = await vm.discard()
            assert [file.path for file in discarded.files] == ["committed", "uncommitted"]
            assert not await vm.diff()
            assert await vm.exists("build/ignored")
            found = await vm.exec(f"git show {discarded.kept}:uncommitted; git log --format=%s {discarded.kept}")
            assert found.stdout == "2Discarded\nOne\nCart\nLogin\nFirst\n"

    asyncio.run(program())


def test_destroying_a_vm_removes_no_work_unless_told_to(
    user: UserRepository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plants = {
        "uncommitted": "echo x > x",
        "committed": "echo x > x; git add x; git commit -m x",
        "elsewhere": "git checkout -b other; echo x > x; git add x; git commit -m x; git checkout agentq/vm/elsewhere",
        "stashed": "echo x >> README.md; git stash",
        "unreadable": "rm -rf .git/refs .git/HEAD",
    }

    async def program() -> None:
        async with Machine(agent_os(workspace=Repository(user.path)), tmp_path) as vm:
            for name, plant in {**plants, "clean": "true", "forced": plants["uncommitted"]}.items():
                vm.key, vm.actor_id = (name,), f"vm/{name}"
                root = (await vm.path()).parent
                assert (await vm.exec(plant)).exit_code == 0
                ended = (await vm.activation()).ended
                caplog.clear()
                await vm.destroy(files=True, force=name == "forced")
                await ended.wait()
                assert root.exists() == (name in plants), name
                assert ("are kept in" in caplog.text) == (name in plants), name
            vm.key, vm.actor_id = ("brought",), "vm/brought"
            root = (await vm.path()).parent
            await vm.exec(plants["committed"])
            await vm.bring_back()
            ended = (await vm.activation()).ended
            await vm.destroy(files=True)
            await ended.wait()
            assert not root.exists()

    asyncio.run(program())


@pytest.fixture
def url(user: UserRepository) -> Iterator[str]:
    """The user's repository, served to this machine."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["git", "daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}"]
    with subprocess.Popen([*words, f"--base-path={user.path.parent}"], start_new_session=True) as daemon:
        try:
            for _ in range(200):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            yield f"git://127.0.0.1:{port}/shop"
        finally:
            os.killpg(daemon.pid, signal.SIGTERM)


@pytest.mark.parametrize("depth", [None, 1])
def test_a_repository_with_a_url_gives_its_branches_to_one_of_ours(
    url: str, depth: int | None, user: UserRepository, tmp_path: Path
) -> None:
    before = user.bytes()

    async def program() -> None:
        async with Machine(agent_os(workspace=Repository(url, ref="main", depth=depth)), tmp_path) as vm:
            other = vm.registry.host.client.vm.get_or_create("b")
            assert (await vm.exec("git log --format=%s -1; git config remote.origin.url")).stdout == f"Cart\n{url}\n"
            for number in (1, 2):
                await vm.write_file(f"work {number}", "x")
                await vm.commit(f"Work {number}")
                brought = await vm.bring_back()
            assert len(brought.files) == 2
            assert git(Path(brought.repository), "log", "-2", "--format=%s", brought.branch) == "Work 2\nWork 1"
            assert (await other.exec(f"git cat-file -e {brought.commit}")).exit_code != 0
            git(user.path, "fetch", "--quiet", brought.repository, f"{brought.branch}:agentq/fetched")
            assert user.git("log", "-1", "--format=%s", "agentq/fetched") == "Work 2"
            user.git("update-ref", "-d", "refs/heads/agentq/fetched")
            assert (await vm.update()).status == "current"
            with pytest.raises(RepositoryError, match="has no ref 'gone'"):
                await resolve(Repository(url, ref="gone"))
            tag = await resolve(Repository(url, ref="v1"))
            assert tag.commit == user.git("rev-parse", "v1^{commit}")

    asyncio.run(program())
    assert [name for name in user.changed_since(before) if "FETCH_HEAD" not in name] == []


def test_vms_that_bring_branches_back_at_once_share_one_repository(user: UserRepository, tmp_path: Path) -> None:
    async def program() -> None:
        repository = Repository(user.path)
        mirror = Mirror(repository, tmp_path / "workspaces")
        await mirror.fetch(await resolve(repository))
        paths = await asyncio.gather(*(Mirror(repository, tmp_path / "workspaces").for_branches() for _ in range(5)))
        assert len(set(paths)) == 1
        assert git(paths[0], "cat-file", "-t", user.git("rev-parse", "HEAD")) == "commit"
        assert not list(paths[0].parent.glob(".new-*"))

    asyncio.run(program())


def test_commits_on_their_way_out_of_a_vm_are_left_alone_by_vms_of_other_classes(
    user: UserRepository, tmp_path: Path
) -> None:
    async def run(*arguments: object, **options: object) -> ExecResult:
        raise AssertionError("nothing is run")

    makers = [
        CloneMaker(Repository(user.path), root_folder(tmp_path, name, ("main",)), tmp_path, f"{name}/main", "b", run)
        for name in ("reviewer", "tester")
    ]
    transfers = [maker.transfer(f"{TRANSFER}1.bundle") for maker in makers]
    for transfer in transfers:
        transfer.parent.mkdir(exist_ok=True)
        transfer.write_text("commits")
    assert makers[0]._usable() is None
    assert [transfer.exists() for transfer in transfers] == [False, True]
