"""A real pgbouncer for tests, which pools transactions: each one may run in another process of the server."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.postgres_server import PATIENCE, Server, free_port, ordinary_user

HOW_TO_GET_POOLER = "Install pgbouncer: apt-get install pgbouncer, or brew install pgbouncer."

_SETTINGS = """
[databases]
test = host=127.0.0.1 port={server_port} user=test

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
server_login_retry = 2
logfile = {folder}/log
"""


def pooler_program() -> str | None:
    """The path of pgbouncer; None if it is not on this machine."""
    return shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")


@contextmanager
def running_pooler(program: str, server: Server) -> Generator[str]:
    """Run it between tests and a server; yields the address of the database."""
    folder = Path(tempfile.mkdtemp(prefix="pooler-"))
    if (user := ordinary_user()) is not None:
        shutil.chown(folder, user)
    port = free_port()
    settings = folder / "pgbouncer.ini"
    settings.write_text(_SETTINGS.format(server_port=server.port, port=port, folder=folder))
    process = subprocess.Popen([program, settings], stderr=subprocess.DEVNULL, user=user, cwd=folder)
    try:
        _wait(url := f"postgresql://test@127.0.0.1:{port}/test", process, folder / "log")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"pgbouncer did not start:\n{log.read_text() if log.exists() else ''}") from None
            time.sleep(0.05)
