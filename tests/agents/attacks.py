"""What a process in a VM may try against the machine, and how to see whether it got through."""

from __future__ import annotations

import ctypes
import os
import shlex
import socket
import subprocess
import textwrap
import threading
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from agentq_nb._core.runtime_files import secret_of
from agentq_nb._store.running_host import RunningHost, find_host
from agentq_nb.agent_os.sandbox import protections
from agentq_nb.agent_os.sandbox.workspace import root_folder
from tests.unit.agent_os.test_keyring import ADD_KEY, KEYCTL

MARK = "NOTEBOOK_MARK"
"""A variable that the process of the host was started with."""

CONTENT = "what the user keeps there"
"""Of every file that is attacked."""


class Place:
    """A folder with a VM's workspace in it, and around that what its processes should not get at."""

    def __init__(self, folder: Path, key: tuple[str, ...]) -> None:
        self.store = folder / "nb.agentq.duckdb"
        self.root = root_folder(folder / "nb.agentq", "vm", key)
        self.other_vm = root_folder(folder / "nb.agentq", "vm", ("another",))
        self.outside = folder / "outside"
        self.precious = self.outside / "precious"
        self.new = self.outside / "new"
        self.unique = uuid.uuid4().hex
        self.in_home = Path.home() / f".agentq-attacked-{self.unique}"
        self.in_tmp = Path("/tmp") / f"agentq-attacked-{self.unique}"
        self.port = 0
        self.iopub = 0
        self.named = 0
        """A port that is named in ``hosts``, where there are any."""
        self.datagrams = 0
        """A UDP port that answers."""
        self.visited = 0
        """A free port; another process connects to it as soon as something listens there."""
        self.token = f"token-of-a-session-{self.unique}"
        """A secret that a session was given."""
        self._exit = ExitStack()
        self._neighbour: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Place:
        self._exit.callback(self._clean)
        for folder in (self.outside, self.root, self.other_vm):
            folder.mkdir(parents=True)
        self.port = self._listen(socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1]
        self.named = self._listen(socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1]
        self.iopub = self._publish()
        self.datagrams = self._hear_datagrams()
        self.visited = self._visit()
        self._keep_a_key()
        self._listen(socket.AF_UNIX, f"\0{self.unique}")
        self._listen(socket.AF_UNIX, str(self.outside / "socket"))
        return self

    def __exit__(self, *ended: object) -> None:
        self._exit.close()

    @property
    def neighbour(self) -> subprocess.Popen[bytes]:
        """A process of the same user, with a mark in its environment and another in its command line."""
        assert self._neighbour is not None
        return self._neighbour

    def reset(self) -> None:
        """Make everything as it is before an attack."""
        for folder in (self.outside, self.root):
            for path in folder.iterdir():
                if path.is_file() or path.is_symlink():
                    path.unlink()
        (self.root / "link").symlink_to(self.outside)
        self.in_tmp.unlink(missing_ok=True)
        for path in (self.precious, self.in_home, self.other_vm / "file"):
            path.write_text(CONTENT)
            path.chmod(0o600)
        if self._neighbour is None or self._neighbour.poll() is not None:
            self._end_neighbour()
            words = ["/bin/sh", "-c", "read line", f"word-{self.unique}"]
            environment = {"TOKEN": f"token-{self.unique}"}
            self._neighbour = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def _listen(self, family: int, address: Any) -> socket.socket:
        server = socket.socket(family, socket.SOCK_STREAM)
        self._exit.callback(server.close)
        server.bind(address)
        server.listen()
        return server

    def _publish(self) -> int:
        """A socket like the kernel's iopub, on which a cell's output is told again and again; its port."""
        context = zmq.Context()
        iopub = context.socket(zmq.PUB)
        iopub.linger = 0
        port: int = iopub.bind_to_random_port("tcp://127.0.0.1")
        over = threading.Event()

        def publish() -> None:
            while not over.wait(0.02):
                iopub.send_multipart([b"stream", f"printed-{self.unique}".encode()])
            iopub.close()
            context.term()

        thread = threading.Thread(target=publish, daemon=True)
        thread.start()
        self._exit.callback(thread.join)
        self._exit.callback(over.set)
        return port

    def _hear_datagrams(self) -> int:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.02)

        def answer() -> None:
            with suppress(TimeoutError):
                server.sendto(b"heard", server.recvfrom(100)[1])

        self._exit.callback(server.close)
        self._repeat(answer)
        return server.getsockname()[1]

    def _visit(self) -> int:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]

        def visit() -> None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as line:
                line.sendall(b"visitor")

        self._repeat(visit)
        return port

    def _repeat(self, work: Callable[[], None]) -> None:
        """Do something again and again, until this ends."""
        over = threading.Event()

        def repeat() -> None:
            while not over.wait(0.02):
                work()

        thread = threading.Thread(target=repeat, daemon=True)
        thread.start()
        self._exit.callback(thread.join)
        self._exit.callback(over.set)

    def _keep_a_key(self) -> None:
        """Keep a key in the session keyring of this process, as a login keeps Kerberos tickets there."""
        held = f"key-{self.unique}".encode()
        library = ctypes.CDLL(None, use_errno=True)
        library.syscall(KEYCTL, 1, None)  # a keyring of our own, so that nothing is left in that of the machine
        library.syscall(ADD_KEY, b"user", b"agentq-attacked", held, ctypes.c_size_t(len(held)), ctypes.c_int(-3))

    def _clean(self) -> None:
        self.in_home.unlink(missing_ok=True)
        self.in_tmp.unlink(missing_ok=True)
        self._end_neighbour()

    def _end_neighbour(self) -> None:
        if self._neighbour is not None:
            self._neighbour.kill()
            self._neighbour.communicate()


