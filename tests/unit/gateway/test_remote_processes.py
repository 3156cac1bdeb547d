"""Programs that are clients: they end cleanly, and a forked child makes a client of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.gateway.other_process import CHECKOUT, OtherProcess
from tests.unit.gateway.raw_client import TOKEN

SCRIPT = """
from agentq_nb import create_client
client = create_client(store={store!r})
reviewer = client.reviewer.get_or_create("script")
events = []
reviewer.on("added", events.append)
print(client.run(reviewer.add(2)))
print(client.run(reviewer.send("tasks", {{"prompt": "x"}}, wait=True)).response)
"""

LISTENING_AT_THE_END = """
import asyncio, atexit, gc, sys, time
from agentq_nb import create_client
from agentq_nb._gateway.client_loop import client_loop

def last():  # the interpreter has ended its worker threads
    global client, reviewer
    print("ending", flush=True)
    sys.stdin.readline()  # the host is gone
    until = time.monotonic() + 10
    while any("_follow" in repr(task) for task in asyncio.all_tasks(client_loop().loop)) and time.monotonic() < until:
        time.sleep(0.01)
    del client, reviewer
    gc.collect()

atexit.register(last)
client = create_client({url!r}, token={token!r}) if {url!r} else create_client(store={store!r})
reviewer = client.reviewer.get_or_create("script")
reviewer.on("added", print)
client.run(reviewer.add(2))
"""

FORKING = """
import os
from agentq_nb import create_client
from agentq_nb.errors import Forked
client = create_client(store={store!r})
reviewer = client.reviewer.get_or_create("forked")
print(client.run(reviewer.add(1)), flush=True)
if os.fork() == 0:
    try:
        client.run(reviewer.add(1))
    except Forked:
        own = create_client(store={store!r})
        print(own.run(own.reviewer.get_or_create("forked").add(1)), flush=True)
    os._exit(0)
os.wait()
print(client.run(reviewer.add(1)), flush=True)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[OtherProcess]:
    with OtherProcess.running(tmp_path, "socket") as process:
        yield process


def outcome(script: str) -> tuple[list[str], str, float]:
    """The lines that a program prints, its stderr, and the seconds it took."""
    begun = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", script],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ran.stdout.splitlines(), ran.stderr, time.monotonic() - begun


def test_a_synchronous_script_ends_cleanly_while_it_listens(other: OtherProcess) -> None:
    printed, errors, seconds = outcome(SCRIPT.format(store=str(other.store)))
    assert printed == ["2", "{'verdict': 'X'}"]
    assert errors == ""
    assert seconds < 30


@pytest.mark.parametrize("way", ["http", "socket"])
def test_a_script_that_listens_ends_without_a_word_when_its_host_ends_with_it(tmp_path: Path, way: str) -> None:
    other = OtherProcess(tmp_path, way)
    other.start()
    url = f"http://localhost:{other.port}" if way == "http" else ""
    script = LISTENING_AT_THE_END.format(url=url, token=TOKEN, store=str(other.store))
    pipe = subprocess.PIPE
    ending = subprocess.Popen([sys.executable, "-c", script], cwd=CHECKOUT, stdin=pipe, stdout=pipe, stderr=pipe)
    assert ending.stdout is not None
    lines = list(iter(ending.stdout.readline, b"ending\n"))
    other.kill()
    _, errors = ending.communicate(b"\n", timeout=60)
    assert lines == [b"{'value': 2}\n"]
    assert errors.decode() == ""


def test_a_forked_child_makes_a_client_of_its_own(other: OtherProcess) -> None:
    printed, errors, _ = outcome(FORKING.format(store=str(other.store)))
    assert printed == ["1", "2", "3"], errors
