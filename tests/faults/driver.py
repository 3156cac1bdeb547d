"""Drives one run: a host after the other over one file, each with its fault; then a clean one that drains everything."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb

from tests.faults.disks import Disk, SmallDisk
from tests.faults.facts import Fact, Ledger
from tests.faults.faults import FAULTS
from tests.faults.host import KNOWN, RESULTS
from tests.faults.plan import Life, Plan
from tests.faults.session import PIPE, STORE
from tests.faults.shim import Shim
from tests.kernel.driving import PROJECT, CellTimeout, Kernel, KernelDied

PATIENCE = 90.0
"""Seconds in which a clean host has to drain what all the others have left."""
_START = 60.0
_SHIMMED = frozenset(
    [
        "failing writes",
        "torn writes",
        "late writes",
        "short writes",
        "flush fails once",
        "flush fails for good",
        "clock",
    ]
)


class Host:
    """One process under test."""

    def __init__(self, run: Run, life: Life, process: subprocess.Popen[bytes] | Kernel) -> None:
        self.run = run
        self.life = life
        self.process = process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.alive if isinstance(self.process, Kernel) else self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def heard(self, *facts: str, seconds: float = _START, since: int = 0) -> bool:
        """Whether it tells one of the facts before it ends."""
        return self.run.ledger.wait(facts, self.life.number, seconds, lambda: not self.alive, since)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended by itself in that time."""
        until = time.monotonic() + seconds
        while self.alive and time.monotonic() < until:
            time.sleep(0.005)
        return not self.alive

    def end(self) -> None:
        """Make sure that it is gone."""
        self.signal(signal.SIGCONT)
        if self.alive:
            self.signal(signal.SIGKILL)
            self.wait(10)
        if isinstance(self.process, subprocess.Popen):
            self.process.wait()