GotThrough = Callable[[Place, str], bool]


@dataclass(frozen=True)
class Attack:
    """A shell command in one line, and whether it got through: seen on the machine afterwards, or in its output.

    ``about`` are the sentences of ``isolation()`` that speak of it: the first that is said there counts.
    """

    name: str
    about: tuple[str, ...]
    command: Callable[[Place], str]
    got_through: GotThrough
    everywhere: bool = False
    """Whether even the notebook's own process would find nothing."""


def shows(text: Callable[[Place], str]) -> GotThrough:
    return lambda at, output: text(at) in output


def shows_content(at: Place, output: str) -> bool:
    return CONTENT in output


def is_new(at: Place, output: str) -> bool:
    return at.new.exists()


def has_changed(at: Place, output: str) -> bool:
    return not at.precious.exists() or at.precious.read_text() != CONTENT


def was_killed(at: Place, output: str) -> bool:
    with suppress(subprocess.TimeoutExpired):
        at.neighbour.wait(0.5)
    return at.neighbour.poll() is not None


def shows_mark(at: Place, output: str) -> bool:
    return os.environ[MARK] in output


def succeeds(command: Callable[[Place], str]) -> tuple[Callable[[Place], str], GotThrough]:
    """For what leaves no trace: the command says so."""
    return lambda at: f"{command(at)} && echo got''through", shows(lambda at: "gotthrough")


def connects(family: str, address: str) -> str:
    code = f"import socket; socket.socket(socket.{family}).connect({address})"
    return f"python3 -c {shlex.quote(code)}"


def python(code: str) -> str:
    """A command in one line, however many the code has."""
    return f"python3 -c {shlex.quote(f'exec({textwrap.dedent(code)!r})')}"


