"""What a VM gives as its commits must be a bundle of one branch, in a file that cannot change any more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentq_nb.agent_os.repositories import incoming_branch
from agentq_nb.agent_os.repositories.changes import parse_changes
from agentq_nb.agent_os.repositories.incoming_branch import checked_bundle, copy_out
from agentq_nb.agent_os.sandbox.workspace import HOME, Workspace
from agentq_nb.errors import RepositoryError, WorkspaceError

ID = "1" * 40
GOOD = f"# v2 git bundle\n-{ID} a prerequisite\n{'2' * 40} HEAD\n\nPACK".encode()


def test_the_commit_and_the_beginning_of_the_objects_are_found(tmp_path: Path) -> None:
    for header in (GOOD, f"# v3 git bundle\n@object-format=sha1\n{'2' * 40} HEAD\n\nPACK".encode()):
        (tmp_path / "bundle").write_bytes(header)
        bundle = checked_bundle(tmp_path / "bundle")
        assert bundle.commit == "2" * 40
        assert header[bundle.start :] == b"PACK"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PACK",
        GOOD.replace(b"# v2", b"# v9"),
        GOOD.replace(b" HEAD", b" refs/heads/main"),
        GOOD.replace(b"\n\nPACK", f"\n{ID} refs/heads/main\n\nPACK".encode()),
        GOOD.replace(b"\n\n", b"\n"),
        b"# v3 git bundle\n@filter=blob:none\n" + GOOD.partition(b"\n")[2],
        b"# v3 git bundle\n@object-format=sha1 --upload-pack=x\n" + GOOD.partition(b"\n")[2],
        GOOD.replace(b"2" * 40, b"--upload-pack=x"),
        b"# v2 git bundle\n" + b"-" * 100_000,
    ],
)
def test_anything_else_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(content)
    with pytest.raises(RepositoryError, match="no bundle of one branch") as caught:
        checked_bundle(tmp_path / "bundle")
    assert caught.value.full_code == "repository.bad_bundle"


def test_links_pipes_and_endless_files_are_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path / "vms" / "vm" / "a")
    workspace.ensure()
    (tmp_path / "secret").write_text("secret")
    (workspace.root / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(workspace.root / "pipe")
    (workspace.root / "folder").mkdir()
    (workspace.root / "large").write_bytes(b"x" * 100)
    copy = tmp_path / "copies" / "copy"
    for name in ("link", "pipe", "folder"):
        with pytest.raises(WorkspaceError):
            copy_out(workspace, f"{HOME}/{name}", copy)
    assert copy_out(workspace, f"{HOME}/large", copy).read_bytes() == b"x" * 100
    copy.unlink()
    monkeypatch.setattr(incoming_branch, "LARGEST_BUNDLE", 99)
    with pytest.raises(RepositoryError, match="more than 99 bytes"):
        copy_out(workspace, f"{HOME}/large", copy)
    assert list(copy.parent.iterdir()) == []


@pytest.mark.parametrize("printed", [":1 2 3 4 M\0", "1\t2\t\0a\0", "x\0", "1\tx\tname\0:0 0 0 0 M\0name\0", ":\0a\0"])
def test_a_listing_that_no_git_prints_is_refused(printed: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        parse_changes(printed)


def test_a_listing_is_read_with_renames_and_binary_files() -> None:
    one = f":100644 100644 {ID} {ID} "
    printed = (
        f"{one}R090\0old\0new\0{one}M\0binary\0{one}A\0a\nb\t\0" + "1\t2\t\0old\0new\0-\t-\tbinary\0" + "3\t0\ta\nb\t\0"
    )
    found = parse_changes(printed)
    assert [str(change) for change in found] == ["old → new (+1 -2)", "binary (binary)", "a\nb\t (+3 -0)"]
