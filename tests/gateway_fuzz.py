"""Throw bytes at the gateway: at its decoders, at a real server's HTTP, and at its WebSockets, frame by frame.

    python -m tests.gateway_fuzz --inputs 100000 [--seed 1]

Nothing may be answered with 500, hang, be logged as an error, or make memory grow. Prints how many inputs there were.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import random
import socket
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from agentq_nb import Actor, Queue, Registry, action, setup
from agentq_nb._gateway import cbor
from agentq_nb._gateway.bare import BareWriter
from agentq_nb._gateway.encodings import encoding_of
from agentq_nb.errors import BadRequest
from tests.unit.gateway.websocket_client import masked

TOKEN = "a-token-for-the-fuzzer"
PATIENCE = 10.0
"""Seconds after which an answer that has not come is a hang."""

SLOWEST = 2.0
"""Seconds of processor time that reading one input may take."""

GROWTH = 100 * 1024 * 1024
"""Bytes by which the process may grow while the server gets its second half of inputs, the fuzzer's own included."""

ENCODINGS = ("bare", "cbor", "json")
MAIN = "rvt-method=getOrCreate&rvt-key=main"


class Target(Actor, sleep_timeout=None):
    """Stores at most one message, whatever is sent to it."""

    numbers = Queue(int, max_size=1)
    anything = Queue(Any, max_size=1)

    @action
    async def echo(self, value: Any = None) -> Any:
        return value


# --- inputs -----------------------------------------------------------------------------------------------------------

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TAGGED = st.tuples(
    st.sampled_from(("$Undefined", "$BigInt", "$Uint8Array", "$ArrayBuffer", "$Set", "$$x", "$Other", "$")),
    st.sampled_from((0, None, "1", "-12", "AAAA", "*", [1, 1], [[], {}], {})),
).map(list)

HEAD = st.builds(
    lambda major, low, argument: bytes((major << 5 | low,)) + argument[: {24: 1, 25: 2, 26: 4, 27: 8}.get(low, 0)],
    st.integers(0, 7),
    st.integers(0, 31),
    st.binary(min_size=8, max_size=8)
    | st.sampled_from((b"\0" * 8, b"\xff" * 8, b"\0\0\0\0\0\0\0\x01", b"\x7f" + b"\xff" * 7)),
)
"""The beginning of a CBOR value, with any type and any length."""

CBOR_LIKE = st.lists(HEAD | st.binary(max_size=4), max_size=30).map(b"".join)
DEEP = st.builds(
    lambda opening, depth, inner, closing: opening * depth + inner + closing * depth,
    st.sampled_from(
        (b"\x81", b"\xa1\x61a", b"\xc6", b"\xd8\x1c\x81", b"\x9f", b"\xd9\x01\x02\x81", b"[", b'{"a":', b'["$Set",')
    ),
    st.sampled_from((50, 99, 101, 500, 1000, 5000, 200_000)),
    st.sampled_from((b"\x01", b"1", b"")),
    st.sampled_from((b"", b"]", b"}", b"\xff")),
)
RAW = st.binary(max_size=300) | CBOR_LIKE | DEEP


def _written(encoding: str, values: tuple[Any, Any, Any]) -> bytes:
    """Return a request as a client may write it, from three arbitrary values."""
    first, second, third = values
    writer = encoding_of(encoding)
    if encoding != "bare":
        with suppress(Exception):  # some values have no form in this encoding
            shape: Any = random.Random(repr(first)).choice(
                (
                    {"body": first, "wait": second, "timeout": third, "name": second},
                    {"args": [first, second]},
                    {"args": first},
                    {"body": {"tag": "ActionRequest", "val": {"id": 1, "name": "echo", "args": [first]}}},
                    {"body": {"tag": "ActionRequest", "val": {"id": second, "name": third, "args": first}}},
                    {"body": {"tag": "SubscriptionRequest", "val": {"eventName": second, "subscribe": third}}},
                )
            )
            return writer.write(shape)  # type: ignore[attr-defined]  # of the two that write objects
        return b""
    item = _cbor_of(first)
    prefix = BareWriter().u8(0).uint(3).str("echo").data(item).encoded
    send = BareWriter().data(item).optional_data(None).u8(1).u8(bool(second)).u8(0).encoded
    return random.Random(repr(first)).choice((prefix, send, BareWriter().data(_cbor_of([first])).encoded))


def _cbor_of(value: Any) -> bytes:
    try:
        return cbor.encode(value)
    except Exception:  # an integer that is too large, which ``plain`` would have tagged
        return b"\x80"


