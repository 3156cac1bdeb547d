"""Recognising folders where a database is not safe: on the network, or synchronised by another program."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_NETWORK = re.compile(
    r"^(nfs\d?|cifs|smb\d?|smbfs|afpfs|afs|9p|ceph|glusterfs|lustre|webdav|davfs2?|fuse\.(sshfs|rclone|s3fs|gcsfuse|davfs2?|glusterfs))$"
)
_SYNCHRONISED = (
    ("iCloud", re.compile(r"/Library/Mobile Documents(/|$)")),
    ("OneDrive", re.compile(r"/OneDrive( ?- ?[^/]+)?(/|$)|/Library/CloudStorage/OneDrive[^/]*(/|$)")),
    ("Dropbox", re.compile(r"/Dropbox( \([^/]+\))?(/|$)|/Library/CloudStorage/Dropbox[^/]*(/|$)")),
    ("Google Drive", re.compile(r"/(Google Drive|GoogleDrive[^/]*|My Drive)(/|$)")),
)


def warn_about(folder: Path) -> str | None:
    """One sentence if a log should not be kept in ``folder``, else None."""
    what = synchronised_by(folder)
    if what is None:
        kind = network_kind(folder)
        what = f"on a network file system ({kind})" if kind else None
    else:
        what = f"synchronised by {what}"
    if what is None:
        return None
    return (
        f"{folder} is {what}: locks and writes are not reliable there. "
        f"Keep the queues in a local file with store=PATH (%agentq start --store PATH)."
    )


def synchronised_by(folder: Path) -> str | None:
    """The program that synchronises this folder, by its well-known name."""
    return next((name for name, pattern in _SYNCHRONISED if pattern.search(str(folder))), None)


def network_kind(folder: Path, mounts: str | None = None) -> str | None:
    """The network file system this folder is on, told from the table of mounts."""
    text = _mounts() if mounts is None else mounts
    inside = [(point, kind) for point, kind in _parse(text) if folder == point or point in folder.parents]
    if not inside:
        return None
    _, kind = max(inside, key=lambda mount: len(mount[0].parts))
    return kind if _NETWORK.match(kind) else None


def _mounts() -> str:
    if sys.platform == "linux":
        try:
            return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return ""
    try:
        return subprocess.run(["/sbin/mount"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _parse(text: str) -> list[tuple[Path, str]]:
    """Mount points and kinds: ``device point kind …`` on Linux, ``device on point (kind, …)`` on macOS."""
    mounts: list[tuple[Path, str]] = []
    for line in text.splitlines():
        if found := re.match(r"^.+? on (/.*) \((\w+)[,)]", line):
            mounts.append((Path(found[1]), found[2]))
        elif len(fields := line.split(" ")) >= 3:
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1])
            mounts.append((Path(point), fields[2]))
    return mounts
