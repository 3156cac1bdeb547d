"""The processes of one run: three hosts, each with a network of its own, and one that sends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from tests.distributed.network import Network
from tests.distributed.plan import HOSTS, Plan
from tests.distributed.senders import LIFE
from tests.distributed.servers import Servers
from tests.faults.facts import Ledger

CHECKOUT = Path(__file__).resolve().parents[2]
STARTED = 60.0
"""Seconds in which a process has to be there."""
STOPPED = 60.0
"""Seconds in which a host has to end in good order."""


class Cluster:
    """Hosts on one database; each starts again in a new life under its number."""

    def __init__(self, plan: Plan, folder: Path, servers: Servers) -> None:
        self.plan = plan
        self.servers = servers
        self.networks: list[Network] = []
        self.ledger = Ledger(folder / "ledger")
        self.stopped: dict[int, tuple[float, float]] = {}
        """When each life could not reach anything, or did not run: from and to, by the ledger's clock."""
        self._folder = folder
        self._hosts: list[tuple[int, subprocess.Popen[bytes]]] = []
        self._senders: subprocess.Popen[bytes] | None = None
        self._lives = LIFE
        self._stack = ExitStack()
        self._ending = threading.Event()

    def __enter__(self) -> Cluster:
        for _ in range(HOSTS):
            self.networks.append(self._stack.enter_context(Network(self.servers.ports)))
        try:
            for number in range(HOSTS):
                self._hosts.append(self._start(number))
            for life, process in self._hosts:
                self._until(lambda life=life: self._said("started", life), f"host {life} starts", process)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill what is still there."""
        processes = [process for _, process in self._hosts] + [self._senders] * (self._senders is not None)
        for process in processes:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self._stack.close()
        self.ledger.close()

    # --- processes ----------------------------------------------------------------------------------------------------

    def send(self) -> None:
        """Start the process that sends, by a network that is never cut."""
        size = self.plan.size
        words = [self._address(self.servers.ports), size.actors, size.messages, size.pace, self.plan.chance]
        self._senders = self._run("senders", LIFE, words)

    def life_of(self, number: int) -> int:
        """Return the number of the life that a host is in."""
        return self._hosts[number][0]

    def kill(self, number: int) -> None:
        """Kill a host with -9."""
        _, process = self._hosts[number]
        process.kill()
        process.wait()

    def start_again(self, number: int) -> None:
        """Start a host that was killed."""
        self._hosts[number] = self._start(number)

    def signal(self, number: int, what: signal.Signals) -> None:
        """Send a signal to a host."""
        self._hosts[number][1].send_signal(what)

    def stop(self) -> list[str]:
        """Stop all hosts in good order; return what went wrong."""
        wrong: list[str] = []
        for life, process in self._hosts:
            if process.poll() is not None:
                wrong.append(f"the host of life {life} has ended by itself:\n{self.output(life)}")
            process.send_signal(signal.SIGTERM)
        for life, process in self._hosts:
            try:
                code = process.wait(STOPPED)
            except subprocess.TimeoutExpired:
                wrong.append(f"the host of life {life} does not stop")
            else:
                if code:
                    wrong.append(f"the host of life {life} stopped with {code}:\n{self.output(life)}")
        return wrong

    def senders_failed(self) -> str | None:
        """Return why the senders have ended though they had not done everything."""
        if self._senders is None or not self._senders.poll():
            return None
        return self.output(LIFE)

    def output(self, life: int) -> str:
        """Return the end of what a process printed."""
        with suppress(FileNotFoundError):
            return (self._folder / f"output-{life}").read_text()[-2000:]
        return ""

    def count(self, fact: str) -> int:
        """Return how many facts of a kind there are."""
        return sum(1 for one in self.ledger.facts if one["fact"] == fact)

    # --- how they are started -----------------------------------------------------------------------------------------

    def _start(self, number: int) -> tuple[int, subprocess.Popen[bytes]]:
        self._lives += 1
        address = self._address(self.networks[number].ports)
        return self._lives, self._run("worker", self._lives, [self._lives, address], f"host-{number}")

    def _address(self, ports: list[int]) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"postgresql://test@{hosts}/test?target_session_attrs=read-write"

    def _run(self, module: str, life: int, words: list[object], place: str = "senders") -> subprocess.Popen[bytes]:
        folder = self._folder / place
        folder.mkdir(exist_ok=True)
        with (self._folder / f"output-{life}").open("wb") as output:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", f"tests.distributed.{module}"),
                    str(self._folder / "ledger"),
                    *map(str, words),
                ],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                stdout=output,
                stderr=output,
            )

    def _said(self, fact: str, life: int) -> bool:
        return any(one["fact"] == fact and one.get("life") == life for one in self.ledger.facts)

    def _until(self, what: Callable[[], bool], name: str, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + STARTED
        while not what():
            if time.monotonic() > end or process.poll() is not None:
                raise RuntimeError(f"{name}, but does not:\n{self.output(self._lives)}")
            time.sleep(0.02)
