"""Choose the sandbox of a VM's processes by trying: bubblewrap, else Landlock, else none."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from agentq_nb._core.runtime_files import runtime_folders
from agentq_nb.agent_os.sandbox import orphans, protections
from agentq_nb.agent_os.sandbox.confinement import landlock_version
from agentq_nb.agent_os.sandbox.process import ALL, Allowance, Bubblewrap, Job, Landlock, run
from agentq_nb.agent_os.sandbox.workspace import HOME
from agentq_nb.agent_os.values import ExecResult, Isolation, IsolationKind, IsolationMode
from agentq_nb.errors import IsolationUnavailable

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts")
_GET_BUBBLEWRAP = (
    "install it: `apt install bubblewrap`, `dnf install bubblewrap`, or your system's package of this name"
)

Mount: TypeAlias = tuple[str, Path]
"""A folder elsewhere on this machine, and its name in the VM's folder."""

_tried: dict[IsolationKind, str] = {}
"""Why each kind is unavailable, or ``""`` where it works; found out once per process."""


async def in_force(mode: IsolationMode) -> Isolation:
    """Return the isolation that ``mode`` gives on this machine.

    Raises :class:`~agentq_nb.errors.IsolationUnavailable` when it is ``"required"`` and there is none.
    """
    if mode == "off":
        return replace(protections.NONE, refused={"bubblewrap": 'isolation="off"', "landlock": 'isolation="off"'})
    refused: dict[str, str] = {}
    kinds: tuple[IsolationKind, ...] = ("bubblewrap", "landlock")
    for kind in kinds:
        if kind not in _tried:
            _tried[kind] = await why_not(kind)
        if not _tried[kind]:
            promised = protections.BUBBLEWRAP if kind == "bubblewrap" else protections.landlock(landlock_version())
            return replace(promised, refused=refused)
        refused[kind] = _tried[kind]
    if mode == "required":
        reasons = "; ".join(f"{kind}: {reason}" for kind, reason in refused.items())
        raise IsolationUnavailable(
            f'isolation="required", but this machine offers none. {reasons}.', metadata={"refused": refused}
        )
    return replace(protections.NONE, refused=refused)


async def why_not(kind: IsolationKind) -> str:
    """Test ``kind`` with a real command: return ``""`` if it could not leave its folder, else the reason."""
    if not sys.platform.startswith("linux"):
        return "it is a feature of Linux"
    if kind == "bubblewrap" and shutil.which("bwrap") is None:
        return f"bubblewrap (bwrap) is not installed; {_GET_BUBBLEWRAP}"
    outside = Path(tempfile.mkdtemp(prefix="agentq-trial-"))
    try:
        root = outside / "root"
        root.mkdir()
        secret = outside / secrets.token_hex(8)
        secret.write_text("secret")
        trial = f"! cat {secret} && ! echo x > {secret} && echo inside > trial && ! cat /proc/{os.getpid()}/environ"
        try:
            result = await run(job(kind, root, (), ["/bin/sh", "-c", trial], {"PATH": os.defpath}), timeout=10)
        except OSError as error:
            return str(error)
        return _verdict(result, (root / "trial").exists() and secret.read_text() == "secret")
    finally:
        shutil.rmtree(outside, ignore_errors=True)


def _verdict(result: ExecResult, held: bool) -> str:
    if result.exit_code == 0 and held:
        return ""
    said = result.stderr.strip().splitlines()
    return f"it was tried and does not work here ({said[-1] if said else f'exit code {result.exit_code}'})"


def job(
    kind: IsolationKind,
    root: Path,
    directory: tuple[str, ...],
    command: list[str],
    environment: Mapping[str, str],
    programs: Sequence[str] = (),
    readable: Sequence[str] = (),
    allowance: Allowance = ALL,
    network: tuple[int, int] | None = None,
    ports: Sequence[int] | None = None,
    mounted: Mount | None = None,
) -> Job:
    """Return everything the launcher needs to run ``command`` in ``directory`` below ``root`` under ``kind``.

    ``environment`` is added to a clean one, in which HOME is the root as the command sees it. ``programs`` are folders
    that come first on its PATH; ``readable`` are folders that may be read besides those of the system. ``network`` are
    the files of the network namespace that the command enters, if any; ``ports`` are the ports of this machine's
    network to which it may connect, where Landlock closes all others. ``mounted`` is a folder elsewhere that may be written.
    """
    if kind == "bubblewrap":
        home, temporary, there = HOME, None, "/"
    else:
        home, temporary = str(root), tempfile.mkdtemp(prefix="agentq-command-")
        is_there = mounted is not None and directory[:1] == (mounted[0],)
        there = str(mounted[1].joinpath(*directory[1:]) if mounted and is_there else root.joinpath(*directory))
    return Job(
        command=command,
        environment={
            **_clean_environment(home, temporary or "/tmp", programs),
            **environment,
            orphans.VARIABLE: orphans.new_mark(),
        },
        directory=there,
        temporary=temporary,
        bubblewrap=_bubblewrap(root, directory, readable, allowance.memory, mounted) if kind == "bubblewrap" else None,
        landlock=_landlock(root, temporary, readable, ports, mounted) if kind == "landlock" and temporary else None,
        limits=allowance.limits(str(root), *([temporary] if temporary else [])),
        network=network,
        input=None,
    )


