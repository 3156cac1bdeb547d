"""The bytes of RivetKit's protocol, as its client sends and expects them."""

from __future__ import annotations

import math
import time
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq_nb._core.tagged_values import as_json, plain, read_json, revived
from agentq_nb._gateway import cbor
from agentq_nb._gateway.encodings import ActionRequest, Missing, QueueSend, Subscription, WireError, encoding_of
from agentq_nb.errors import BadRequest, ValidationFailed

BARE, CBOR, JSON = encoding_of("bare"), encoding_of("cbor"), encoding_of("json")

SEND = "04 00 0b b9 00 01 66 616d6f756e74 01 01 09 696e6372656d656e74 01 00 00"
SEND_AND_WAIT = "04 00 0b b9 00 01 66 616d6f756e74 05 01 09 696e6372656d656e74 01 01 01 88 13 00 00 00 00 00 00"


def test_a_send_is_read_as_the_client_writes_it() -> None:
    assert BARE.read_send(bytes.fromhex(SEND)) == QueueSend({"amount": 1}, False, None)
    assert BARE.read_send(bytes.fromhex(SEND_AND_WAIT)) == QueueSend({"amount": 5}, True, 5.0)
    written = b'{"body":{"amount":5},"name":"increment","wait":true,"timeout":5000}'
    assert JSON.read_send(written) == QueueSend({"amount": 5}, True, 5.0)
    assert JSON.read_send(b'{"body":null}') == QueueSend(None, False, None)
    assert CBOR.read_send(cbor.encode({"body": [1], "wait": False, "timeout": None})) == QueueSend([1], False, None)


def test_a_result_is_written_as_the_client_reads_it() -> None:
    assert BARE.sent("completed", Missing()) == b"\x04\x00\x09completed\x00"
    assert BARE.sent("timedOut", Missing()) == b"\x04\x00\x08timedOut\x00"
    assert BARE.sent("completed", {"value": 5}) == b"\x04\x00\x09completed\x01\x08\xa1\x65value\x05"
    assert JSON.sent("completed", {"value": 5}) == b'{"status":"completed","response":{"value":5}}'
    assert JSON.sent("completed", Missing()) == b'{"status":"completed"}'
    assert JSON.sent("completed", None) == b'{"status":"completed","response":null}'


def test_actions_are_read_and_answered() -> None:
    assert BARE.read_action(b"\x04\x00\x01\x80") == []
    assert JSON.read_action(b'{"args":[1,"x"]}') == [1, "x"]
    assert BARE.action_result({"value": 0, "n": 0}) == b"\x04\x00\x0b\xa2\x65value\x00\x61n\x00"
    assert JSON.action_result([1, "x"]) == b'{"output":[1,"x"]}'


def test_frames_of_a_connection_are_read_and_written() -> None:
    assert BARE.read_frame(b"\x04\x00\x00\x07\x03add\x02\x81\x05") == ActionRequest(7, "add", [5])
    assert BARE.read_frame(b"\x04\x00\x01\x05added\x01") == Subscription("added", True)
    asked = b'{"body":{"tag":"ActionRequest","val":{"id":["$BigInt","7"],"name":"add","args":[5]}}}'
    assert JSON.read_frame(asked) == ActionRequest(7, "add", [5])
    subscribed = {"body": {"tag": "SubscriptionRequest", "val": {"eventName": "added", "subscribe": False}}}
    assert CBOR.read_frame(cbor.encode(subscribed)) == Subscription("added", False)
    assert BARE.init_frame("a", "b") == b"\x04\x00\x00\x01a\x01b"
    assert BARE.result_frame(300, 5) == b"\x04\x00\x02\xac\x02\x01\x05"
    assert BARE.event_frame("e", [1]) == b"\x04\x00\x03\x01e\x02\x81\x01"
    assert BARE.error_frame(WireError("g", "c", "m", None), 1) == b"\x04\x00\x01\x01g\x01c\x01m\x00\x01\x01\x00"
    error = JSON.error_frame(WireError("g", "c", "m", None), None)
    assert error == (
        b'{"body":{"tag":"Error","val":{"group":"g","code":"c","message":"m","metadata":null,"actionId":null}}}'
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1, "01"),
        (-1, "20"),
        (2**32 - 1, "1a ffffffff"),
        (2**32, "fb 41f0000000000000"),
        (1_700_000_000_123, "fb 4278bcfe5687b000"),
        (2**53, "fb 4340000000000000"),
        (1.5, "fb 3ff8000000000000"),
        (None, "f6"),
        ("é", "62 c3a9"),
    ],
)
def test_numbers_reach_javascript_as_numbers(value: Any, written: str) -> None:
    assert cbor.encode(plain(value, "It")) == bytes.fromhex(written)