class Run:
    """Everything that came of one plan: the ledger, and what the last host found."""

    def __init__(self, plan: Plan, folder: Path, plant: str | None = None) -> None:
        self.plan = plan
        self.folder = folder
        self.plant = plant
        self.exports: dict[str, set[str] | str] = {}
        """The ids of the messages in each copy that was acknowledged; or what is wrong with the copy."""
        self.litter: list[str] = []
        """Files beside the database after a clean end that should not be there."""
        self.found: dict[str, Any] = {}
        """What the last host wrote down; empty when there was no end to it."""
        self.clock = 0.0
        """How far the clock of a host was ahead at most."""

    @property
    def facts(self) -> list[Fact]:
        return self.ledger.facts

    @property
    def last_life(self) -> int:
        """The number of the clean host at the end. Those of rivals lie between."""
        return 2 * len(self.plan.lives)

    def go(self) -> Run:
        """Do it all. The folder must be empty."""
        self.ledger = Ledger(self.folder / PIPE)
        disk = self.folder / Path(STORE).parent
        self.disk = SmallDisk(disk) if self.plan.kind == "full disk" else Disk(disk)
        try:
            for life in self.plan.lives:
                if self.plan.kernel:
                    self._live_in_a_kernel(life)
                else:
                    self._live(life)
            self._drain()
            self.litter = sorted(
                path.name
                for path in self.disk.seen.iterdir()
                if path.name not in (Path(STORE).name, Path(STORE).name + ".guard")
            )
        finally:
            self.ledger.close()
            self.disk.close()
            lines = [json.dumps(fact) + "\n" for fact in self.facts]
            (self.folder / "facts.jsonl").write_text("".join(lines))
        return self

    # --- the lives ----------------------------------------------------------------------------------------------------

    def _live(self, life: Life) -> None:
        self.shim = None
        if life.fault in _SHIMMED:
            self.shim = Shim(self.folder / f"orders-{life.number}", self.folder / STORE, life.target)
            self.shim.move_clock(self.clock)
        host = self.start(life)
        try:
            if host.heard("opening" if life.early else "loading"):
                time.sleep(life.after)
                FAULTS[life.fault](host)
            self._note_end(host)
        finally:
            host.end()
            self.disk.free()
        self._look_at_exports()

    def _note_end(self, host: Host) -> None:
        if host.alive:
            host.end()
        self.ledger.note("ended", life=host.life.number)

    def start(self, life: Life, **more: Any) -> Host:
        """A host of this life in a process of its own."""
        return Host(self, life, self._process(life.as_json() | {"doubtful": self._doubtful()} | more, life.number))

    def _process(self, orders: dict[str, Any], number: int) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "tests.faults.host",
            str(self.folder),
            json.dumps(orders | {"plant": self.plant}),
        ]
        environment = {**os.environ, "AGENTQ_DB": "", "PYTHONFAULTHANDLER": "1"}
        if self.shim is not None:
            environment |= self.shim.environment
        with (self.folder / f"said-{number}.txt").open("ab") as said:
            return subprocess.Popen(
                self.disk.command(command),
                cwd=PROJECT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def _doubtful(self) -> list[list[Any]]:
        """Keyed sends that were never acknowledged, and some that were: to be sent again."""
        asked = {fact["number"]: fact for fact in self.facts if fact["fact"] == "sending" and fact["keyed"]}
        sent = {fact["number"] for fact in self.facts if fact["fact"] == "sent"}
        again = [number for number in asked if number not in sent or number % 4 == 0][-60:]
        return [[*asked[number]["actor"].split("/"), asked[number]["queue"], number] for number in again]

    def _live_in_a_kernel(self, life: Life) -> None:
        self.shim = None
        folder = self.folder / f"kernel-{life.number}"
        folder.mkdir()
        orders = life.as_json() | {"doubtful": self._doubtful()}
        with Kernel(folder) as kernel:
            host = Host(self, life, kernel)
            kernel.run("from tests.faults import host").check()
            cell = kernel.submit(f"await host.begin({str(self.folder)!r}, {orders!r})")
            with suppress(KernelDied, CellTimeout):
                kernel.wait(cell)
                if host.heard("loading"):
                    kernel.listen(life.after)
                    _do_to_a_kernel(kernel, host)
            self._note_end(host)
        self._look_at_exports()

    # --- the end ------------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        known = sorted({fact["id"] for fact in self.facts if fact["fact"] in ("sent", "began")})
        number = self.last_life
        self.shim = None
        if self.clock:
            self.shim = Shim(self.folder / "orders-last", self.folder / STORE, "")
            self.shim.move_clock(self.clock + 7 * 86_400)  # what was put off by a clock that was ahead is due now
        (self.folder / KNOWN).write_text(json.dumps(known))
        orders = {"number": number, "fault": "", "seed": 0, "retention": None, "drain": PATIENCE}
        process = self._process(orders, number)
        try:
            process.wait(PATIENCE + _START)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if (self.folder / RESULTS).exists():
            self.found = json.loads((self.folder / RESULTS).read_text())

    def _look_at_exports(self) -> None:
        """While nobody has the file: what is in the copies that were acknowledged."""
        acknowledged = {fact["target"] for fact in self.facts if fact["fact"] == "exported"}
        for path in self.disk.seen.glob("export-*.duckdb"):
            if path.name in acknowledged:
                # DuckDB looks for the file by its name, which is another one where the disk is mounted.
                self.exports[path.name] = _ids_in(shutil.copyfile(path, self.folder / path.name))
                (self.folder / path.name).unlink()
            path.unlink()
        for name in acknowledged - self.exports.keys():
            self.exports[name] = "it is not there"


def _ids_in(path: Path) -> set[str] | str:
    try:
        with duckdb.connect(str(path), read_only=True) as copy:
            found = copy.execute("select distinct message_id from events where message_id is not null").fetchall()
            return {message for (message,) in found}
    except duckdb.Error as error:
        return str(error)


def _do_to_a_kernel(kernel: Kernel, host: Host) -> None:
    """The faults of a kernel's life: what its user, its machine or one of its cells does to it."""
    life = host.life
    match life.fault:
        case "int":
            cell = kernel.submit("import asyncio\nawait asyncio.sleep(60)")
            kernel.listen(0.2)
            kernel.interrupt()
            kernel.wait(cell)
            since = len(host.run.facts)
            assert host.heard("sent", since=since, seconds=20), "an interrupted cell has ended the host"
        case "exit":
            kernel.submit("import os\nos._exit(3)")
            host.wait(10)
        case "fork":
            kernel.run(
                "import multiprocessing, os, time\n"
                "child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(0.05,))\n"
                "child.start()\nchild.join()\n"
                "if os.fork() == 0:\n    time.sleep(1)\n    os._exit(0)"
            )
        case "stop":
            host.signal(signal.SIGSTOP)
            time.sleep(life.length)
            host.signal(signal.SIGCONT)
        case "rivals":
            rival = host.run.start(host.life, fault="", number=life.number + 100)
            time.sleep(1 + life.length)
            rival.end()
        case _:
            pass
    if host.alive:
        if life.ending == "int":
            kernel.run("await host.stop()", timeout=30)
        else:
            kernel.kill()
