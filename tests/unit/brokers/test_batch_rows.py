"""Which rows of a batch stand for which items: against a plain model, over random contents."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agentq_nb._brokers.local.batch_enqueue import match_rows, spans

CONTENTS = st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), max_size=12)


def sent(known: list[bytes], wanted: list[bytes]) -> tuple[list[int], list[bytes]]:
    """The rows of the wanted items, and all contents that the batch has then."""
    rows = match_rows(enumerate(known), wanted, len(known))
    new = [content for row, content in zip(rows, wanted, strict=True) if row >= len(known)]
    return rows, known + new


@given(CONTENTS, CONTENTS)
def test_each_item_has_a_row_of_its_own_and_of_its_content(known: list[bytes], wanted: list[bytes]) -> None:
    rows, after = sent(known, wanted)
    assert [after[row] for row in rows] == wanted
    assert len(set(rows)) == len(rows)


@given(CONTENTS, CONTENTS)
def test_only_items_that_there_are_more_of_than_before_are_new(known: list[bytes], wanted: list[bytes]) -> None:
    rows, _ = sent(known, wanted)
    new = Counter(content for row, content in zip(rows, wanted, strict=True) if row >= len(known))
    assert new == Counter(wanted) - Counter(known)


@given(CONTENTS, st.randoms())
def test_the_same_items_in_another_order_are_no_new_rows(known: list[bytes], random: object) -> None:
    shuffled = list(known)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    rows, after = sent(known, shuffled)
    assert after == known
    assert sorted(rows) == list(range(len(known)))


@given(CONTENTS, CONTENTS, CONTENTS)
def test_sending_is_the_same_whenever_it_is_repeated(
    first: list[bytes], second: list[bytes], third: list[bytes]
) -> None:
    _, known = sent([], first)
    rows, known = sent(known, second)
    _, known = sent(known, third)
    assert sent(known, second) == (rows, known)


@given(st.lists(st.integers(0, 30), unique=True))
def test_spans_hold_the_same_numbers_in_the_same_order(numbers: list[int]) -> None:
    found = spans(numbers)
    assert [number for span in found for number in span] == numbers
    assert all(span.start < span.stop for span in found)
    assert all(one.stop != two.start for one, two in pairwise(found))
