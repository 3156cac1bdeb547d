"""Start one command, sandboxed if asked to, monitor it, and end every process that it leaves behind.

This file runs as a program of its own, ``python -I -S launcher.py PARENT_PID``, with the standard library only. It
reads its job as JSON from stdin, so that neither the command nor its environment shows up in a process list, and
nothing in that environment (such as a preloaded library) takes effect before the isolation does. It runs between the
kernel and the command: at SIGTERM, or when the kernel dies, it asks everything it started to end, waits ``grace``
seconds, and kills the rest. It exits with the command's exit code, or 128 + the signal's number.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Any

_SET_PARENT_DEATH_SIGNAL = 1
_SET_CHILD_SUBREAPER = 36
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ADDED_NICENESS = 5  # added to the niceness of the notebook's process
_ADDED_OOM_SCORE = 500  # of 1000 points by which Linux chooses what to kill when memory runs out
_KILL_FOR = 5.0  # seconds; a process stuck in the kernel cannot be killed and must not block us forever


def main() -> int:
    linux = sys.platform.startswith("linux")
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, _on_signal)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if linux:
        _control(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
        _control(_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != int(sys.argv[1]):  # it died before we could ask for the signal
        return 1
    job: dict[str, Any] = json.load(sys.stdin)
    limits = _load("limits") if job["limits"] and linux else None
    command = _start(job, linux, _load("confinement") if linux else None, limits)
    if job["input"] is not None:
        os.close(job["input"])  # only the command reads it, so that the writer notices when the command ends
    watch = limits.Watch(job) if limits else None
    for standard in (0, 1) if watch else (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), standard)
    status = _watch(command, woken, job, watch)
    _kill_all(command, linux)
    if job["temporary"]:
        with suppress(OSError):
            remove_tree(job["temporary"])
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


_terminated = False


def _on_signal(number: int, frame: object) -> None:
    global _terminated
    _terminated = _terminated or number == signal.SIGTERM


def _load(name: str) -> Any:
    """Load a module from this folder without importing the package."""
    from importlib import util

    found = util.spec_from_file_location(name, os.path.join(os.path.dirname(__file__), f"{name}.py"))
    assert found is not None
    assert found.loader is not None
    module = util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _watch(command: int, woken: int, job: dict[str, Any], limits: Any) -> int:
    """Wait for the command, pass on a request to end, and kill what exceeds its limits; return its wait status."""
    deadline: float | None = None
    while True:
        with suppress(ChildProcessError):
            while True:
                ended, status = os.waitpid(-1, os.WNOHANG)
                if ended == command:
                    return status
                if ended == 0:
                    break
        if _terminated and deadline is None:
            deadline = time.monotonic() + job["grace"]
            # bubblewrap would end at once and kill what runs inside, which gets its grace period first.
            _signal_all(command, signal.SIGTERM, spared=command if job["bubblewrap"] else 0)
        if limits is not None and (exceeded := limits.exceeded()) is not None:
            _print_error(f"killed: {exceeded}")
            limits, deadline = None, time.monotonic()
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            _signal_all(command, signal.SIGKILL)
            left = 0.05
        if limits is not None:
            left = min(limits.seconds(), limits.seconds() if left is None else left)
        if select.select([woken], [], [], left)[0]:
            os.read(woken, 4096)


def _kill_all(command: int, linux: bool) -> None:
    """End what the command left running, including what moved to another session: as subreaper, we are its parent."""
    give_up = time.monotonic() + _KILL_FOR
    with suppress(OSError):
        os.killpg(command, signal.SIGKILL)
    while linux and time.monotonic() < give_up:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not _descendants():
            return
        _signal_all(command, signal.SIGKILL)
        time.sleep(0.002)


def _signal_all(command: int, number: int, spared: int = 0) -> None:
    if not spared:
        with suppress(OSError):
            os.killpg(command, number)
    for process in _descendants():
        if process != spared:
            with suppress(OSError):
                os.kill(process, number)


def _descendants() -> list[int]:
    """Return children, grandchildren and so on; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    with suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with suppress(OSError, IndexError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
                    # The name in parentheses may contain anything, so fields are counted from its end.
                    parent = int(file.read().rpartition(b")")[2].split()[1])
                    children.setdefault(parent, []).append(int(name))
    found = [os.getpid()]
    for process in found:
        found.extend(children.get(process, ()))
    return found[1:]


def _start(job: dict[str, Any], linux: bool, confinement: Any, limits: Any) -> int:
    command = os.fork()
    if command:
        return command
    code = 126
    try:
        os.setsid()
        if linux:
            _control(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
            confinement.leave_session_keyring()
            _lower_priority()
        if limits:
            limits.restrict(job["limits"])
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY) if job["input"] is None else job["input"], 0)
        if job["input"] is not None:
            os.close(job["input"])
        _execute(job, confinement)
    except FileNotFoundError as error:
        code = 127
        _print_error(f"cannot start the command: {error}")
    except BaseException as error:
        _print_error(f"cannot start the command: {error}")
    os._exit(code)


