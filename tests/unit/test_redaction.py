"""Secrets in text: taken out whole, however the text is cut."""

from __future__ import annotations

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from agentq_nb.redaction import Redactor, StreamRedactor


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