def _clean_environment(home: str, temporary: str, first: Sequence[str]) -> dict[str, str]:
    programs = dict.fromkeys(
        (
            *first,
            os.path.dirname(sys.executable),
            "/usr/local/bin",
            "/usr/bin",
            "/bin",
            "/usr/local/sbin",
            "/usr/sbin",
            "/sbin",
        )
    )
    return {
        "HOME": home,
        "LANG": "C.UTF-8",
        "PATH": ":".join(programs),
        "SHELL": "/bin/sh",
        "TERM": "dumb",
        "TMPDIR": temporary,
    }


def _interpreter() -> list[str]:
    """Return the folders of the notebook's Python, except those that would expose a whole home folder."""
    home = str(Path.home())
    found = dict.fromkeys(os.path.abspath(path) for path in (sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib")))
    return [
        path
        for path in found
        if not (home + "/").startswith(path.rstrip("/") + "/")
        and not any(path == system or path.startswith(system + "/") for system in _SYSTEM)
    ]


def is_readable_inside(folder: Path, workspaces: Path) -> bool:
    """Whether sandboxed processes can read this folder: because it is the system's, the interpreter's, or a workspace."""
    real = Path(os.path.realpath(folder))
    return any(real.is_relative_to(os.path.realpath(path)) for path in (*_SYSTEM, *_interpreter(), workspaces))


def hidden_folders() -> list[str]:
    """Return the real paths of the folders that no sandbox may show: of hosts' sockets and their secrets."""
    return [os.path.realpath(folder) for folder in runtime_folders(os.environ) if folder.is_dir()]


def _contains(path: str, inner: str) -> bool:
    real = os.path.realpath(path)
    return inner == real or inner.startswith(real.rstrip("/") + "/")


def _without(path: str, hidden: str) -> list[str]:
    """Return the path, or if it has ``hidden`` in it, what is beside that: Landlock allows paths, and excepts none."""
    if not _contains(path, hidden):
        return [path]
    if os.path.realpath(path) == hidden:
        return []
    return [each for name in sorted(os.listdir(path)) for each in _without(os.path.join(path, name), hidden)]


def _name_service() -> list[str]:
    """Return the real path of ``/etc/resolv.conf`` where it is outside ``/etc``: it is often a link into ``/run``."""
    real = os.path.realpath("/etc/resolv.conf")
    return [] if real.startswith("/etc/") or not os.path.exists(real) else [real]


def _bubblewrap(
    root: Path,
    directory: tuple[str, ...],
    readable: Sequence[str],
    memory: int | None = None,
    mounted: Mount | None = None,
) -> Bubblewrap:
    options = ["--die-with-parent", "--new-session", "--unshare-user", "--unshare-pid", "--unshare-ipc"]
    options += ["--unshare-uts", "--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev"]
    # Files in /tmp are in memory but belong to no process, so their total size needs this limit.
    options += [*(("--size", str(memory)) if memory else ()), "--tmpfs", "/tmp"]
    for path in _SYSTEM:
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        else:
            options += ["--ro-bind-try", path, path]
    for path in (*_name_service(), *_interpreter()):
        # The workspace is bound at /home/user: a mount point for the interpreter below it would remain in the
        # workspace.
        if not path.startswith(HOME + "/"):
            options += ["--ro-bind-try", path, path]
    options += ["--bind", str(root), HOME]
    if mounted is not None:
        options += ["--bind", str(mounted[1]), f"{HOME}/{mounted[0]}"]
    for path in readable:
        options += ["--ro-bind", path, path]
    for hidden in hidden_folders():
        if any(_contains(path, hidden) for path in (*_SYSTEM, *_interpreter(), *readable)):
            options += ["--tmpfs", hidden]
        for name, folder in (("", root), *((mounted,) if mounted else ())):
            if _contains(str(folder), hidden):
                options += ["--tmpfs", os.path.join(HOME, name, os.path.relpath(hidden, os.path.realpath(folder)))]
    # Writing outside the workspace must fail, instead of silently going into memory and being lost.
    options += ["--remount-ro", "/", "--chdir", "/".join((HOME, *directory))]
    return Bubblewrap(program=shutil.which("bwrap") or "bwrap", options=options)


def _landlock(
    root: Path, temporary: str, readable: Sequence[str], ports: Sequence[int] | None, mounted: Mount | None = None
) -> Landlock:
    written = [str(root), *([str(mounted[1])] if mounted else [])]
    read = [*_SYSTEM, "/proc", *_name_service(), *_interpreter(), *readable]
    for hidden in hidden_folders():
        if found := [folder for folder in written if _contains(folder, hidden)]:
            raise IsolationUnavailable(
                f"{hidden}, which has the secrets of hosts' sockets, is in the VM's folder {found[0]}, and Landlock cannot "
                "hide it there. Give another folder in agent_os(workspace=...)."
            )
        read = [each for path in read for each in _without(path, hidden)]
    allowed = None if ports is None else list(ports)
    return Landlock(write=[*_DEVICES, temporary, *written], read=read, ports=allowed)
