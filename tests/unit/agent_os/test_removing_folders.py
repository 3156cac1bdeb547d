"""Folders that are removed: however deep, with what their agent has done to them, and nothing that is elsewhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from agentq_nb.agent_os import agent_os
from agentq_nb.agent_os.sandbox.launcher import remove_tree
from agentq_nb.agent_os.sandbox.workspace import Workspace
from agentq_nb.errors import WorkspaceError
from tests.unit.agent_os.machine import Machine

DEEP = 2500

DIG = f"""
import os
for _ in range({DEEP}):
    os.mkdir("d")
    os.chdir("d")
open("at the bottom", "w").close()
"""


def dig(folder: Path) -> None:
    """A chain of folders within folders, deeper than Python's recursion, open files and paths go."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(DEEP):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("at the bottom", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def test_a_tree_of_2500_folders_can_be_deleted_and_looked_at(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "a" / "b" / "vm")
    workspace.make_dir("tree")
    dig(workspace.path("tree"))
    workspace.write("file", "x")
    assert "file" in workspace.snapshot()
    workspace.delete("tree", recursive=True)
    assert [info.name for info in workspace.list_dir()] == ["file"]


def test_what_a_link_leads_to_stays(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    tree = tmp_path / "tree"
    (tree / "x" / "y" / "z").mkdir(parents=True)
    for folder in (tree, tree / "x", tree / "x" / "y"):
        (folder / "link").symlink_to(outside)
        (folder / "loop").symlink_to("..")
        (folder / "file").write_text("x")
    os.mkfifo(tree / "x" / "pipe")
    (tree / "x" / "y").chmod(0o555)
    (tree / "x").chmod(0o555)
    remove_tree(str(tree))
    assert not tree.exists()
    assert (outside / "kept").read_text() == "kept"
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(OSError, match="link"):
        remove_tree(str(tmp_path / "link"))
    assert (outside / "kept").exists()


def test_removing_a_workspace_twice_is_fine_and_one_that_is_none_is_told(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "a" / "b" / "vm")
    workspace.write("deep/down/file", "x")
    workspace.remove()
    workspace.remove()
    assert not workspace.root.exists()
    workspace.root.write_text("a file")
    with pytest.raises(WorkspaceError, match="could not be removed"):
        workspace.remove()


@pytest.mark.anyio
async def test_a_command_that_leaves_a_deep_tree_in_its_temporary_folder_leaves_nothing(tmp_path: Path) -> None:
    async with Machine(agent_os(isolation="off"), tmp_path) as vm:
        result = await vm.exec(["/bin/sh", "-c", 'cd "$TMPDIR" && pwd && exec "$0" -c "$1"', sys.executable, DIG])
        assert (result.exit_code, result.stderr) == (0, "")
        assert not Path(result.stdout.strip()).exists()


@pytest.mark.anyio
@pytest.mark.parametrize("files", [False, True])
async def test_a_destroyed_vm_takes_its_files_with_it_only_when_told_to(files: bool, tmp_path: Path) -> None:
    async with Machine(agent_os(), tmp_path) as vm:
        await vm.write_file("folder/file", b"work")
        activation = await vm.activation()
        (folder,) = (vm.workspaces / "vm").iterdir()
        await vm.destroy(files=files)
        await activation.ended.wait()
        assert folder.exists() is not files
        assert await vm.exists("folder/file") is not files
