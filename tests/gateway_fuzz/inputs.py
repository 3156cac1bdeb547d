"""What the fuzzer sends: noise, what resembles an encoding, and damaged requests and frames."""

from __future__ import annotations

import random
import struct
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st

from agentq_nb._gateway import cbor
from agentq_nb._gateway.bare_encoding import BareWriter
from agentq_nb._gateway.encodings import encoding_of
from tests.unit.gateway.websocket_client import masked

ENCODINGS = ("bare", "cbor", "json")

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
