"""Secrets in text: taken out whole, however the text is cut."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Collection
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq_nb._core.redaction import SHORTEST_SECRET, Redactor, StreamRedactor
from agentq_nb._core.secret_search import SecretSearch


def made(**environment: str) -> Redactor:
    redactor = Redactor()
    redactor.add(environment)
    return redactor


def test_values_are_replaced_by_the_name_of_their_variable() -> None:
    redactor = made(KEY="sk-12345678", LONGER="sk-12345678-more", SHORT="abc")
    assert redactor.text("a sk-12345678 b sk-12345678-more c abc") == "a [redacted KEY] b [redacted LONGER] c abc"
    assert redactor.data({"sk-12345678": ["x", ("sk-12345678",), 1, None]}) == {
        "[redacted KEY]": ["x", ["[redacted KEY]"], 1, None]
    }


def test_public_values_stay() -> None:
    redactor = Redactor()
    redactor.add({"PROJECT": "agentq-nb", "KEY": "hunter2hunter2"}, public=["PROJECT"])
    assert redactor.text("agentq-nb hunter2hunter2") == "agentq-nb [redacted KEY]"


def test_secrets_are_known_in_json_in_repr_and_line_by_line() -> None:
    secret = 'first line "quoted"\nsecond\\line\n\ttabbed ünïcode'
    redactor = made(PEM=secret)
    for text in (secret, json.dumps(secret), repr(secret), json.dumps(secret, ensure_ascii=False), "x second\\line y"):
        shown = redactor.text(text)
        assert "second" not in shown
        assert "tabbed" not in shown


def test_a_line_with_quotes_and_other_letters_is_known_in_json_that_keeps_the_letters() -> None:
    redactor = made(PASSWORD='pä"ssw\\örd')
    assert redactor.text(json.dumps(['pä"ssw\\örd'], ensure_ascii=False)) == '["[redacted PASSWORD]"]'
    assert redactor.text(json.dumps(['pä"ssw\\örd'])) == '["[redacted PASSWORD]"]'


@given(
    secrets=st.lists(st.text("ab", min_size=8, max_size=12), min_size=1, max_size=4),
    pieces=st.lists(st.one_of(st.text("abc", max_size=6), st.integers(0, 3)), max_size=20),
    seed=st.integers(),
)
def test_no_cutting_of_a_stream_lets_a_secret_through(secrets: list[str], pieces: list[str | int], seed: int) -> None:
    redactor = Redactor()
    redactor.add({f"NAME{number}": secret for number, secret in enumerate(secrets)})
    text = "".join(secrets[piece % len(secrets)] if isinstance(piece, int) else piece for piece in pieces)
    stream, cuts, shown, here = StreamRedactor(redactor), random.Random(seed), "", 0
    while here < len(text):
        there = here + cuts.randint(1, 9)
        shown += stream.feed(text[here:there])
        here = there
    shown += stream.finish()
    assert not any(secret in shown for secret in secrets)


@given(text=st.text("abcdefgh", max_size=60), cuts=st.lists(st.integers(1, 9)))
def test_text_without_secrets_comes_out_as_it_went_in(text: str, cuts: list[int]) -> None:
    stream, shown, here = StreamRedactor(made(KEY="abcdefgh-secret")), "", 0
    for cut in [*cuts, len(text)]:
        shown += stream.feed(text[here : here + cut])
        here += cut
    assert shown + stream.finish() == text


def test_a_secret_cut_off_at_the_end_of_the_text_is_not_shown_in_part() -> None:
    stream = StreamRedactor(made(KEY="sk-0123456789abcdef"))
    assert stream.feed("key: sk-0123456789ab") + stream.finish() == "key: [redacted]"


# --- what it costs, counted -------------------------------------------------------------------------------------------


class Work:
    """What a search does with a text: passes from end to end by ``bytes.find``, and words that are looked up."""

    def __init__(self) -> None:
        self.passes = 0
        self.words = 0


class Text(bytes):
    """A text that counts how often it is read."""

    work: Work

    def find(self, *wanted: Any) -> int:
        self.work.passes += 1
        return super().find(*wanted)


class Words(frozenset[int]):
    """The words of secrets, which count what is held against them."""

    work: Work

    def isdisjoint(self, others: Any) -> bool:
        self.work.words += len(others)
        return super().isdisjoint(others)


def work_for(lines: int) -> Work:
    """Looking through a text with no secret in it for a key of so many lines."""
    lengths = random.Random(1)
    key = "\n".join("".join(lengths.choices("abcdefgh", k=64)) for _ in range(lines))
    search, work, text = made(KEY=key).search, Work(), Text(b"12:00:01 INFO compiled foo.c\n" * 1000)
    text.work = work
    search._words = words = Words(search._words)
    words.work = work
    assert list(search.find(text)) == []
    return work


def test_fifty_secrets_cost_hardly_more_than_one() -> None:
    one, fifty = work_for(1), work_for(50)
    assert one.passes + one.words > 0
    assert fifty.passes <= one.passes + 2, "the text is read once for each secret"
    assert fifty.words <= 29_000 / 8, "each word of the text is looked up more than once"


@pytest.mark.anyio
async def test_only_a_long_text_is_looked_through_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    redactor, threads = made(KEY="sk-12345678"), list[int]()
    find = redactor.search.find
    monkeypatch.setattr(
        redactor.search, "find", lambda data: (threads.append(threading.get_ident()), find(data))[1], raising=True
    )
    assert await redactor.long_text("short sk-12345678") == "short [redacted KEY]"
    assert threads == [threading.get_ident()]
    assert (await redactor.long_text("x" * 2_000_000 + "sk-12345678")).endswith("x[redacted KEY]")
    assert threads[1] != threading.get_ident()


# --- beside the naive way, which tries each secret at each character --------------------------------------------------

LINES = st.one_of(st.text("ab", min_size=8, max_size=70), st.text("aé😀\ud800", min_size=8, max_size=20))
KEYS = st.lists(st.lists(LINES, min_size=1, max_size=6).map("\n".join), min_size=1, max_size=4)
PIECES = st.lists(
    st.one_of(st.text("abcé\n😀\ud800", max_size=9), st.tuples(st.integers(0), st.integers(0, 80))), max_size=12
)
PRICES = st.sampled_from([0, 40, 1000])


def naive(secrets: Collection[str], text: str) -> str:
    pattern = "|".join(map(re.escape, sorted(secrets, key=len, reverse=True)))
    return re.sub(pattern, lambda found: f"<{found[0]}>", text)


def naive_cut(secrets: Collection[str], text: str) -> int:
    """Where the end of the text begins that may become a secret."""
    for start in range(len(text)):
        if any(len(secret) > len(text) - start and secret.startswith(text[start:]) for secret in secrets):
            return start
    return len(text)


def mixed(secrets: list[str], pieces: list[str | tuple[int, int]]) -> str:
    """Text with whole secrets and beginnings of them in it."""
    return "".join(
        piece if isinstance(piece, str) else secrets[piece[0] % len(secrets)][: piece[1] or None] for piece in pieces
    )


def named_by_itself(keys: list[str], price: int) -> tuple[Redactor, list[str]]:
    """A redactor that names each form of a secret, so that it shows which one it has found.

    ``price``: at 0 all that can be is found by looking up words, at 1000 everything by itself.
    """
    redactor = Redactor()
    redactor.add({f"NAME{number}": key for number, key in enumerate(keys)})
    forms = sorted(redactor.search.names)
    with patch("agentq_nb._core.secret_search._WORDS_FOR_A_FIND", price):
        redactor.search = SecretSearch({form: f"{form}>" for form in forms})
    return redactor, forms


def shown_by(text: str) -> str:
    return re.sub(r"\[redacted (.*?)>\]", r"<\1>", text, flags=re.DOTALL)


@given(keys=KEYS, pieces=PIECES, price=PRICES)
def test_keys_of_many_lines_are_found_as_the_naive_way_finds_them(
    keys: list[str], pieces: list[str | tuple[int, int]], price: int
) -> None:
    redactor, forms = named_by_itself(keys, price)
    text = mixed(forms, pieces)
    assert shown_by(redactor.text(text)) == naive(forms, text)


@given(keys=KEYS, pieces=PIECES, price=PRICES, cuts=st.lists(st.integers(1, 90), max_size=20))
def test_streams_show_the_same_however_they_are_cut(
    keys: list[str], pieces: list[str | tuple[int, int]], price: int, cuts: list[int]
) -> None:
    redactor, forms = named_by_itself(keys, price)
    text = mixed(forms, pieces)
    stream, shown, here = StreamRedactor(redactor), "", 0
    for cut in [*cuts, len(text)]:
        shown += stream.feed(text[here : here + cut])
        here += cut
    whole = naive_cut(forms, text)
    for found in re.finditer("|".join(map(re.escape, sorted(forms, key=len, reverse=True))), text):
        if found.start() < whole < found.end():
            whole = found.start()
            break
    assert shown_by(shown) == naive(forms, text[:whole])
    rest = text[whole:]
    begun = naive_cut(forms, rest)
    ended = shown_by(stream.finish())
    if begun == 0:
        assert ended == ("[redacted]" if len(rest) >= SHORTEST_SECRET else rest)
    assert not any(form in ended.replace(f"<{form}>", "") for form in forms)
