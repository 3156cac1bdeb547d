"""The servers of a run: one, or a primary with a synchronous standby."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.postgres_server import Server, ordinary_user, running_server

# What is acknowledged must be in the log file when the server is killed, and in that of the standby.
_DURABLE = {"synchronous_commit": "on", "max_connections": "200"}


class Servers:
    """What hosts connect to.

    :ivar standby: takes over when the primary is gone.
    """

    def __init__(self, primary: Server, standby: Server | None) -> None:
        self.standby = standby
        self._primary = primary
        self._failed_over = False

    @property
    def ports(self) -> list[int]:
        """The ports of all of them, the first primary's first."""
        return [server.port for server in (self._primary, self.standby) if server is not None]

    @property
    def current(self) -> Server:
        """The one that accepts writes."""
        return self.standby if self._failed_over and self.standby is not None else self._primary

    def crash(self) -> None:
        """Kill the server that accepts writes, as a loss of power to it would."""
        self.current.stop(signal.SIGQUIT)

    def restart(self) -> None:
        """Start it again."""
        self.current.start()

    def promote(self) -> None:
        """Make the standby the one that accepts writes."""
        assert self.standby is not None, "there is none"
        self._failed_over = True
        with psycopg.connect(self.standby.url, autocommit=True) as connection:
            connection.execute("select pg_promote(wait => true)")


@contextmanager
def running_servers(programs: Path, *, standby: bool) -> Generator[Servers]:
    """Start a server, with a synchronous standby if wanted."""
    with running_server(programs, _DURABLE) as primary:
        if not standby:
            yield Servers(primary, None)
            return
        with _running_standby(primary, programs) as second:
            with psycopg.connect(primary.url, autocommit=True) as connection:
                # Only now: the copy must not wait for a standby of its own once it is promoted.
                connection.execute("alter system set synchronous_standby_names = '*'")
                connection.execute("select pg_reload_conf()")
            yield Servers(primary, second)


@contextmanager
def _running_standby(primary: Server, programs: Path) -> Generator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="pg-standby-"))
    if (user := ordinary_user()) is not None:
        shutil.chown(folder, user)
    standby = Server(folder, programs, _DURABLE)
    try:
        standby.copy(primary)
        yield standby
    finally:
        standby.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)
