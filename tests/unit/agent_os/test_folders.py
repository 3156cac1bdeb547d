"""A VM that works in a folder of the user's, in place; and folders that it may only read."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Folder, agent_os, agents
from agentq_nb.agent_os.values import IsolationKind
from agentq_nb.errors import RepositoryError, WorkspaceError
from tests.unit.agent_os.machine import Machine


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    for name in ("nb", "nb2"):
        (tmp_path / name).mkdir()


async def work(session: Any, prompt: str) -> str:
    session.write("by-agent.txt", prompt)
    return str(session.cwd)


def test_agents_and_files_change_the_folder_in_place(kind: IsolationKind, tmp_path: Path) -> None:
    folder = tmp_path / "my project"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    cls = agent_os(agents=[agents.function(work)], workspace=Folder(folder))

    async def program() -> None:
        async with Machine(cls, tmp_path / "nb") as vm:
            assert await vm.path() == folder
            assert (await vm.exec("cat a.txt; echo b > b.txt; echo home > ~/home.txt; pwd", cwd=".")).stdout.startswith(
                "a"
            )
            session = await vm.create_session("work")
            result = await vm.send_prompt(session.session_id, "hello")
            assert result.files is None
            for name in ("b.txt", "/home/user/my-project/b.txt", folder / "b.txt"):
                assert await vm.read_file(name) == b"b\n"
            assert await vm.read_file("/home/user/home.txt") == b"home\n"
            assert (await vm.exec("ls", cwd="sub")).stdout == ""
            with pytest.raises(WorkspaceError, match="stays as it is"):
                await vm.delete(".", recursive=True)
            with pytest.raises(RepositoryError, match="has no repository"):
                await vm.diff()
            assert any(str(folder) in sentence for sentence in (await vm.isolation()).does_not_protect)
            ended = (await vm.activation()).ended
            await vm.destroy(files=True)
            await ended.wait()

    asyncio.run(program())
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b.txt", "by-agent.txt", "sub"]


def test_one_vm_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)

    async def program() -> None:
        async with Machine(agent_os(workspace=Folder(folder)), tmp_path / "nb") as vm:
            await vm.write_file("a", "a")
            async with Machine(agent_os(workspace=Folder(tmp_path / "link")), tmp_path / "nb2", ("b",)) as other:
                with pytest.raises(RepositoryError, match=r"in use by VM 'vm/a' of .*nb\.agentq") as caught:
                    await other.write_file("b", "b")
                assert caught.value.full_code == "repository.folder_in_use"
                assert not (folder / "b").exists()
                await vm.sleep()
                await other.write_file("b", "b")
                with pytest.raises(RepositoryError, match="in use by VM 'vm/b'"):
                    await vm.read_file("a")

    asyncio.run(program())
    assert (folder / "b").read_text() == "b"


def test_a_folder_that_is_gone_or_has_the_store_is_refused(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(workspace=Folder(tmp_path / "gone")), tmp_path) as vm:
            with pytest.raises(RepositoryError, match="There is no folder"):
                await vm.list_dir()
        async with Machine(agent_os(workspace=Folder(tmp_path)), tmp_path) as vm:
            with pytest.raises(RepositoryError, match="has the notebook's store in it") as caught:
                await vm.exec("true")
            assert caught.value.full_code == "repository.has_store"

    asyncio.run(program())


def test_readable_folders_can_be_read_at_their_paths_and_not_written(kind: IsolationKind, tmp_path: Path) -> None:
    tools, hidden = tmp_path / "tools", tmp_path / "hidden"
    for folder in (tools, hidden):
        folder.mkdir()
        (folder / "data").write_text(folder.name)

    async def program() -> None:
        async with Machine(
            agent_os(readable=[tools], isolation="off" if kind == "none" else "required"), tmp_path
        ) as vm:
            assert (await vm.exec(f"cat {tools}/data")).stdout == "tools"
            if kind != "none":
                assert (await vm.exec(f"echo x > {tools}/data")).exit_code != 0
                assert (await vm.exec(f"cat {hidden}/data")).stdout == ""

    asyncio.run(program())
    assert (tools / "data").read_text() == "tools"


def test_what_is_no_folder_or_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Folder takes"):
        Folder("")
    for wrong in ("/usr", [tmp_path / "gone"], 5):
        with pytest.raises(TypeError, match="readable"):
            agent_os(readable=wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # users are not type-checked