def through_the_proxy(at: Place) -> str:
    """Asks the proxy for a way to a port of this machine, or goes there itself where there is no proxy."""
    return python(f"""
        import base64, os, socket, urllib.parse
        proxy = urllib.parse.urlsplit(os.environ.get("HTTP_PROXY", ""))
        to = (proxy.hostname, proxy.port) if proxy.hostname else ("127.0.0.1", {at.port})
        line = socket.create_connection(to)
        if proxy.hostname:
            words = base64.b64encode(f"{{proxy.username}}:{{proxy.password}}".encode())
            line.sendall(b"CONNECT 127.0.0.1:{at.port} HTTP/1.1\\r\\nProxy-Authorization: Basic " + words + b"\\r\\n\\r\\n")
            assert line.recv(100).split()[1] == b"200"
    """)


def sends_while_it_connects(at: Place) -> str:
    """TCP Fast Open: the connection is made by sending, which is no call of connect."""
    return python(f"""
        import socket
        line = socket.socket()
        assert line.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", {at.port})) == 1
    """)


def connects_by_mptcp(at: Place) -> str:
    """A protocol of its own, which becomes TCP where the other side knows nothing else."""
    return python(f"""
        import socket
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect(("127.0.0.1", {at.port}))
    """)


def sends_a_datagram(at: Place) -> str:
    return python(f"""
        import socket
        line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        line.settimeout(5)
        line.sendto(b"x", ("127.0.0.1", {at.datagrams}))
        assert line.recv(100) == b"heard"
    """)


def connects_elsewhere_at_the_port_of_the_proxy(at: Place) -> str:
    return python("""
        import os, socket, urllib.parse
        elsewhere = ("127.0.0.9", urllib.parse.urlsplit(os.environ["HTTP_PROXY"]).port)
        with socket.create_server(elsewhere):
            socket.create_connection(elsewhere)
    """)


def listens(at: Place) -> str:
    return python(f"""
        import socket
        with socket.create_server(("127.0.0.1", {at.visited})) as server:
            server.settimeout(5)
            assert server.accept()[0].recv(100) == b"visitor"
    """)


def subscribes(at: Place) -> str:
    """Subscribes to all that is published on a ZMQ socket, without a key and without ZMQ."""
    return python(f"""
        import socket
        line = socket.create_connection(("127.0.0.1", {at.iopub}), timeout=10)
        line.sendall(bytes([255, 0, 0, 0, 0, 0, 0, 0, 1, 127, 3, 0]) + b"NULL".ljust(20, bytes(1)) + bytes(32))
        greeting = b""
        while len(greeting) < 64:
            greeting += line.recv(64 - len(greeting)) or exit("it hung up")
        ready = bytes([5]) + b"READY" + bytes([11]) + b"Socket-Type" + bytes([0, 0, 0, 3]) + b"SUB"
        line.sendall(bytes([4, len(ready)]) + ready + bytes([0, 1, 1]))
        heard = b""
        while b"{at.unique}" not in heard:
            heard += line.recv(1000) or exit("it hung up")
        print(heard)
    """)


def reads_the_keyring(at: Place) -> str:
    return python(f"""
        import ctypes
        library, held = ctypes.CDLL(None), ctypes.create_string_buffer(100)
        found = library.syscall({KEYCTL}, 10, ctypes.c_int(-3), b"user", b"agentq-attacked", 0)
        library.syscall({KEYCTL}, 11, found, held, ctypes.c_size_t(100))
        print(held.value)
    """)


_ENVIRONMENTS_OF_ANCESTORS = (
    "process=$PPID; while [ ${process:-0} -gt 0 ]; do tr '\\0' '\\n' < /proc/$process/environ; "
    "process=$(grep PPid /proc/$process/status | tr -cd 0-9); done"
)


def host(at: Place) -> RunningHost:
    """The host of the VM that is attacked from."""
    found = find_host(at.store)
    assert found is not None
    return found


