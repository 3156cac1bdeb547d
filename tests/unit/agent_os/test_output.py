"""What processes write: whole where it is little, its two ends where it is much, told of seldom and in small pieces."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq_nb.agent_os.sandbox import output
from agentq_nb.agent_os.sandbox.output import Excerpt, Output, OutputEvents


@given(pieces=st.lists(st.text(max_size=30), max_size=30), half=st.integers(1, 60))
def test_an_excerpt_is_the_whole_text_or_its_two_ends(pieces: list[str], half: int) -> None:
    excerpt, whole = Excerpt(2 * half), ""
    for piece in pieces:
        excerpt.add(piece)
        whole += piece
        if len(whole) <= 2 * half:
            assert (excerpt.text(), excerpt.left_out) == (whole, 0)
        else:
            assert excerpt.left_out == len(whole) - 2 * half
            assert excerpt.text() == f"{whole[:half]}\n[… {excerpt.left_out} characters left out …]\n{whole[-half:]}"


def test_endless_output_keeps_its_first_and_last_half() -> None:
    kept = Output(1000)
    for number in range(100_000):
        kept.feed(f"{number}\n".encode())
    text = kept.text()
    assert text.startswith("0\n1\n2\n")
    assert text.endswith("99998\n99999\n")
    assert kept.left_out == 588_890 - 1000
    assert f"{kept.left_out} characters left out" in text
    assert len(text) < 1100


def test_characters_cut_between_reads_come_out_whole() -> None:
    kept = Output(1000)
    for byte in "naïve — 日本".encode() + b"\xff":
        kept.feed(bytes([byte]))
    assert kept.text() == "naïve — 日本\ufffd"


@pytest.mark.anyio
async def test_much_output_is_told_of_seldom_and_in_order_and_what_is_left_out_is_marked() -> None:
    told: list[tuple[float, str, str]] = []
    loop = asyncio.get_running_loop()
    events = OutputEvents(lambda stream, text: told.append((loop.time(), stream, text)))
    begun = loop.time()
    number = 0
    while loop.time() < begun + 1:
        for _ in range(100):
            events.add("stdout", f"{number}\n")
            number += 1
        await asyncio.sleep(0)
    events.add("stderr", "last words")
    events.flush()
    by_timer = [time for time, *_ in told[:-2]]
    assert all(later - earlier >= 0.9 * output._PAUSE for earlier, later in itertools.pairwise(by_timer))
    assert [stream for _, stream, _ in told[-2:]] == ["stdout", "stderr"]
    assert told[0][2].startswith("0\n1\n")
    assert told[-2][2].endswith(f"\n{number - 1}\n")
    assert max(len(text) for *_, text in told) < output._LARGEST + 100
    assert any("characters left out" in text for *_, text in told)


@pytest.mark.anyio
async def test_what_is_flushed_is_told_once_and_nothing_is_told_of_nothing() -> None:
    told: list[str] = []
    events = OutputEvents(lambda stream, text: told.append(text))
    events.flush()
    events.add("stdout", "a")
    events.add("stdout", "b")
    assert told == []
    events.flush()
    await asyncio.sleep(0.1)
    assert told == ["ab"]