def test_what_json_has_no_form_for_is_tagged_and_read_back() -> None:
    values = {"big": 2**70, "bytes": b"\x00\xff", "set": {1, "a"}, "pair": ["$x", 1], "twice": ["$$x", [b"a"]]}
    written = plain(values, "It")
    assert written["big"] == ["$BigInt", str(2**70)]
    assert written["pair"] == ["$$x", 1]
    assert revived(written) == values
    assert read_json(as_json(written)) == values
    assert revived(["$Undefined", 0]) is None
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    assert cbor.decode(cbor.encode(plain(moment, "It"))) == moment
    assert as_json(plain(moment, "It")) == b'"2026-01-02T03:04:05.678000+00:00"'


def test_numbers_that_json_has_not_become_null_there_and_stay_in_cbor() -> None:
    assert as_json({"a": [math.inf, 1.0]}) == b'{"a":[null,1.0]}'
    assert cbor.decode(cbor.encode([math.inf])) == [math.inf]


def test_a_result_that_holds_itself_or_cannot_be_written_is_an_error_that_names_it() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value in (endless, object()):
        with pytest.raises(ValidationFailed, match="The result of action `x` cannot be sent"):
            plain(value, "The result of action `x`")


@pytest.mark.parametrize("value", [int, list[int], ValidationFailed])
def test_a_type_is_an_error_that_says_where_to_make_the_call(value: Any) -> None:
    with pytest.raises(ValidationFailed, match="Make the call where the host runs"):
        plain({"reply": value}, "The arguments of `send_prompt`")


def test_cbor_of_other_writers_is_read() -> None:
    for written, value in {
        "9f 01 02 ff": [1, 2],
        "bf 61 61 01 ff": {"a": 1},
        "7f 61 61 61 62 ff": "ab",
        "5f 41 01 41 02 ff": b"\x01\x02",
        "f9 3c00": 1.0,
        "fa 3fc00000": 1.5,
        "1b 0000000100000000": 2**32,
        "c2 49 010000000000000000": 2**64,
        "c3 41 00": -1,
        "d9 0102 82 01 02": {1, 2},
        "d9 0103 a1 61 61 01": {"a": 1},
        "d8 40 41 01": b"\x01",
        "f7": None,
    }.items():
        assert cbor.decode(bytes.fromhex(written)) == value


@pytest.mark.parametrize(
    "written",
    [
        *[
            "",
            "ff",
            "18",
            "81",
            "61",
            "62 61",
            "9b ffffffffffffffff 01",
            "bb 7fffffffffffffff",
            "5b ffffffffffffffff",
            "1c",
        ],
        "bf 61 61 ff",
        "a1 f6 01",
        "a1 01 02",
        "a1 41 61 01",
        "a1 81 01 02",
        "c1 61 61",
        "c1 fb 7ff0000000000000",
        "d9 ffff 01",
        "5f 61 61 ff",
        "7f 9f ff",
        "62 ffff",
        *["01 01", "df 01", "fc", "f8 20", "81 ff"],
    ],
)
def test_malformed_cbor_is_refused(written: str) -> None:
    with pytest.raises(BadRequest):
        cbor.decode(bytes.fromhex(written))


def test_deep_nesting_is_refused_before_it_costs_anything() -> None:
    for deep in (b"\x81" * 100_000 + b"\x01", b"\xc6" * 100_000 + b"\x01", b"\xbf\x61a" * 100_000):
        with pytest.raises(BadRequest, match="nesting depth"):
            cbor.decode(deep)
    with pytest.raises(BadRequest, match="nested"):
        read_json(b"[" * 100_000 + b"]" * 100_000)