_WRITING = (protections.WRITING, protections.ANYTHING)
_READING = (protections.SEEING, protections.READING, protections.ANYTHING)
_MEMORY = (protections.PROCESSES, protections.MEMORY_OF_OTHERS, protections.ANYTHING)
_SIGNALS = (protections.SIGNALS, protections.SIGNALS_ON_OLD_LINUX, protections.PROCESSES, protections.ANYTHING)
_ABSTRACT = (
    protections.NO_ABSTRACT_SOCKETS,
    protections.SIGNALS,
    protections.SIGNALS_ON_OLD_LINUX,
    protections.ABSTRACT_SOCKETS,
    protections.ANYTHING,
)
_LISTENERS = (
    protections.ONLY_PUBLIC_HOSTS,
    protections.ONLY_MODELS,
    protections.ONLY_TOOLS,
    protections.NETWORK,
    protections.ANYTHING,
)
_ATTRIBUTES = (protections.ATTRIBUTES, *_WRITING)
_TRUNCATING = (protections.TRUNCATING, *_WRITING)

NETWORK_ATTACKS = [
    Attack("secrets in command lines", (protections.COMMAND_LINES,), lambda at: "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'",
           shows(lambda at: at.token), everywhere=True),
    Attack("the kernel's session keyring", (protections.KEYRING,), reads_the_keyring, shows(lambda at: f"key-{at.unique}")),
    Attack("a listener on loopback", _LISTENERS,
           *succeeds(lambda at: connects("AF_INET", f"('127.0.0.1', {at.port})"))),
    Attack("a listener, through the proxy", _LISTENERS, *succeeds(through_the_proxy)),
    Attack("send to a host that was named", (protections.TO_PUBLIC_HOSTS, protections.TO_MODELS, *_LISTENERS),
           *succeeds(lambda at: connects("AF_INET", f"('127.0.0.1', {at.named})"))),
    Attack("a listener, by TCP Fast Open", _LISTENERS, *succeeds(sends_while_it_connects)),
    Attack("a listener, by MPTCP", _LISTENERS, *succeeds(connects_by_mptcp)),
    Attack("a listener, by UDP", _LISTENERS, *succeeds(sends_a_datagram)),
    Attack("a listener, at another address", _LISTENERS,
           *succeeds(lambda at: connects("AF_INET6", f"('::ffff:127.0.0.1', {at.port})"))),
    Attack("iopub without a key", _LISTENERS, subscribes, shows(lambda at: f"printed-{at.unique}")),
    Attack("an abstract socket", _ABSTRACT, *succeeds(lambda at: connects("AF_UNIX", f"chr(0) + '{at.unique}'"))),
    Attack("a socket file", (protections.SOCKET_FILES, *_READING),
           *succeeds(lambda at: connects("AF_UNIX", f"'{at.outside}/socket'"))),
]  # fmt: skip
"""What has to do with the network, or with what is found beside it."""

PORT_ATTACKS = [
    Attack("elsewhere, at the proxy's port", (protections.SAME_PORT,),
           *succeeds(connects_elsewhere_at_the_port_of_the_proxy)),
    Attack("listen for others", (protections.LISTENING,), *succeeds(listens)),
]  # fmt: skip
"""What Landlock's rules for ports leave open."""

