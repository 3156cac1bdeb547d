"""What each isolation keeps a command from, tried with real commands, and what it does not keep it from."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentq_nb.agent_os.sandbox import isolation, process
from agentq_nb.agent_os.values import ExecResult, IsolationKind
from agentq_nb.errors import IsolationUnavailable
from tests.unit.agent_os.needs import need

KINDS: tuple[IsolationKind, ...] = ("none", "landlock", "bubblewrap")


class Place:
    """A workspace with things around it that a command should not get at."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "vm" / "root"
        self.root.mkdir(parents=True)
        self.outside = folder / "outside"
        self.outside.mkdir()
        self.secret = self.outside / "secret"
        self.secret.write_text("the user's own secret")
        (self.root / "link").symlink_to(self.outside)

    def run(self, kind: IsolationKind, command: str) -> ExecResult:
        job = isolation.job(kind, self.root, (), ["/bin/sh", "-c", command], {})
        return asyncio.run(process.run(job, timeout=20))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def neighbour() -> Iterator[subprocess.Popen[bytes]]:
    """Another process of the same user, with a secret in its environment."""
    running = subprocess.Popen(["sleep", "600"], env={"TOKEN": "neighbour-secret"})
    yield running
    running.kill()
    running.wait()


@pytest.mark.parametrize("kind", KINDS)
def test_writing_outside_by_absolute_path_dots_and_links(kind: IsolationKind, place: Place) -> None:
    need(kind)
    for number, folder in enumerate((str(place.outside), "../../outside", "link")):
        result = place.run(kind, f"echo gotcha > {folder}/new{number} && echo changed > {folder}/secret")
        assert (result.exit_code == 0) == (kind == "none"), result
        assert (place.outside / f"new{number}").exists() == (kind == "none")
    assert (place.secret.read_text() == "the user's own secret") == (kind != "none")


@pytest.mark.parametrize("kind", KINDS)
def test_deleting_renaming_and_linking_outside(kind: IsolationKind, place: Place) -> None:
    need(kind)
    outside = place.outside
    result = place.run(
        kind, f"ln {place.secret} hard; mv {place.secret} {outside}/moved; chmod 777 {outside}; cat hard"
    )
    assert place.secret.exists() == (kind != "none")
    assert ("secret" in result.stdout) == (kind == "none")


@pytest.mark.parametrize("kind", KINDS)
def test_reading_a_secret_outside(kind: IsolationKind, place: Place) -> None:
    need(kind)
    for name in (str(place.secret), "../../outside/secret", "link/secret", f"/proc/self/root{place.secret}"):
        result = place.run(kind, f"cat {name}")
        assert ("the user's own secret" in result.stdout) == (kind == "none"), name


@pytest.mark.parametrize("kind", KINDS)
def test_reading_the_home_folder(kind: IsolationKind, place: Place) -> None:
    need(kind)
    own = Path.home() / f".agentq-test-{os.getpid()}"
    own.write_text("in my home")
    try:
        result = place.run(kind, f"cat {own}; ls -A {Path.home()}; echo over > {own}")
        assert ("in my home" in result.stdout) == (kind == "none")
        assert (own.name in result.stdout) == (kind == "none")
        assert (own.read_text() == "in my home") == (kind != "none")
    finally:
        own.unlink()


