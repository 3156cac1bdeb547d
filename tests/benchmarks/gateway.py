"""HTTP from other processes: sends beside empty requests, and RivetKit's client on our gateway and on its own server."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.benchmarks import queues
from tests.benchmarks.figures import Samples, Table
from tests.rivetkit.npm import VERSION, CannotInstallError, install

CONNECTIONS = 64
TIMES = 300
RIVETKIT_TIMES = 30
RIVETKIT_SECONDS = 3
_HERE = Path(__file__).parent
_BODY = json.dumps({"body": {"prompt": "x" * 180}}).encode()
_SEND = "/gateway/runner/queue/kept?rvt-namespace=default&rvt-method=getOrCreate&rvt-key=measured"


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, str, Callable[[], dict[str, Any]]]]:
    """A host in a process of its own: its url, its token, and what ends it and returns what it measured."""
    command = [sys.executable, "-m", "tests.benchmarks.gateway_host", str(folder / f"gateway-{time.time_ns()}.duckdb")]
    process = subprocess.Popen(command, cwd=_HERE.parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        served = json.loads(process.stdout.readline())

        def stop() -> dict[str, Any]:
            printed, _ = process.communicate()
            return dict(json.loads(printed.splitlines()[-1]))

        yield served["url"], served["token"], stop
    finally:
        process.kill()
        process.wait()


class Client:
    """One connection that is kept, as a program has it that sends much."""

    def __init__(self, url: str, token: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        self._headers["x-rivet-encoding"] = "json"

    def empty(self) -> None:
        """The least that a request can ask."""
        self._request("GET", "/health", None)

    def send(self) -> None:
        """Send one message; durable when it is answered."""
        self._request("POST", _SEND, _BODY)

    def _request(self, method: str, path: str, body: bytes | None) -> None:
        self._connection.request(method, path, body, self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer


def seconds_of(step: Callable[[], None], times: int = TIMES) -> list[float]:
    taken: list[float] = []
    for _ in range(times):
        begun = time.perf_counter()
        step()
        taken.append(time.perf_counter() - begun)
    return taken


def rate_of(url: str, token: str, step: Callable[[Client], None], seconds: float = 3.0) -> float:
    """How often all connections together do it in a second."""
    counts = [0] * CONNECTIONS
    ends = time.perf_counter() + seconds

    def work(number: int) -> None:
        client = Client(url, token)
        while time.perf_counter() < ends:
            step(client)
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def measure_http(samples: Samples, folder: Path) -> None:
    with served(folder) as (url, token, stop):
        client = Client(url, token)
        seconds_of(client.send, 20)
        for _ in range(3):
            samples.add("empty", *seconds_of(client.empty))
            samples.add("http send", *seconds_of(client.send))
            samples.add("in-process send", 1 / asyncio.run(queues.sequential_rate(folder)))
        samples.add("empty rate", rate_of(url, token, Client.empty))
        samples.add("send rate", rate_of(url, token, Client.send))
        samples.add("late", stop()["late_p99"])


def rivetkit_folder() -> Path:
    """Where npm has put RivetKit. Raises SystemExit where that is impossible."""
    try:
        folder = install("rivetkit", f"rivetkit@{VERSION}")
    except CannotInstallError as error:
        raise SystemExit(str(error)) from None
    for script in ("rivetkit_client.mjs", "rivetkit_server.mjs"):
        shutil.copyfile(_HERE / script, folder / script)
    return folder


@contextmanager
def rivetkit_served(folder: Path, home: Path) -> Iterator[str]:
    """RivetKit's own local server, with data of its own."""
    home.mkdir()
    log = (home / "server.log").open("w")
    process = subprocess.Popen(
        ["node", "rivetkit_server.mjs"],
        cwd=folder,
        env={**os.environ, "HOME": str(home), "XDG_DATA_HOME": str(home)},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    url = "http://127.0.0.1:6420"
    try:
        deadline = time.monotonic() + 60
        while not _answers(f"{url}/metadata"):
            assert time.monotonic() < deadline, (home / "server.log").read_text()[-2000:]
            time.sleep(0.2)
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
        log.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def rivetkit_client(folder: Path, url: str, token: str, times: int, seconds: float) -> dict[str, Any]:
    command = ["node", "rivetkit_client.mjs", url, token, str(times), str(seconds)]
    environment = {**os.environ, "RIVET_LOG_LEVEL": "silent"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure_rivetkit(samples: Samples, folder: Path, number: int) -> None:
    """The same client program on both servers, one after the other."""
    installed = rivetkit_folder()
    with served(folder) as (url, token, _):
        _keep(samples, "ours", rivetkit_client(installed, url, token, TIMES, RIVETKIT_SECONDS))
    with rivetkit_served(installed, folder / f"rivetkit-{number}") as url:
        _keep(samples, "RivetKit", rivetkit_client(installed, url, "", RIVETKIT_TIMES, RIVETKIT_SECONDS))


def _keep(samples: Samples, whose: str, measured: dict[str, Any]) -> None:
    samples.add(f"{whose} send", *measured["send"])
    samples.add(f"{whose} ask", *measured["ask"])
    samples.add(f"{whose} rate", measured["rate"])


def figures(table: Table, folder: Path) -> None:
    samples = Samples()
    for number in range(table.rounds):
        print(f"round {number + 1} of {table.rounds} …", file=sys.stderr, flush=True)
        measure_http(samples, folder)
        measure_rivetkit(samples, folder, number)
    add_http(table, samples)
    add_rivetkit(table, samples)


def add_http(table: Table, samples: Samples) -> None:
    empty, sent, own = (samples.median(name) for name in ("empty", "http send", "in-process send"))
    table.add("empty HTTP request, p50", empty * 1000, "ms")
    row = table.add("HTTP send, p50", sent * 1000, "ms")
    table.aim(row, (sent - empty) / own, "x in-process send more than empty", at_most=2)
    empty_rate, send_rate = samples.median("empty rate"), samples.median("send rate")
    table.add(f"empty HTTP requests, {CONNECTIONS} connections", empty_rate, "/s")
    row = table.add(f"HTTP sends, {CONNECTIONS} connections", send_rate, "/s")
    table.aim(row, send_rate / empty_rate, "x empty requests", at_least=0.5)
    late = samples.highest("late") * 1000
    table.aim(table.add("lateness of a timer of 10 ms meanwhile, p99", late, "ms"), late, "ms", at_most=50)


def add_rivetkit(table: Table, samples: Samples) -> None:
    for whose in ("RivetKit", "ours"):
        for what, name in (("send", "send"), ("ask", "request/reply")):
            values = f"{whose} {what}"
            row = table.add(f"RivetKit's client, {name}, {whose}, p50", samples.median(values) * 1000, "ms")
            if whose == "ours":
                ratio = samples.median(f"RivetKit {what}") / samples.median(values)
                table.aim(row, ratio, "times faster than RivetKit", at_least=20)
            slow = samples.percentile(values, 99)
            table.add(f"RivetKit's client, {name}, {whose}, p99", slow * 1000, "ms")
        row = table.add(f"RivetKit's client, {CONNECTIONS} senders, {whose}", samples.median(f"{whose} rate"), "/s")
        if whose == "ours":
            ratio = samples.median("ours rate") / samples.median("RivetKit rate")
            table.aim(row, ratio, "x RivetKit's", at_least=5)