ATTACKS = [
    Attack("the secret of the host's socket", (protections.HOST_SOCKET, *_READING), lambda at: f"cat {secret_of(host(at).socket)}",
           shows(lambda at: host(at).secret)),
    Attack("write by absolute path", _WRITING, lambda at: f"echo x > {at.new}", is_new),
    Attack("write by ..", _WRITING, lambda at: "echo x > ../../../outside/new", is_new),
    Attack("write by a link", _WRITING, lambda at: "echo x > link/new", is_new),
    Attack("write by a new link", _WRITING, lambda at: f"ln -s {at.outside} fresh; echo x > fresh/new", is_new),
    Attack("write by /proc", _WRITING, lambda at: f"echo x > /proc/self/root{at.new}", is_new),
    Attack("overwrite", _WRITING, lambda at: f"echo x > {at.precious}", has_changed),
    Attack("append", _WRITING, lambda at: f"echo x >> {at.precious}", has_changed),
    Attack("truncate", _TRUNCATING, lambda at: f"truncate -s 0 {at.precious}", has_changed),
    Attack("delete", _WRITING, lambda at: f"rm -f {at.precious}", has_changed),
    Attack("rename", _WRITING, lambda at: f"mv {at.precious} {at.precious}2", has_changed),
    Attack("move into the workspace", _WRITING, lambda at: f"mv {at.precious} moved", has_changed),
    Attack("write by a hard link", _WRITING, lambda at: f"ln {at.precious} hard && echo x > hard", has_changed),
    Attack("change who may read", _ATTRIBUTES, lambda at: f"chmod 644 {at.precious}",
           lambda at, output: at.precious.stat().st_mode & 0o077 != 0),
    Attack("change a time", _ATTRIBUTES, lambda at: f"touch -d 2001-01-01 {at.precious}",
           lambda at, output: at.precious.stat().st_mtime < 1e9),
    Attack("write to another VM", _WRITING, lambda at: f"echo x > {at.other_vm}/file",
           lambda at, output: (at.other_vm / "file").read_text() != CONTENT),
    Attack("write to the home folder", _WRITING, lambda at: f"echo x > {at.in_home}",
           lambda at, output: at.in_home.read_text() != CONTENT),
    Attack("write to the store", _WRITING, *succeeds(lambda at: f"(: >> {at.store})")),
    Attack("write to the guard", _WRITING, *succeeds(lambda at: f"(: >> {at.store}.guard)")),
    Attack("write to /tmp", (protections.PRIVATE_TMP, *_WRITING), lambda at: f"echo x > {at.in_tmp}",
           lambda at, output: at.in_tmp.exists()),
    Attack("read by absolute path", _READING, lambda at: f"cat {at.precious}", shows_content),
    Attack("read by ..", _READING, lambda at: "cat ../../../outside/precious", shows_content),
    Attack("read by a link", _READING, lambda at: "cat link/precious", shows_content),
    Attack("read by a hard link", _READING, lambda at: f"ln {at.precious} hard && cat hard", shows_content),
    Attack("read by /proc", _READING, lambda at: f"cat /proc/self/root{at.precious}", shows_content),
    Attack("read by /proc of the kernel", _READING, lambda at: f"cat /proc/{os.getpid()}/root{at.precious}", shows_content),
    Attack("read the home folder", _READING, lambda at: f"cat {at.in_home}", shows_content),
    Attack("list the home folder", _READING, lambda at: f"ls -A {at.in_home.parent}", shows(lambda at: at.in_home.name)),
    Attack("read another VM", _READING, lambda at: f"cat {at.other_vm}/file", shows_content),
    Attack("read the store", _READING, lambda at: f"head -c 12 {at.store}", shows(lambda at: "DUCK")),
    Attack("see whether a file exists", (protections.ATTRIBUTES, *_READING), *succeeds(lambda at: f"test -e {at.precious}")),
    Attack("read a system file", (protections.SYSTEM_FILES, protections.ANYTHING), lambda at: "cat /etc/passwd",
           shows(lambda at: "root:")),
    Attack("own environment", (protections.GIVEN_ENVIRONMENT,), lambda at: "env; tr '\\0' '\\n' < /proc/self/environ",
           shows_mark),
    Attack("environment of the kernel", _MEMORY, lambda at: f"tr '\\0' '\\n' < /proc/{os.getpid()}/environ", shows_mark),
    Attack("environments of its ancestors", _MEMORY, lambda at: _ENVIRONMENTS_OF_ANCESTORS, shows_mark),
    Attack("environment of a neighbour", _MEMORY, lambda at: f"tr '\\0' '\\n' < /proc/{at.neighbour.pid}/environ",
           shows(lambda at: f"token-{at.unique}")),
    Attack("all environments", _MEMORY, lambda at: "cat /proc/[0-9]*/environ | tr '\\0' '\\n'",
           shows(lambda at: f"token-{at.unique}")),
    Attack("memory of a neighbour", _MEMORY, lambda at: f"cat /proc/{at.neighbour.pid}/maps", shows(lambda at: "[stack]")),
    Attack("open files of the kernel", _MEMORY, lambda at: f"ls -l /proc/{os.getpid()}/fd",
           shows(lambda at: str(at.store))),
    Attack("list processes", (protections.PROCESS_LIST, protections.PROCESSES, protections.ANYTHING),
           lambda at: "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'", shows(lambda at: f"word-{at.unique}")),
    Attack("signal the kernel", _SIGNALS, *succeeds(lambda at: f"kill -CONT {os.getpid()}")),
    Attack("kill a neighbour", _SIGNALS, lambda at: f"kill -9 {at.neighbour.pid}", was_killed),
    Attack("200 MB of memory and 20 of disk", (protections.RESOURCES,),
           *succeeds(lambda at: "python3 -c 'bytes(200 << 20)' && head -c 20000000 /dev/zero > big")),
    *NETWORK_ATTACKS,
]  # fmt: skip
"""By ``exec`` and by agents."""


