from __future__ import annotations

from pathlib import Path

import pytest

from agentq_nb._store.filesystem import network_kind, synchronised_by, warn_about

LINUX = """\
/dev/vda / ext4 rw 0 0
server:/home /home/me nfs4 rw 0 0
//nas/share /mnt/my\\040share cifs rw 0 0
me@there: /home/me/remote fuse.sshfs rw 0 0
/dev/vdb /home/me/local ext4 rw 0 0
"""
MACOS = """\
/dev/disk3s1 on / (apfs, sealed, local, read-only)
//me@nas/share on /Volumes/share (smbfs, nodev, nosuid)
"""


@pytest.mark.parametrize(
    ("mounts", "folder", "kind"),
    [
        (LINUX, "/srv/work", None),
        (LINUX, "/home/me/work", "nfs4"),
        (LINUX, "/home/me", "nfs4"),
        (LINUX, "/home/meander", None),
        (LINUX, "/mnt/my share/deep/down", "cifs"),
        (LINUX, "/home/me/remote/x", "fuse.sshfs"),
        (LINUX, "/home/me/local/x", None),
        (MACOS, "/Users/me", None),
        (MACOS, "/Volumes/share/x", "smbfs"),
        ("", "/anywhere", None),
    ],
)
def test_network_folders_are_told_from_the_table_of_mounts(mounts: str, folder: str, kind: str | None) -> None:
    assert network_kind(Path(folder), mounts) == kind


@pytest.mark.parametrize(
    ("folder", "program"),
    [
        ("/Users/me/Library/Mobile Documents/com~apple~CloudDocs/work", "iCloud"),
        ("/Users/me/OneDrive - Acme/work", "OneDrive"),
        ("/Users/me/Library/CloudStorage/OneDrive-Acme", "OneDrive"),
        ("/home/me/Dropbox/work", "Dropbox"),
        ("/home/me/Dropbox (Acme)", "Dropbox"),
        ("/home/me/Google Drive/work", "Google Drive"),
        ("/home/me/dropboxes", None),
        ("/home/me/work", None),
    ],
)
def test_synchronised_folders_are_known_by_name(folder: str, program: str | None) -> None:
    assert synchronised_by(Path(folder)) == program


def test_an_ordinary_folder_gets_no_warning_and_a_synchronised_one_gets_one(tmp_path: Path) -> None:
    assert warn_about(Path("/home/me/Dropbox")) is not None
    assert synchronised_by(tmp_path) is None
