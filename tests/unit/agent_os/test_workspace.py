"""File actions: what they do, and that no name, link or race leads them out of the workspace."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentq_nb.agent_os.sandbox import contained_paths
from agentq_nb.agent_os.sandbox.workspace import Workspace, root_folder
from agentq_nb.errors import WorkspaceError

OUTSIDE = b"the user's own secret"


@pytest.fixture(params=["openat2", "walking"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    if request.param == "walking":
        monkeypatch.setattr(contained_paths, "kernel_can", lambda: False)
    elif not contained_paths.kernel_can():
        pytest.fail("This kernel has no openat2: run the tests on Linux 5.6 or newer, outside an old seccomp filter.")
    (tmp_path / "secret").write_bytes(OUTSIDE)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "secret").write_bytes(OUTSIDE)
    made = Workspace(tmp_path / "nb.agentq" / "vm" / "root")
    made.ensure()
    yield made
    assert (tmp_path / "secret").read_bytes() == OUTSIDE
    assert sorted(os.listdir(tmp_path / "folder")) == ["secret"]
    assert (tmp_path / "folder" / "secret").read_bytes() == OUTSIDE


def test_root_is_private_readable_and_unique_for_each_key(tmp_path: Path) -> None:
    keys = [("a", "b"), ("a-b",), ("a", "b", ""), ("A-B",), ("../..",), ("",), ("x" * 300,), ("日本",), (".hidden",)]
    roots = [root_folder(tmp_path, "vm", key) for key in keys]
    assert len({str(root).lower() for root in roots}) == len(keys)
    assert roots[0].name.startswith("a-b-")
    for root in roots:
        assert root.parent == tmp_path / "vm"
        Workspace(root).ensure()
        assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_files_can_be_written_read_moved_listed_and_deleted(workspace: Workspace) -> None:
    workspace.write("src/deep/a.txt", "naïve")
    workspace.write("/home/user/b.bin", b"\x00\xff")
    assert workspace.read("/home/user/src/deep/a.txt") == "naïve".encode()
    assert workspace.read(workspace.root / "b.bin") == b"\x00\xff"
    assert [(entry.name, entry.kind, entry.size) for entry in workspace.list_dir()] == [
        ("b.bin", "file", 2),
        ("src", "directory", workspace.stat("src").size),
    ]
    assert [workspace.stat(name).name for name in ("src", "src/deep/a.txt")] == ["src", "a.txt"]
    workspace.move("b.bin", "new/place/c.bin")
    assert not workspace.exists("b.bin")
    assert workspace.exists("/home/user/new/place/c.bin")
    with pytest.raises(WorkspaceError, match="recursive=True"):
        workspace.delete("src")
    workspace.delete("src", recursive=True)
    workspace.delete("new/place/c.bin")
    workspace.make_dir("new/place/x/y")
    workspace.delete("new/place/x/y")
    assert [entry.name for entry in workspace.list_dir("/home/user/new/place")] == ["x"]


def test_writing_keeps_permissions_and_leaves_no_temporary_file(workspace: Workspace) -> None:
    workspace.write("run.sh", "one")
    (workspace.root / "run.sh").chmod(0o750)
    workspace.write("run.sh", "two")
    assert stat.S_IMODE((workspace.root / "run.sh").stat().st_mode) == 0o750
    assert os.listdir(workspace.root) == ["run.sh"]


def test_a_reader_sees_the_old_or_the_new_file_never_a_part(workspace: Workspace) -> None:
    contents = [bytes([letter]) * 300_000 for letter in b"ab"]
    workspace.write("file", contents[0])
    done = threading.Event()

    def write() -> None:
        for turn in range(60):
            workspace.write("file", contents[turn % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert workspace.read("file") in contents
    writer.join()


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../secret",
        "a/../../secret",
        "/home/user/../secret",
        "/etc/passwd",
        "/home/user2/x",
        "/home",
        "/",
        "//etc/passwd",
        "",
        "a\0b",
        "\0",
        "lone\ud800surrogate",
    ],
)
def test_names_that_leave_or_are_no_names_are_refused_by_every_action(workspace: Workspace, name: str) -> None:
    workspace.write("inside", "x")
    for action in (
        workspace.read,
        workspace.list_dir,
        workspace.stat,
        workspace.exists,
        workspace.make_dir,
        workspace.delete,
        lambda bad: workspace.write(bad, b"x"),
        lambda bad: workspace.move(bad, "b"),
        lambda bad: workspace.move("inside", bad),
    ):
        with pytest.raises(WorkspaceError):
            action(name)
    assert os.listdir(workspace.root) == ["inside"]


@pytest.mark.parametrize("name", ["new\nline", "tab\t", "-rf", "*", "ü", "~", "$HOME", "a b", "\udcff raw byte", "…"])
def test_odd_but_possible_names_work(workspace: Workspace, name: str) -> None:
    workspace.write(name, name.encode("utf-8", "surrogateescape"))
    assert workspace.read(name) == os.fsencode(name)
    assert [entry.name for entry in workspace.list_dir()] == [name]
    workspace.move(name, f"{name}2")
    workspace.delete(f"{name}2")
    assert workspace.list_dir() == []


def test_text_that_is_none_is_refused_and_leaves_the_old_file(workspace: Workspace) -> None:
    workspace.write("a.txt", "old")
    with pytest.raises(WorkspaceError, match="half a character at position 4; give bytes"):
        workspace.write("a.txt", "half\ud83d")
    assert workspace.read("a.txt") == b"old"


@pytest.mark.parametrize("name", ["x" * 256, "/".join(["y" * 200] * 25)])
def test_names_that_are_too_long_are_told_so_in_short(workspace: Workspace, name: str) -> None:
    with pytest.raises(WorkspaceError) as told:
        workspace.read(name)
    assert len(str(told.value)) < 500
    with pytest.raises(WorkspaceError, match="too long"):
        workspace.write(name + "x" * 256, b"")


def test_links_out_are_not_followed_by_any_action(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.root / "file").symlink_to(tmp_path / "secret")
    (workspace.root / "folder").symlink_to(tmp_path / "folder")
    (workspace.root / "relative").symlink_to("../../../folder")
    (workspace.root / "self").symlink_to("self")
    (workspace.root / "magic").symlink_to("/proc/self/root")
    with pytest.raises(WorkspaceError, match="symbolic link"):
        workspace.read("file")
    with pytest.raises(WorkspaceError, match="symbolic link"):
        workspace.write("file", b"overwritten")
    for link in ("folder", "relative", "self", f"magic{tmp_path}/folder"):
        for action in (
            workspace.list_dir,
            lambda name: workspace.read(f"{name}/secret"),
            lambda name: workspace.write(f"{name}/secret", b"overwritten"),
            lambda name: workspace.make_dir(f"{name}/new"),
            lambda name: workspace.delete(f"{name}/secret"),
            lambda name: workspace.move(f"{name}/secret", "stolen"),
            lambda name: workspace.stat(f"{name}/secret"),
        ):
            with pytest.raises(WorkspaceError, match="link"):
                action(link)
    assert workspace.stat("file").kind == "link"
    workspace.delete("file")
    workspace.delete("folder", recursive=True)
    assert not workspace.exists("folder")


def test_a_link_in_the_place_of_the_workspace_itself_is_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    workspace.write("secret", b"inside")
    workspace.root.rename(tmp_path / "moved")
    workspace.root.symlink_to(tmp_path / "folder")
    for action in (
        lambda: workspace.read("secret"),
        lambda: workspace.write("secret", b"overwritten"),
        lambda: workspace.list_dir("."),
        lambda: workspace.make_dir("new"),
        lambda: workspace.delete("secret"),
    ):
        with pytest.raises((WorkspaceError, OSError)):
            action()
    assert sorted(file.name for file in (tmp_path / "folder").iterdir()) == ["secret"]


def test_links_that_stay_inside_are_followed_where_the_kernel_watches(workspace: Workspace) -> None:
    workspace.write("docs/AGENTS.md", "be kind")
    (workspace.root / "CLAUDE.md").symlink_to("docs/AGENTS.md")
    if contained_paths.kernel_can():
        assert workspace.read("CLAUDE.md") == b"be kind"
    else:
        with pytest.raises(WorkspaceError, match="symbolic link"):
            workspace.read("CLAUDE.md")


def test_only_regular_files_are_read_and_a_pipe_does_not_hang(workspace: Workspace) -> None:
    os.mkfifo(workspace.root / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(WorkspaceError, match="not a regular file"):
            workspace.read(name)
    with pytest.raises(WorkspaceError, match="not a regular file"):
        workspace.write("pipe", b"x")
    with pytest.raises(WorkspaceError, match="no such file") as told:
        workspace.read("missing")
    assert told.value.metadata["errno"] == "ENOENT"


def test_a_huge_file_is_refused_not_loaded(workspace: Workspace) -> None:
    with open(workspace.root / "huge", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(WorkspaceError, match="larger than"):
        workspace.read("huge")


def test_the_root_itself_stays(workspace: Workspace) -> None:
    for action in (lambda: workspace.delete("."), lambda: workspace.delete("/home/user", recursive=True)):
        with pytest.raises(WorkspaceError, match="workspace itself"):
            action()
    with pytest.raises(WorkspaceError):
        workspace.move(".", "below")


def test_a_link_swapped_in_during_the_call_does_not_help(workspace: Workspace, tmp_path: Path) -> None:
    """One thread turns a folder into a link out and back, as fast as it can, while files are read and written in it."""
    root = workspace.root
    (root / "now").mkdir()
    (root / "now" / "secret").write_bytes(b"inside")
    (root / "then").symlink_to(tmp_path / "folder")
    now, then = os.fsencode(root / "now"), os.fsencode(root / "then")
    library = ctypes.CDLL(None)
    done = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not done.is_set():
            assert library.renameat2(-100, now, -100, then, 2) == 0  # exchange the two
            swaps += 1

    swapper = threading.Thread(target=swap)
    swapper.start()
    outcomes = {"worked": 0, "refused": 0}
    try:
        for _ in range(400):
            for action in (
                lambda: workspace.read("now/secret"),
                lambda: workspace.write("now/secret", b"inside"),
                lambda: workspace.make_dir("now/x"),
                lambda: workspace.delete("now/x"),
                lambda: workspace.list_dir("now"),
            ):
                try:
                    got = action()
                    outcomes["worked"] += 1
                except WorkspaceError:
                    outcomes["refused"] += 1
                else:
                    assert got != OUTSIDE
    finally:
        done.set()
        swapper.join()
    print(f"{swaps} swaps, {outcomes}")
    assert swaps > 0
    assert all(outcomes.values())


def test_a_full_disk_is_told_and_leaves_the_old_file(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write("file", b"old")

    def full(*args: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(WorkspaceError, match="No space left"):
        workspace.write("file", b"new")
    assert os.listdir(workspace.root) == ["file"]
    assert workspace.read("file") == b"old"