@dataclass(frozen=True)
class FileAttack:
    """The same by file actions: a call, which may raise, and gives what was read."""

    name: str
    call: Callable[[Any, Place], Any]
    got_through: GotThrough


FILE_ATTACKS = [
    FileAttack("write by absolute path", lambda vm, at: vm.write_file(str(at.new), "x"), is_new),
    FileAttack("write by ..", lambda vm, at: vm.write_file("../../../outside/new", "x"), is_new),
    FileAttack("write by .. in /home/user", lambda vm, at: vm.write_file(f"/home/user/../..{at.new}", "x"), is_new),
    FileAttack("write by a link", lambda vm, at: vm.write_file("link/new", "x"), is_new),
    FileAttack("overwrite by a link", lambda vm, at: vm.write_file("link/precious", "x"), has_changed),
    FileAttack("make a folder by a link", lambda vm, at: vm.make_dir("link/new"), is_new),
    FileAttack("delete by a link", lambda vm, at: vm.delete("link/precious"), has_changed),
    FileAttack("delete a folder by a link", lambda vm, at: vm.delete("link/.", recursive=True), has_changed),
    FileAttack("move out", lambda vm, at: vm.move("own", "link/new"), is_new),
    FileAttack("move in", lambda vm, at: vm.move("link/precious", "moved"), has_changed),
    FileAttack("write to another VM", lambda vm, at: vm.write_file(f"../{at.other_vm.name}/file", "x"),
               lambda at, output: (at.other_vm / "file").read_text() != CONTENT),
    FileAttack("read by absolute path", lambda vm, at: vm.read_file(str(at.precious)), shows_content),
    FileAttack("read by ..", lambda vm, at: vm.read_file("../../../outside/precious"), shows_content),
    FileAttack("read by a link", lambda vm, at: vm.read_file("link/precious"), shows_content),
    FileAttack("read another VM", lambda vm, at: vm.read_file(f"../{at.other_vm.name}/file"), shows_content),
    FileAttack("read the home folder", lambda vm, at: vm.read_file(str(at.in_home)), shows_content),
    FileAttack("read the store", lambda vm, at: vm.read_file("../../../nb.agentq.duckdb"), shows(lambda at: "DUCK")),
    FileAttack("list by a link", lambda vm, at: vm.list_dir("link"), shows(lambda at: "precious")),
    FileAttack("look at by a link", lambda vm, at: vm.stat("link/precious"), shows(lambda at: "size")),
    FileAttack("environment of the kernel", lambda vm, at: vm.read_file("environment"), shows_mark),
    FileAttack("work in a folder by a link", lambda vm, at: vm.exec("pwd", cwd="link"), shows(lambda at: "outside")),
]  # fmt: skip
"""In the workspace there are a file ``own``, ``link`` to the outside, and ``environment``, a link into /proc."""
