"""Landlock's rules for ports with what closes their gaps: no other way of connecting leads past them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import agent_os
from tests.unit.agent_os.machine import Machine
from tests.unit.agent_os.needs import use_ports
from tests.unit.agent_os.test_network_of_a_vm import server
from tests.unit.agent_os.test_ports_of_a_vm import python


@pytest.fixture(autouse=True)
def _only_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    use_ports(monkeypatch)


ATTEMPTS = """
    import ctypes, os, socket, sys, threading
    port, port6 = map(int, sys.argv[1:])
    to, library = ("127.0.0.1", port), ctypes.CDLL(None, use_errno=True)

    def connect(family, kind, protocol, address):
        socket.socket(family, kind, protocol).connect(address)

    def bind_first():
        line = socket.socket()
        line.bind(("127.0.0.1", 0))
        line.connect(to)

    def send_while_connecting(call):
        line = socket.socket()
        call(line)

    def connect_by_option():
        line = socket.socket()
        line.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
        line.connect(to)
        line.send(b"x")

    def become_another_protocol():
        socket.socket().setsockopt(socket.IPPROTO_TCP, 31, b"tls")

    def call(number, *words):
        if library.syscall(number, *words) < 0:
            raise OSError(ctypes.get_errno(), "refused")

    def in_a_child(attempt):
        child = os.fork()
        if not child:
            os.setsid()
            try:
                attempt()
            except OSError:
                os._exit(1)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise OSError("refused")

    def in_a_thread(attempt):
        done = []
        thread = threading.Thread(target=lambda: done.append(attempt()))
        threading.excepthook = lambda raised: None
        thread.start()
        thread.join()
        if not done:
            raise OSError("refused")

    def straight():
        socket.create_connection(to)

    attempts = {
        "TCP": straight,
        "TCP over IPv6": lambda: connect(socket.AF_INET6, socket.SOCK_STREAM, 0, ("::1", port6)),
        "an address mapped to IPv6": lambda: connect(socket.AF_INET6, socket.SOCK_STREAM, 0, ("::ffff:127.0.0.1", port)),
        "any address": lambda: connect(socket.AF_INET, socket.SOCK_STREAM, 0, ("0.0.0.0", port)),
        "bound before": bind_first,
        "TCP Fast Open by sendto": lambda: socket.socket().sendto(b"x", socket.MSG_FASTOPEN, to),
        "TCP Fast Open by sendmsg": lambda: socket.socket().sendmsg([b"x"], [], socket.MSG_FASTOPEN, to),
        "TCP Fast Open by option": connect_by_option,
        "MPTCP": lambda: connect(socket.AF_INET, socket.SOCK_STREAM, 262, to),
        "SMC": lambda: socket.socket(43, socket.SOCK_STREAM, 0),
        "SCTP": lambda: socket.socket(socket.AF_INET, socket.SOCK_SEQPACKET, 132),
        "another protocol over TCP": become_another_protocol,
        "UDP": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "UDP over IPv6": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC),
        "raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 255),
        "ping": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
        "packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "virtual machines": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
        "io_uring": lambda: call(425, 8, ctypes.create_string_buffer(120)),
        "higher half of an argument": lambda: call(SOCKET, ctypes.c_long(socket.AF_INET | 1 << 32), ctypes.c_long(2), 0),
        "a child": lambda: in_a_child(straight),
        "UDP in a child": lambda: in_a_child(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
        "a thread": lambda: in_a_thread(straight),
        "a new network": lambda: call(UNSHARE, 0x50000000) or straight(),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
        except OSError:
            print("refused:", name)
        else:
            print("got through:", name)
"""
SYSTEM_CALLS = "\n    SOCKET, UNSHARE = {}, {}".format(*{"x86_64": (41, 272)}.get(os.uname().machine, (198, 97)))


def attempted(run: Any) -> dict[str, str]:
    """How each attempt to reach a listening port ended."""
    with server() as port, socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
        said = run(python(SYSTEM_CALLS + ATTEMPTS, port, six.getsockname()[1]))
    return {name: end for end, _, name in (line.partition(": ") for line in said.splitlines())}


def test_no_other_way_leads_to_a_port(tmp_path: Path) -> None:
    async def program(words: list[str]) -> str:
        async with Machine(agent_os(network="none"), tmp_path) as vm:
            result = await vm.exec(words)
            assert result.exit_code == 0, result
            return result.stdout

    def outside(words: list[str]) -> str:
        words[0] = sys.executable
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    inside = attempted(lambda words: asyncio.run(program(words)))
    assert {name for name, end in inside.items() if end != "refused"} == set()
    # The attempts are real: without isolation they succeed, but for what this machine does not have.
    harmless = {name for name, end in attempted(outside).items() if end == "refused"}
    assert harmless <= {"SMC", "SCTP", "another protocol over TCP", "ping", "virtual machines", "a new network"}


def test_programs_of_another_architecture_are_killed(tmp_path: Path) -> None:
    """Their system calls have other numbers, which would pass."""
    if os.uname().machine != "x86_64":
        pytest.skip("The machine code in this test is that of x86_64.")
    code = """
        import ctypes, mmap
        # mov eax, 20 (getpid of 32 bits); int 0x80; ret
        held = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        held.write(bytes.fromhex("b814000000cd80c3"))
        call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(held)))
        print("process", call())
    """
    if not subprocess.run(python(code), capture_output=True).stdout.startswith(b"process"):
        pytest.skip("This machine runs no programs of 32 bits.")

    async def program() -> Any:
        async with Machine(agent_os(), tmp_path) as vm:
            return await vm.exec(python(code))

    result = asyncio.run(program())
    assert (result.exit_code, result.stdout) == (128 + 31, "")  # SIGSYS


def test_what_needs_no_network_works(tmp_path: Path) -> None:
    code = """
        import socket, subprocess
        one, other = socket.socketpair()
        one.sendmsg([b"x"])
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket")
            server.listen()
            socket.socket(socket.AF_UNIX).connect("socket")
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
        socket.if_nameindex()
        print(other.recv(1), subprocess.check_output(["echo", "y"]))
    """

    async def program() -> Any:
        async with Machine(agent_os(network="none"), tmp_path) as vm:
            return await vm.exec(python(code))

    result = asyncio.run(program())
    assert result.stdout == "b'x' b'y\\n'\n", result
