"""Gives the inputs to the decoders and to a server, and notes what they did with them."""

from __future__ import annotations

import socket
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from agentq_nb._gateway.encodings import encoding_of
from agentq_nb.errors import BadRequest
from tests.gateway_fuzz.inputs import ENCODINGS, FRAME, UNFRAMED, inputs
from tests.gateway_fuzz.server import MAIN, Client, gone, own_size, serving
from tests.unit.gateway.websocket_client import masked

SLOWEST = 2.0
"""Seconds of processor time that reading one input may take."""

GROWTH = 50 * 1024 * 1024
"""Bytes by which the server's process may grow while it gets the second half of its inputs."""

_REPLAYED = 300


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

    def note_size(self, size: int) -> None:
        """Note how much memory a process has."""
        self.sizes.append(size)

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


def _replay(kept: list[bytes], readers: tuple[Callable[[bytes], Any], ...]) -> None:
    """Read the same inputs again and again: what remains then is the decoders', and not the fuzzer's."""
    sizes = Findings()
    for round_ in range(10):
        for written in kept:
            for read in readers:
                with suppress(BadRequest):
                    read(written)
        if round_ in (1, 9):
            sizes.note_size(own_size())
    assert sizes.growth < GROWTH // 4, f"the decoders keep {sizes.growth >> 20} MiB"


def fuzz_http(findings: Findings, client: Client, count: int, seeded: int) -> None:
    """Send bytes as bodies of requests."""
    client.renew()
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
    findings.note_size(client.server_size())


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
    findings.note_size(client.server_size())


def fuzz(count: int, seeded: int = 0) -> Findings:
    """Run ``count`` inputs: eight in ten to the decoders, one over HTTP, one over WebSockets."""
    findings = Findings()
    fuzz_decoders(findings, count * 8 // 10, seeded)
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as client:
        fuzz_http(findings, client, count // 20, seeded + 1)
        fuzz_websockets(findings, client, count // 20, seeded + 2)
        findings.sizes = [client.server_size()]
        fuzz_http(findings, client, count // 20, seeded + 3)
        fuzz_websockets(findings, client, count // 20, seeded + 4)
        assert findings.growth < GROWTH, f"the server took {findings.growth >> 20} MiB more"
    return findings
