"""Programs that are clients: they end cleanly, and a forked child makes a client of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.gateway.other_process import CHECKOUT, OtherProcess

SCRIPT = """
from agentq_nb import create_client
client = create_client(store={store!r})
reviewer = client.reviewer.get_or_create("script")
events = []
reviewer.on("added", events.append)
print(client.run(reviewer.add(2)))
print(client.run(reviewer.send("tasks", {{"prompt": "x"}}, wait=True)).response)
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


def test_a_forked_child_makes_a_client_of_its_own(other: OtherProcess) -> None:
    printed, errors, _ = outcome(FORKING.format(store=str(other.store)))
    assert printed == ["1", "2", "3"], errors
