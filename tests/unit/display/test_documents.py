"""What agents write is shown, never obeyed: by no page, no terminal, no font."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from agentq_nb._core.safe_text import safe
from agentq_nb._display.document import Cell, Document, as_text, disk_space, duration, tone
from agentq_nb._display.html import as_html

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "a\0b",
    "lone \ud800 surrogate",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\",
    "abc\u202egnp.exe",
    "\u2066isolated",
    "\x9b31m",
    "\ue000\U0010ffff",
]


def document_of(text: str) -> Document:
    return Document(text, [("fact", text)], ["a", "b"], [[text, 1], [Cell(text, "bad"), 2]], [("long", text)], [text])


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_nothing_more(text: str) -> None:
    for made in (as_html(document_of(text)), as_text(document_of(text))):
        made.encode()
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", made)
    page = as_html(document_of(text))
    assert "<script" not in page
    assert "<img" not in page


def test_colours_of_a_terminal_are_taken_out_and_reordering_is_shown_by_number() -> None:
    assert safe("\x1b[31mred\x1b[0m") == "red"
    assert safe("abc\u202egnp.exe") == "abc\\u202egnp.exe"


@pytest.mark.parametrize("text", ["x" * 1_000_000, "<" * 1_000_000, "\x1b[31m" * 200_000, "é\n" * 500_000])
def test_long_text_is_cut_and_says_how_long_it_was(text: str) -> None:
    page = as_html(document_of(text))
    assert len(page) < 200_000
    assert f"({len(text):,} characters)" in page
    assert f"({len(text):,} characters)" in as_text(document_of(text))


def test_ordinary_text_of_any_language_stays_as_it_is() -> None:
    for text in ("Grüße, 世界", "שלום", "👩‍💻 done", "a\tb\nc"):
        assert safe(text) == text


def test_a_table_lines_up_in_a_terminal_also_with_wide_characters() -> None:
    lines = as_text(Document(columns=["name", "n"], rows=[["世界", 1], ["ab", 100]])).splitlines()
    assert lines == ["name    n", "----  ---", "世界    1", "ab    100"]


@pytest.mark.parametrize("text", ["a22fb5843917c0475dbf010c0", "_brokers/postgres/batches.py"])
def test_ids_and_names_of_files_stay_on_one_line_and_sentences_are_wrapped(text: str) -> None:
    cell, sentence = re.findall("<td[^>]*>", as_html(Document(columns=("a", "b"), rows=[(text, "long " * 20)])))
    assert "white-space:nowrap" in cell
    assert "white-space:pre-wrap" in sentence


def test_a_table_without_rows_says_so() -> None:
    empty = Document(columns=["name"], empty="No dead letters.")
    assert as_text(empty) == "No dead letters."
    assert "No dead letters." in as_html(empty)


def test_every_part_is_in_both_forms() -> None:
    document = Document("Title", [("fact", 1.5)], ["column"], [[tone("failed")]], [("Traceback", "text")], ["note"])
    for made in (as_text(document), as_html(document)):
        for part in ("Title", "fact", "1.5", "column", "failed", "Traceback", "text", "note"):
            assert part in made


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0421, "42 ms"),
        (3.21, "3.2 s"),
        (60, "1 min"),
        (250, "4 min 10 s"),
        (7500, "2 h 5 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


class Balance(HTMLParser):
    """Fails where tags do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not any(name.startswith("on") for name, _ in attrs)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("text", HOSTILE)
def test_the_html_is_well_formed_whatever_it_shows(text: str) -> None:
    balance = Balance()
    balance.feed(as_html(document_of(text)))
    balance.close()
    assert balance.open == []


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1_000, "1 KB"),
        (12_345, "12 KB"),
        (999_499, "999 KB"),
        (999_500, "1.0 MB"),
        (3_400_000, "3.4 MB"),
        (123_000_000, "123 MB"),
        (1_234_000_000, "1.2 GB"),
        (5_000_000_000_000, "5000 GB"),
    ],
)
def test_a_size_on_the_disk_is_told_in_few_digits(size: int, text: str) -> None:
    assert disk_space(size) == text