def _mutated(written: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Return the bytes after each change: at a place, so many are replaced by others."""
    for place, length, put in changes:
        at = place % (len(written) + 1)
        written = written[:at] + put + written[at + length :]
    return written


CHANGES = st.just(list[tuple[int, int, bytes]]()) | st.lists(
    st.tuples(st.integers(0, 500), st.integers(0, 3), st.binary(max_size=4)), max_size=4
)


def inputs(encoding: str) -> st.SearchStrategy[bytes]:
    """Return bytes as the fuzzer sends them: noise, what resembles the encoding, and damaged requests."""
    values = st.tuples(ANYTHING | TAGGED, ANYTHING, ANYTHING)
    requests = st.builds(_mutated, values.map(lambda three: _written(encoding, three)), CHANGES)
    prefix = b"\x04\x00" if encoding == "bare" else b""
    framed = st.builds(
        lambda item, rest: b"\x04\x00" + BareWriter().data(item).encoded[2:] + rest, CBOR_LIKE, st.binary(max_size=20)
    )
    return requests | requests | RAW | RAW.map(lambda raw: prefix + raw) | (framed if encoding == "bare" else requests)


# --- running ----------------------------------------------------------------------------------------------------------


@dataclass
class Findings:
    """What a run has shown."""

    counts: Counter[str] = field(default_factory=Counter[str])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    slowest: float = 0.0
    sizes: list[int] = field(default_factory=list[int])

    def count(self, part: str, outcome: str) -> None:
        self.counts[part] += 1
        self.outcomes[f"{part}: {outcome}"] += 1

    def note_size(self) -> None:
        """Note how much memory the process has."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.sizes.append(pages * os.sysconf("SC_PAGE_SIZE"))

    @property
    def growth(self) -> int:
        return max(0, self.sizes[-1] - self.sizes[0]) if self.sizes else 0

    def __str__(self) -> str:
        lines = [f"{count:>9,} inputs: {part}" for part, count in self.counts.items()]
        lines += [f"          {count:>9,} {outcome}" for outcome, count in sorted(self.outcomes.items())]
        lines.append(
            f"{self.counts.total():>9,} inputs in all; slowest {self.slowest:.3f} s; the server's memory +{self.growth >> 20} MiB"
        )
        return "\n".join(lines)


def drive(count: int, seeded: int, strategy: st.SearchStrategy[Any], check: Callable[[Any], None]) -> None:
    """Give ``check`` so many inputs. Raises what it raises, for the smallest input that shows it."""
    if count <= 0:
        return
    done = 0
    while done < count:  # Hypothesis stops early where it has tried all there is
        some = min(count - done, 10_000)
        before = done

        @seed(seeded + done)
        @settings(
            max_examples=some,
            report_multiple_bugs=False,
            database=None,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        @given(strategy)
        def run(given_input: Any) -> None:
            nonlocal done
            done += 1
            check(given_input)

        run()
        if done == before:
            return


def fuzz_decoders(findings: Findings, count: int, seeded: int) -> None:
    """Give bytes to everything that reads a request or a frame."""
    for number, name in enumerate(ENCODINGS):
        encoding = encoding_of(name)
        readers = (encoding.read_send, encoding.read_action, encoding.read_frame)
        kept: list[bytes] = []

        def check(written: bytes, name: str = name, readers: Any = readers, kept: list[bytes] = kept) -> None:
            begun = time.process_time()
            outcome = "refused"
            for read in readers:
                with suppress(BadRequest):
                    read(written)
                    outcome = "read"
            taken = time.process_time() - begun
            findings.slowest = max(findings.slowest, taken)
            assert taken < SLOWEST, f"{taken:.1f} s for {len(written)} bytes"
            findings.count(f"decoder {name}", outcome)
            if len(kept) < _REPLAYED:
                kept.append(written)

        drive(count // 3, seeded + number, inputs(name), check)
        _replay(kept, readers)


@contextmanager
def gone() -> Generator[None]:
    """Let the server have closed the connection, but not have gone silent."""
    try:
        yield
    except TimeoutError:
        raise
    except OSError:
        pass


_REPLAYED = 300


def _replay(kept: list[bytes], readers: tuple[Callable[[bytes], Any], ...]) -> None:
    """Read the same inputs again and again: what remains then is the decoders', and not the fuzzer's."""
    sizes = Findings()
    for round_ in range(10):
        for written in kept:
            for read in readers:
                with suppress(BadRequest):
                    read(written)
        if round_ in (1, 9):
            sizes.note_size()
    assert sizes.growth < GROWTH // 4, f"the decoders keep {sizes.growth >> 20} MiB"


class Client:
    """Talks to one server over raw sockets."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 0)
        self._host = parts.netloc
        self._kept: socket.socket | None = None

    def connect(self) -> socket.socket:
        made = socket.create_connection(self._address, timeout=PATIENCE)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def post(self, path: str, encoding: str, body: bytes) -> int:
        """Send one request, on a connection that is kept, and return the status."""
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self._host}\r\nx-rivet-token: {TOKEN}\r\nx-rivet-encoding: {encoding}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        connection = self._kept or self.connect()
        self._kept = connection
        with gone():  # it may have answered already
            connection.sendall(head.encode() + body)
        answer = connection.makefile("rb")
        first = answer.readline()
        length = 0
        while (line := answer.readline().strip().lower()) not in (b"",):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
            if line == b"connection: close":
                self._kept = None
        answer.read(length)
        return int(first.split()[1])

    def health(self) -> int:
        connection = self.connect()
        with connection:
            connection.sendall(f"GET /health HTTP/1.1\r\nhost: {self._host}\r\n\r\n".encode())
            return int(connection.recv(4096).split()[1])

    def websocket(self, encoding: str) -> socket.socket:
        """Open a WebSocket and return its socket, once the server has let it in."""
        connection = self.connect()
        connection.sendall(
            f"GET /gateway/target/connect?{MAIN} HTTP/1.1\r\nhost: {self._host}\r\nconnection: Upgrade\r\n"
            f"upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"sec-websocket-protocol: rivet, rivet_encoding.{encoding}, rivet_token.{TOKEN}\r\n\r\n".encode()
        )
        got = b""
        while b"\r\n\r\n" not in got:
            got += connection.recv(4096)
        assert got.startswith(b"HTTP/1.1 101"), got
        return connection


def fuzz_http(findings: Findings, client: Client, count: int, seeded: int) -> None:
    """Send bytes as bodies of requests."""
    paths = st.sampled_from(("queue/numbers", "queue/anything", "action/echo"))
    for number, encoding in enumerate(ENCODINGS):

        def check(given_input: tuple[str, bytes], encoding: str = encoding) -> None:
            what, body = given_input
            begun = time.monotonic()
            status = client.post(f"/gateway/target/{what}?{MAIN}", encoding, body)
            findings.slowest = max(findings.slowest, time.monotonic() - begun)
            assert status in (200, 400, 413), status
            findings.count(f"http {encoding}", str(status))

        drive(count // 3, seeded + number, st.tuples(paths, inputs(encoding)), check)
    findings.note_size()


FRAME = st.builds(
    lambda payload, opcode, final: masked(payload, opcode, final=final),
    st.one_of(*(inputs(encoding) for encoding in ENCODINGS)),
    st.sampled_from((0, 1, 2, 2, 2, 8, 9, 10, 3, 15)),
    st.booleans() | st.just(True),
)
"""Frames with a right head, mostly: their opcodes may be unknown, their parts may belong to nothing."""

UNFRAMED = st.binary(max_size=40) | st.builds(
    lambda first, length, rest: bytes((first,)) + struct.pack(">BQ", 0xFF, length) + rest,
    st.integers(0, 255),
    st.sampled_from((0, 200, 2**32, 2**63 - 1, 2**64 - 1)),
    st.binary(max_size=20),
)
"""What is no frame, or announces one of a length that never comes."""


def fuzz_websockets(findings: Findings, client: Client, count: int, seeded: int) -> None:
    """Send frames, and what is none, over a WebSocket each time."""

    def check(given_input: tuple[str, list[bytes]]) -> None:
        encoding, frames = given_input
        with client.websocket(encoding) as connection:
            outcome = "closed by the server"
            with gone():
                connection.sendall(b"".join(frames) + masked(struct.pack(">H", 1000), 8))
                connection.shutdown(socket.SHUT_WR)  # a frame that announces more than there is would be waited for
                while received := connection.recv(65536):
                    if received.endswith(b"\x88\x02\x03\xe8"):
                        outcome = "understood to its end"
            findings.count(f"websocket {encoding}", outcome)

    part = st.lists(FRAME, min_size=1, max_size=4) | st.lists(FRAME | UNFRAMED, min_size=1, max_size=4)
    drive(count, seeded, st.tuples(st.sampled_from(ENCODINGS), part), check)
    findings.note_size()


class NoErrors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


@contextmanager
def serving(folder: Path) -> Generator[Client]:
    """A host on a thread of its own, with a server. Raises AssertionError if it logs an error."""
    registry: Registry = setup(use={"target": Target}, store=folder / "fuzz.duckdb", background=True)
    errors = NoErrors()
    loggers = [logging.getLogger(name) for name in ("agentq", "tornado", "asyncio")]
    for logger in loggers:
        logger.addHandler(errors)
    asyncio.run(registry.start())
    try:
        server = asyncio.run(registry.serve(port=0, token=TOKEN))
        client = Client(server.url)
        yield client
        assert client.health() == 200
    finally:
        asyncio.run(registry.stop())
        for logger in loggers:
            logger.removeHandler(errors)
    assert not errors.records, errors.records[:3]


def fuzz(count: int, seeded: int = 0) -> Findings:
    """Run ``count`` inputs: eight in ten to the decoders, one over HTTP, one over WebSockets."""
    findings = Findings()
    fuzz_decoders(findings, count * 8 // 10, seeded)
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as client:
        fuzz_http(findings, client, count // 20, seeded + 1)
        of_server = Findings(sizes=findings.sizes[-1:])
        fuzz_http(findings, client, count // 20, seeded + 2)
        fuzz_websockets(findings, client, count // 20, seeded + 3)
        fuzz_websockets(findings, client, count // 20, seeded + 4)
        of_server.note_size()
        assert of_server.growth < GROWTH, f"the server took {of_server.growth >> 20} MiB more"
        findings.sizes = of_server.sizes
    return findings


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gateway_fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    try:
        print(fuzz(arguments.inputs, arguments.seed))
    except Exception as error:
        error.__notes__ = [note[:2000] for note in getattr(error, "__notes__", [])]  # the input may be long
        raise


if __name__ == "__main__":
    main()
