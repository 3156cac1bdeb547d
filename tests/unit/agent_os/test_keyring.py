"""Keys that the notebook's process keeps in its session keyring cannot be read by the commands and agents that it starts."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import textwrap
from pathlib import Path

import pytest

from agentq_nb.agent_os.sandbox import isolation, process
from agentq_nb.agent_os.sandbox.confinement import _KEYCTL
from agentq_nb.agent_os.sandbox.open_process import open_process
from agentq_nb.agent_os.values import IsolationKind
from tests.requirements import missing
from tests.unit.agent_os.needs import need

KEYCTL = _KEYCTL.get(os.uname().machine, 0)
ADD_KEY = {"x86_64": 248}.get(os.uname().machine, 217)
SESSION, UNLINK, READ, SEARCH = -3, 9, 11, 10
NAME, SECRET = b"agentq-test-key", b"kept in the session keyring"

INSIDE = f"""
    import ctypes
    library = ctypes.CDLL(None, use_errno=True)
    held = ctypes.create_string_buffer(100)
    found = library.syscall({KEYCTL}, {SEARCH}, ctypes.c_int({SESSION}), b"user", {NAME!r}, 0)
    by_search = library.syscall({KEYCTL}, {READ}, found, held, ctypes.c_size_t(100)) if found > 0 else -1
    by_number = library.syscall({KEYCTL}, {READ}, NUMBER, held, ctypes.c_size_t(100))
    print(by_search, by_number, held.value, flush=True)
"""


@pytest.fixture
def key() -> int:
    """A key in the session keyring of this process, as a login keeps Kerberos tickets there."""
    library = ctypes.CDLL(None, use_errno=True)
    # A keyring of our own, so that the test leaves nothing in that of the machine.
    if library.syscall(KEYCTL, 1, None) < 0:
        missing(f"Keyrings cannot be tried here: {os.strerror(ctypes.get_errno())}. Allow the system call keyctl.")
    number: int = library.syscall(ADD_KEY, b"user", NAME, SECRET, ctypes.c_size_t(len(SECRET)), ctypes.c_int(SESSION))
    if number < 0:
        missing(f"Keyrings cannot be tried here: {os.strerror(ctypes.get_errno())}. Allow the system call add_key.")
    return number


def words(key: int) -> list[str]:
    return [sys.executable, "-I", "-c", textwrap.dedent(INSIDE).replace("NUMBER", str(key))]


def test_the_key_can_be_read_by_what_is_started_without_the_launcher(key: int) -> None:
    """So the other tests would notice."""
    import subprocess

    assert SECRET.decode() in subprocess.run(words(key), capture_output=True, text=True).stdout


@pytest.mark.parametrize("kind", ["none", "landlock", "bubblewrap"])
def test_a_command_cannot_read_it_by_name_or_number(kind: IsolationKind, key: int, tmp_path: Path) -> None:
    need(kind)
    result = asyncio.run(process.run(isolation.job(kind, tmp_path, (), words(key), {}), timeout=20))
    assert result.exit_code == 0, result
    assert result.stdout == "-1 -1 b''\n"


@pytest.mark.parametrize("kind", ["none", "landlock", "bubblewrap"])
def test_nor_can_an_agent(kind: IsolationKind, key: int, tmp_path: Path) -> None:
    need(kind)

    async def program() -> bytes:
        agent = await open_process(isolation.job(kind, tmp_path, (), words(key), {}))
        try:
            return await agent.output.readline()
        finally:
            await agent.aclose()

    assert asyncio.run(program()) == b"-1 -1 b''\n"