def _lower_priority() -> None:
    """Give the notebook's process priority when CPU time is scarce, and spare it when memory runs out."""
    with suppress(OSError):
        os.nice(_ADDED_NICENESS)
    with suppress(OSError, ValueError), open("/proc/self/oom_score_adj", "r+") as file:
        score = int(file.read())
        file.seek(0)
        file.write(str(min(1000, score + _ADDED_OOM_SCORE)))


def _print_error(sentence: str) -> None:
    with suppress(OSError):
        os.write(2, f"{sentence}\n".encode("utf-8", "backslashreplace"))


def _execute(job: dict[str, Any], confinement: Any) -> None:
    os.chdir(job["directory"])
    if job["network"]:
        enter_network(*job["network"])
    if job["bubblewrap"]:
        _execute_bubblewrap(job)
    if job["landlock"]:
        confinement.restrict(**job["landlock"])
    os.execvpe(job["command"][0], job["command"], job["environment"])


def enter_network(user: int, network: int) -> None:
    """Join the user namespace and the network namespace of these files, and close them. Raises ``OSError``."""
    library = ctypes.CDLL(None, use_errno=True)
    for file, kind in ((user, _NEW_USER), (network, _NEW_NETWORK)):
        if library.setns(file, kind):
            raise OSError(ctypes.get_errno(), f"its network cannot be joined: {os.strerror(ctypes.get_errno())}")
        os.close(file)


def _execute_bubblewrap(job: dict[str, Any]) -> None:
    options: list[str] = [*job["bubblewrap"]["options"], "--clearenv"]
    for name, value in job["environment"].items():
        options += ["--setenv", name, value]
    file = os.memfd_create("options", 0)  # inherited on purpose: bubblewrap reads it
    with os.fdopen(os.dup(file), "wb") as writer:
        writer.write(b"".join(os.fsencode(option) + b"\0" for option in options))
    os.lseek(file, 0, os.SEEK_SET)
    program = job["bubblewrap"]["program"]
    os.execve(program, [program, "--args", str(file), "--", *job["command"]], {"PATH": os.defpath})


def remove_tree(path: str, parent: int | None = None) -> None:
    """Remove a folder of any depth with its contents; ``path`` is below the open folder ``parent``. Raises ``OSError``.

    Links are removed, never followed. Folders within folders are moved up first, so that neither the number of open
    files nor the length of paths grows with the depth.
    """
    top = os.open(path, _FOLDER, dir_fd=parent)
    try:
        _make_writable(top)
        left = _emptied(top, top)
        while left:
            folder = os.open(left[-1], _FOLDER, dir_fd=top)
            try:
                found = _emptied(folder, top)
            finally:
                os.close(folder)
            os.rmdir(left.pop(), dir_fd=top)
            left += found
    finally:
        os.close(top)
    os.rmdir(path, dir_fd=parent)


def _emptied(folder: int, top: int) -> list[str]:
    """Remove the files of a folder and move its folders to ``top``; return their names there."""
    moved: list[str] = []
    with os.scandir(folder) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in names:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
            continue
        inner = os.open(name, _FOLDER, dir_fd=folder)
        try:
            _make_writable(inner)
        finally:
            os.close(inner)
        if folder != top:
            unique = f".agentq-{os.urandom(8).hex()}"
            os.rename(name, unique, src_dir_fd=folder, dst_dir_fd=top)
            name = unique
        moved.append(name)
    return moved


def _make_writable(folder: int) -> None:
    """Make a folder writable: otherwise it can be neither moved nor emptied."""
    with suppress(OSError):  # it is another user's: later calls show whether that matters
        os.fchmod(folder, 0o700)


def _control(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
