"""A real PostgreSQL server for tests: in a temporary folder, on a free port, run by an ordinary user."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.requirements import missing

PATIENCE = 60.0
"""Seconds in which a server must be there."""

HOW_TO_GET_IT = "Install PostgreSQL 15 or newer: apt-get install postgresql, or brew install postgresql."

# Nothing of a test's server outlives a power failure.
_FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}

DURABLE = {"synchronous_commit": "on"}
"""For tests that kill the server: what is acknowledged must be in its log file by then."""


def programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs; None if there is none on this machine."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    return max(found, key=lambda path: int(path.parent.name), default=None)


def required_programs() -> Path:
    """The folder of PostgreSQL's programs. Without them the test is skipped, and fails in CI."""
    return programs() or missing(HOW_TO_GET_IT)


class Server:
    """One server, with a database ``test`` and its superuser ``test``."""

    def __init__(self, folder: Path, programs: Path, settings: dict[str, str]) -> None:
        self.port = free_port()
        self._folder = folder
        self._programs = programs
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.address("test")

    def address(self, database: str) -> str:
        """The address of a database of this server."""
        return f"postgresql://test@127.0.0.1:{self.port}/{database}"

    @property
    def log(self) -> str:
        """What it has written into its log."""
        return (self._folder / "log").read_text()

    @property
    def process_id(self) -> int:
        """The process of the running server; those of its connections are below it."""
        assert self._process is not None
        return self._process.pid

    def create(self) -> None:
        """Make an empty database."""
        options = ["--username=test", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._run("initdb", "--pgdata", str(self._folder / "data"), *options)
        self.start()
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute("create database test")

    def copy(self, primary: Server) -> None:
        """Become a standby of a running server, and follow it."""
        source = ["--host=127.0.0.1", f"--port={primary.port}", "--username=test"]
        target = ["--pgdata", str(self._folder / "data"), "--checkpoint=fast", "--no-sync", "--write-recovery-conf"]
        self._run("pg_basebackup", *source, *target)
        self.start()

    def start(self) -> None:
        """Start it, and return when it answers."""
        given = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            **self._settings,
        }
        options = [f"--{name}={value}" for name, value in given.items()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder / "data", *options],
                stdout=log,
                stderr=log,
                user=ordinary_user(),
                cwd=self._folder,
            )
        end = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(self.address("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"PostgreSQL did not start:\n{self.log}") from None
                time.sleep(0.05)

    def revive(self) -> None:
        """Start it again if it has ended by itself."""
        if self._process is None or self._process.poll() is not None:
            self.start()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends all connections first, SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE)
            self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, *arguments],
            check=True,
            capture_output=True,
            user=ordinary_user(),
            cwd=self._folder,
        )


@contextmanager
def running_server(
    programs: Path, settings: dict[str, str] | None = None, folder: Path | None = None
) -> Generator[Server]:
    """A new server in an empty folder, by default a temporary one. Both are removed at the end."""
    folder = folder or Path(tempfile.mkdtemp(prefix="pg-"))
    if (user := ordinary_user()) is not None:
        shutil.chown(folder, user)
    server = Server(folder, programs, {**_FAST, **(settings or {})})
    try:
        server.create()
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def required_server(settings: dict[str, str] | None = None, folder: Path | None = None) -> Generator[Server]:
    """As :func:`running_server`. Without PostgreSQL the test is skipped, and fails in CI."""
    with running_server(required_programs(), settings, folder) as server:
        yield server


def ordinary_user() -> str | None:
    """Whose server it is: PostgreSQL refuses to be root's."""
    if os.getuid() != 0:
        return None
    names = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