@pytest.mark.parametrize("kind", KINDS)
def test_environment_of_the_notebook_and_of_others(
    kind: IsolationKind, place: Place, neighbour: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    need(kind)
    monkeypatch.setenv("NOTEBOOK_TOKEN", "notebook-secret")
    result = place.run(kind, f"env; cat /proc/{neighbour.pid}/environ; cat /proc/*/environ")
    assert "notebook-secret" not in place.run(kind, "env").stdout
    assert ("neighbour-secret" in result.stdout) == (kind == "none")


@pytest.mark.parametrize("kind", KINDS)
def test_signals_to_others(kind: IsolationKind, place: Place, neighbour: subprocess.Popen[bytes]) -> None:
    need(kind)
    result = place.run(kind, f"kill -9 {neighbour.pid}")
    assert (result.exit_code == 0) == (kind == "none")
    if kind != "none":
        assert neighbour.poll() is None


@pytest.mark.parametrize("kind", KINDS)
def test_privileges_are_given_up(kind: IsolationKind, place: Place) -> None:
    need(kind)
    status = dict(
        line.split(":\t") for line in place.run(kind, "cat /proc/self/status").stdout.splitlines() if ":\t" in line
    )
    if kind != "none":
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert int(status["CapBnd"], 16) == 0 or os.geteuid() != 0  # only root can give up what it does not have
        assert status["NoNewPrivs"] == "1"
    assert place.run(kind, "mount -t tmpfs none /mnt").exit_code != 0 or kind == "none"


@pytest.mark.parametrize("kind", ["landlock", "bubblewrap"])
def test_disks_cannot_be_read_past_the_file_system(kind: IsolationKind, place: Place) -> None:
    """Root owns them, and an owner needs no privileges."""
    need(kind)
    disks = [entry.path for entry in os.scandir("/dev") if stat.S_ISBLK(entry.stat().st_mode)]
    disks += ["/dev/mem", "/dev/kmsg"]
    script = "; ".join(f"head -c 1 {disk} >/dev/null && echo read {disk}" for disk in disks)
    assert place.run(kind, script).stdout == ""
    assert place.run(kind, "head -c 1 /dev/zero | wc -c").stdout.strip() == "1"


@pytest.mark.parametrize("kind", KINDS)
def test_inside_a_command_finds_a_home_a_tmp_and_python(kind: IsolationKind, place: Place) -> None:
    need(kind)
    result = place.run(
        kind,
        "set -e; test $PWD = $HOME; echo one > $HOME/file; echo two > $TMPDIR/file; mktemp; echo > /dev/null;"
        "python3 -c 'import ssl, json, sys; print(sys.version_info[:2])'; git --version || true; cat /etc/hostname",
    )
    assert result.exit_code == 0, result
    assert str(sys.version_info[:2]) in result.stdout
    assert (place.root / "file").read_text() == "one\n"
    home = "/home/user" if kind == "bubblewrap" else str(place.root)
    assert place.run(kind, "pwd").stdout.strip() == home


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_stays_open_as_the_description_says(kind: IsolationKind, place: Place) -> None:
    need(kind)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = place.run(kind, f"python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}))'")
    assert result.exit_code == 0, result


@pytest.mark.parametrize("kind", ["landlock", "bubblewrap"])
def test_the_launcher_cannot_be_killed_from_inside(kind: IsolationKind, place: Place) -> None:
    need(kind)
    result = place.run(kind, "kill -9 $PPID; kill -9 -1; sleep 0; exit 7")
    assert result.exit_code in (7, 137), result  # killing itself is its own affair


@pytest.mark.parametrize("kind", ["landlock", "bubblewrap"])
def test_nothing_in_the_environment_acts_before_the_isolation(kind: IsolationKind, place: Place) -> None:
    """A start-up file or library that an agent wrote is not loaded by the launcher, or by bubblewrap itself."""
    need(kind)
    (place.root / "sitecustomize.py").write_text(f"open({str(place.outside / 'ran')!r}, 'w')")
    environment = {"PYTHONPATH": str(place.root), "LD_PRELOAD": str(place.root / "no.so"), "BASH_ENV": "x", "ENV": "x"}
    job = isolation.job(kind, place.root, (), ["/bin/sh", "-c", "echo $PYTHONPATH; exit 5"], environment)
    result = asyncio.run(process.run(job, timeout=20))
    assert result.exit_code == 5
    assert str(place.root) in result.stdout
    # The loader complains about the missing library once for each program it starts: the shell alone.
    assert result.stderr.count("cannot be preloaded") == 1
    assert not (place.outside / "ran").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_linked_and_moved_between_folders_of_the_workspace(kind: IsolationKind, place: Place) -> None:
    need(kind)
    result = place.run(kind, "mkdir a b && echo x > a/file && ln a/file b/linked && mv a b/moved && cat b/moved/file")
    assert (result.exit_code, result.stdout) == (0, "x\n"), result.stderr
    assert (place.root / "b" / "linked").stat().st_nlink == 2


def test_the_strongest_that_works_is_chosen_and_described(monkeypatch: pytest.MonkeyPatch) -> None:
    async def only(works: str | None) -> list[str]:
        monkeypatch.setattr(isolation, "_tried", {})

        async def tried(kind: IsolationKind) -> str:
            return "" if kind == works else f"no {kind} here"

        monkeypatch.setattr(isolation, "why_not", tried)
        found = await isolation.in_force("auto")
        assert found.protects
        assert found.does_not_protect
        return [found.kind, *found.refused]

    assert asyncio.run(only("bubblewrap")) == ["bubblewrap"]
    assert asyncio.run(only("landlock")) == ["landlock", "bubblewrap"]
    assert asyncio.run(only(None)) == ["none", "bubblewrap", "landlock"]
    with pytest.raises(IsolationUnavailable, match="no bubblewrap here; landlock: no landlock here"):
        asyncio.run(isolation.in_force("required"))
    off = asyncio.run(isolation.in_force("off"))
    assert (off.kind, off.refused) == ("none", dict.fromkeys(["bubblewrap", "landlock"], 'isolation="off"'))


def test_missing_bubblewrap_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "apt install bubblewrap" in asyncio.run(isolation.why_not("bubblewrap"))


def test_an_isolation_that_does_not_hold_is_not_believed() -> None:
    """The trial itself must notice: without isolation the canary is read and overwritten."""
    assert asyncio.run(isolation.why_not("none")) != ""