@pytest.mark.parametrize(
    "written",
    [
        "d8 1c 81 d8 1d 00",  # a list that holds itself
        "82 d8 1c 61 61 d8 1d 00",  # a reference to an earlier value
        "d9 0100 82 63 616161 d8 19 00",  # a reference to an earlier text
        "c5 82 1a 7fffffff 03",  # 3 * 2 ** 2147483647
        "c4 82 1a 3fffffff 03",
        "d8 1e 82 01 00",  # 1 / 0
        "d8 23 67 28612b292b2462",  # a regular expression
        "d8 24 65 613a20620a",  # a mail
        "d8 25 50 00112233445566778899aabbccddeeff",  # a UUID
        "d9 d9f7 01",
        "f8 63",  # a simple value that has no meaning
        "c2 59 0401" + "ff" * 1025,  # a number of 1025 bytes
        "d9 0102 a1 61 61 01",
        "d9 0102 81 d8 1d 00",
    ],
)
def test_what_could_be_costly_or_endless_is_not_built(written: str) -> None:
    with pytest.raises(BadRequest):
        cbor.decode(bytes.fromhex(written))


def test_declared_lengths_take_no_memory() -> None:
    tracemalloc.start()
    try:
        for head in ("9a 0fffffff", "9b 00000000ffffffff", "ba 0fffffff", "5b 0000000fffffffff", "7b 7fffffffffffffff"):
            with pytest.raises(BadRequest):
                cbor.decode(bytes.fromhex(head) + b"\x01" * 1000)
            with pytest.raises(BadRequest):
                cbor.decode(bytes.fromhex(head) * 90)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


COLLIDING = [(2**61 - 1) * number for number in range(1, 20_001)]
"""Integers that all have the same hash."""


def test_values_with_the_same_hash_cost_no_more_than_others() -> None:
    numbers = [b"\xc2\x4c" + number.to_bytes(12, "big") for number in COLLIDING]
    count = len(numbers).to_bytes(4, "big")
    begun = time.process_time()
    assert cbor.decode(b"\xd9\x01\x02\x9a" + count + b"".join(numbers)) == COLLIDING
    assert revived(["$Set", COLLIDING]) == COLLIDING
    for key in (b"", b"\x81"):
        with pytest.raises(BadRequest):
            cbor.decode(b"\xba" + count + b"".join(key + number + b"\x00" for number in numbers))
    assert time.process_time() - begun < 2
    assert revived(["$Set", COLLIDING[:10]]) == set(COLLIDING[:10])


def test_more_values_than_memory_is_for_are_refused() -> None:
    many = 3_000_000
    for item in (b"\x80", b"\x01", b"\xa0", b"\x60"):
        with pytest.raises(BadRequest, match="more than 1,000,000 values"):
            cbor.decode(b"\x9f" + item * many + b"\xff")
    for item in (b"[],", b"{},"):
        with pytest.raises(BadRequest, match="more than 2,000,000 lists and objects"):
            read_json(b"[" + item * many + b"1]")
    text = "[" * many
    assert cbor.decode(cbor.encode(text)) == text
    assert cbor.decode(b"\x82\x5a" + many.to_bytes(4, "big") + bytes(many) + b"\x01") == [bytes(many), 1]
    with pytest.raises(BadRequest):
        cbor.decode(b"\x5b" + b"\xff" * 8 + bytes(many))


def test_text_that_is_no_unicode_is_sent_with_marks_in_it() -> None:
    assert cbor.decode(cbor.encode({"a\ud800": ["b\udfff", 2**40]})) == {"a?": ["b?", float(2**40)]}


@pytest.mark.parametrize(
    "value",
    [["$Nonsense", 1], ["$BigInt", 1], ["$BigInt", "x"], ["$BigInt", "1" * 5000], ["$Uint8Array", "*"], ["$Set", 1]],
)
def test_a_tag_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(BadRequest, match="tagged"):
        revived(value)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(written: bytes) -> None:
    for encoding in (BARE, CBOR, JSON):
        for read in (encoding.read_send, encoding.read_action, encoding.read_frame):
            for sent in (written, b"\x04\x00" + written, b"\x04\x00\x00\x01\x01a" + bytes((len(written),)) + written):
                try:
                    read(sent)
                except BadRequest as error:
                    assert error.full_code == "gateway.bad_request"  # noqa: PT017  # most are none


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_every_value_survives_the_way_to_the_client_and_back(value: Any) -> None:
    assert revived(cbor.decode(cbor.encode(plain(value, "It")))) == value


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(BadRequest, match="bare, cbor or json, not 'xml'"):
        encoding_of("xml")
    assert encoding_of(None) is JSON
