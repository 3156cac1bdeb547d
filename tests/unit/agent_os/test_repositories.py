"""A VM that works in a clone: what it begins with, what its changes look like, and how they get out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Repository, agent_os, agents
from agentq_nb.agent_os.sandbox import isolation
from agentq_nb.agent_os.values import IsolationKind, IsolationMode
from agentq_nb.errors import RepositoryError, WorkspaceError
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import need
from tests.unit.agent_os.user_repository import UserRepository, git


@pytest.fixture
def user(tmp_path: Path) -> UserRepository:
    return UserRepository(tmp_path)


def mode_of(kind: IsolationKind) -> IsolationMode:
    return "off" if kind == "none" else "required"


async def fix(session: Any, prompt: str) -> str:
    """An agent that does work on files."""
    session.write("src/login.py", "def login():\n    return 'home'\n")
    session.write("src/new.py", f"# {prompt}\n")
    session.write("build/ignored", "x")
    return "done"


def test_the_work_of_an_agent_becomes_a_branch_of_the_users_repository(
    kind: IsolationKind, user: UserRepository, tmp_path: Path
) -> None:
    before = user.bytes()
    cls = agent_os(agents=[agents.function(fix)], isolation=mode_of(kind), workspace=Repository(user.path))

    async def program() -> None:
        async with Machine(cls, tmp_path, ("fix-login",)) as vm:
            assert (
                await vm.exec("git log --format=%s; git branch --show-current; git describe")
            ).stdout.splitlines() == [
                "Cart",
                "Login",
                "First",
                "agentq/vm/fix-login",
                f"v1-2-g{user.git('rev-parse', 'HEAD')[:7]}",
            ]
            assert await vm.read_file("README.md") == b"# Shop\n"
            session = await vm.create_session("fix")
            result = await vm.send_prompt(session.session_id, "Fix it")
            assert [str(file) for file in result.files] == ["src/login.py (+1 -1)", "src/new.py (+1 -0)"]
            await vm.write_file("README.md", "# Shop\nmore\n")

            diff = await vm.diff()
            assert [(file.path, file.kind) for file in diff.files] == [
                ("README.md", "modified"),
                ("src/login.py", "modified"),
                ("src/new.py", "added"),
            ]
            assert (diff.insertions, diff.deletions, diff.branch) == (3, 1, "agentq/vm/fix-login")
            assert "-    return 'redirect to /undefined'\n+    return 'home'\n" in diff.text
            assert "diff --git a/src/new.py b/src/new.py\nnew file mode 100644\n" in diff.text

            assert not await vm.bring_back()
            assert user.changed_since(before) == []
            commit = await vm.commit("-rf: fix\n\nthe login")
            assert (commit.insertions, commit.deletions, len(commit.files)) == (3, 1, 3)
            assert not await vm.commit("Again")
            await vm.write_file("later.txt", "later")
            brought = await vm.bring_back()
            assert (brought.branch, brought.commit, brought.repository) == (
                "agentq/vm/fix-login",
                commit.commit,
                str(user.path),
            )
            assert (brought.files, brought.uncommitted) == (commit.files, ("later.txt",))

    asyncio.run(program())
    assert user.changed_since(before) == []
    assert list(user.traces.iterdir()) == []
    assert user.git("log", "--format=%an <%ae> %B", "main..agentq/vm/fix-login") == (
        "A User <user@example.org> -rf: fix\n\nthe login"
    )
    assert user.git("show", "agentq/vm/fix-login:src/new.py") == "# Fix it"
    user.git("fsck", "--strict")


def test_no_object_of_the_clone_is_shared_with_the_users_repository(user: UserRepository, tmp_path: Path) -> None:
    user.commit("secret.txt", "amended away", "Secret")
    user.git("reset", "--hard", "--quiet", "HEAD~1")

    async def program() -> Path:
        async with Machine(agent_os(workspace=Repository(user.path)), tmp_path) as vm:
            found = await vm.exec("git fsck --lost-found --no-reflogs; git log --all --format=%s")
            assert "dangling" not in found.stdout
            assert "Secret" not in found.stdout
            return await vm.path()

    clone = asyncio.run(program())
    objects = [file for file in (clone / ".git" / "objects").rglob("*") if file.is_file()]
    assert objects
    assert [file for file in objects if file.stat().st_nlink != 1] == []
    assert not (clone / ".git" / "objects" / "info" / "alternates").exists()
    assert "url" not in (clone / ".git" / "config").read_text()


def test_setup_runs_once_in_the_sandbox_and_must_succeed(user: UserRepository, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("outside")
    setup = f"echo ran >> build.log; mkdir -p build; ! cat {tmp_path}/outside; test ! -e fail"
    user.commit(".gitignore", "build.log\nbuild/\n", "Ignore")

    need("bubblewrap")

    async def program() -> None:
        async with Machine(
            agent_os(workspace=Repository(user.path, setup=setup), isolation="required"), tmp_path
        ) as vm:
            assert await vm.read_file("build.log") == b"ran\n"
            await vm.restart()
            assert await vm.read_file("build.log") == b"ran\n"
            assert not await vm.diff()
        failing = Repository(user.path, setup=["sh", "-c", "echo no network; exit 3"])
        async with Machine(agent_os(workspace=failing), tmp_path, ("b",)) as vm:
            for _ in range(2):
                with pytest.raises(RepositoryError, match=r"exit code 3(.|\n)*no network") as caught:
                    await vm.exec("true")
                assert caught.value.full_code == "repository.setup_failed"

    asyncio.run(program())


def test_a_ref_a_depth_and_a_branch_can_be_chosen(user: UserRepository, tmp_path: Path) -> None:
    async def program() -> None:
        at_tag = Repository(f"file://{user.path}", ref="v1", branch="work/{key}/of-{name}")
        async with Machine(agent_os(workspace=at_tag), tmp_path, ("a b", "..")) as vm:
            assert (await vm.exec("git log --format=%s")).stdout == "First\n"
            assert (await vm.exec("git branch --show-current")).stdout.startswith("work/a-b-")
            await vm.write_file("x", "x")
            await vm.commit("x")
            branch = (await vm.bring_back()).branch
            assert user.git("log", "--format=%s", branch) == "x\nFirst"
            assert (await vm.bring_back("mine")).branch == "mine"
        shallow = Repository(user.path, ref=user.git("rev-parse", "HEAD"), depth=1)
        async with Machine(agent_os(workspace=shallow), tmp_path, ("shallow",)) as vm:
            assert (await vm.exec("git log --format=%s")).stdout == "Cart\n"
            await vm.write_file("x", "x")
            await vm.commit("x")
            await vm.bring_back()
        assert user.git("rev-list", "--count", "agentq/vm/shallow") == "4"
        for ref in ("nothing", "--upload-pack=x", "HEAD:README.md"):
            async with Machine(agent_os(workspace=Repository(user.path, ref=ref)), tmp_path, ("ref",)) as vm:
                with pytest.raises(RepositoryError, match="names no commit"):
                    await vm.diff()
        async with Machine(agent_os(workspace=Repository(tmp_path / "gone")), tmp_path, ("gone",)) as vm:
            with pytest.raises(RepositoryError, match="there is no folder"):
                await vm.diff()

    asyncio.run(program())


def test_a_branch_that_the_user_changed_or_has_checked_out_is_left_alone(user: UserRepository, tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(workspace=Repository(user.path)), tmp_path) as vm:
            await vm.write_file("x", "1")
            await vm.commit("One")
            with pytest.raises(RepositoryError, match="checked out") as caught:
                await vm.bring_back("main")
            assert caught.value.full_code == "repository.branch_checked_out"
            await vm.bring_back()
            await vm.exec("git commit --amend -m Amended")
            assert (await vm.bring_back()).branch == "agentq/vm/a"
            assert user.git("log", "-1", "--format=%s", "agentq/vm/a") == "Amended"
            theirs = user.git("commit-tree", "main^{tree}", "-p", "main", "-m", "By the user")
            user.git("update-ref", "refs/heads/agentq/vm/a", theirs)
            with pytest.raises(RepositoryError, match="has commits that the VM does not have") as caught:
                await vm.bring_back()
            assert caught.value.full_code == "repository.branch_moved"
            assert user.git("rev-parse", "agentq/vm/a") == theirs
            for branch in ("a..b", "-rf", "x.lock", "refs/heads/main", "a b", "HEAD"):
                with pytest.raises(RepositoryError, match="no name for a branch"):
                    await vm.bring_back(branch)

    asyncio.run(program())


def test_without_a_sandbox_git_in_the_clone_must_be_asked_for(
    user: UserRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "_tried", {"bubblewrap": "not here", "landlock": "not here"})

    async def program() -> None:
        cls = agent_os(agents=[agents.function(fix)], workspace=Repository(user.path))
        async with Machine(cls, tmp_path) as vm:
            session = await vm.create_session("fix")
            assert (await vm.send_prompt(session.session_id, "x")).files is None
            for action in (vm.diff, lambda: vm.commit("x"), vm.bring_back, vm.update, vm.discard):
                with pytest.raises(RepositoryError, match='isolation="off"') as caught:
                    await action()
                assert caught.value.full_code == "repository.no_isolation"

    asyncio.run(program())


def test_names_of_files_are_those_of_the_clone_and_of_its_home(user: UserRepository, tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(workspace=Repository(user.path)), tmp_path) as vm:
            clone = await vm.path()
            assert clone == await vm.path("/home/user/shop")
            assert await vm.path("/home/user") == clone.parent
            for name in ("README.md", "/home/user/shop/README.md", clone / "README.md", "./README.md"):
                assert await vm.read_file(name) == b"# Shop\n"
            await vm.write_file("/home/user/.config/tool", "x")
            assert [entry.name for entry in await vm.list_dir("/home/user")] == [".config", "shop"]
            assert "README.md" in [entry.name for entry in await vm.list_dir()]
            assert (await vm.exec("pwd; cd src && ls", cwd=".")).stdout.splitlines()[1:] == ["cart.py", "login.py"]
            assert not await vm.diff()
            for name in (".", "/home/user", "/home/user/shop"):
                with pytest.raises(WorkspaceError, match="stays as it is"):
                    await vm.delete(name, recursive=True)
            with pytest.raises(WorkspaceError, match=str(clone.parent)):
                await vm.read_file("/etc/passwd")

    asyncio.run(program())


def test_what_is_no_repository_folder_or_branch_is_refused() -> None:
    for wrong in (
        lambda: Repository(""),
        lambda: Repository(5),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # users are not type-checked
        lambda: Repository(".", ref=""),
        lambda: Repository(".", depth=0),
    ):
        with pytest.raises(TypeError, match="Repository"):
            wrong()
    for branch in ("agentq/..{key}", "same", "a b{key}", "-{key}", "{key}.lock", "x/{key}/.y", "@{{key}"):
        with pytest.raises(ValueError, match="branch"):
            Repository(".", branch=branch)
    with pytest.raises(ValueError, match="no URL with a password") as caught:
        Repository("https://me:secret@example.org/shop.git")
    assert "secret" not in str(caught.value)
    assert str(Repository("https://me@example.org/shop.git")) == "https://example.org/shop.git"
    assert Repository("git@example.org:me/shop.git").name == "shop"


def test_a_vm_without_a_repository_says_so(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(), tmp_path) as vm:
            with pytest.raises(RepositoryError, match="has no repository") as caught:
                await vm.diff()
            assert caught.value.full_code == "repository.no_repository"
            assert (await vm.path()).is_dir()

    asyncio.run(program())


def test_two_vms_get_a_clone_each_out_of_one_copy(user: UserRepository, tmp_path: Path) -> None:
    async def program() -> None:
        cls = agent_os(workspace=Repository(user.path))
        async with Machine(cls, tmp_path) as vm:
            other = vm.registry.host.client.vm.get_or_create("b")
            await asyncio.gather(vm.write_file("x", "a"), other.write_file("x", "b"))
            assert (await vm.read_file("x"), await other.read_file("x")) == (b"a", b"b")
            user.commit("newer", "x", "Newer")
            third = vm.registry.host.client.vm.get_or_create("c")
            assert (await third.exec("git log -1 --format=%s")).stdout == "Newer\n"
        copies = list((tmp_path / "nb.agentq" / ".repositories").iterdir())
        assert len(copies) == 1
        assert git(copies[0], "fsck") == ""

    asyncio.run(program())
