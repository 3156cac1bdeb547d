"""What is written to a journal is read back whole, and what is not whole is told apart from what was never finished."""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path
from typing import Any

import pytest

from agentq_nb._store import journal
from agentq_nb._store.journal import BLOCK, CHECKSUM, FILE_HEADER, FRAME_HEADER, SECTOR, Frame, Journal, frame_bytes
from agentq_nb._store.journal_scan import scan

REGION = 16 << 10


@pytest.fixture(autouse=True)
def small_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "REGION_BYTES", REGION)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def lines(first: int, rows: int) -> str:
    return "\n".join(f"row {number}" for number in range(first, first + rows))


def written(file: Path, *sizes: int, first: int = 1) -> Journal:
    """A journal with frames of so many rows each."""
    made = Journal(file, "store", first)
    append(made, *sizes, first=first)
    return made


def append(into: Journal, *sizes: int, first: int) -> None:
    for rows in sizes:
        into.append(first, rows, lines(first, rows).encode())
        first += rows


def frames_of(file: Path) -> list[Frame]:
    content = scan(file)
    assert content is not None
    assert content.problem is None
    return list(content.frames)


def flip(file: Path, offset: int) -> None:
    content = bytearray(file.read_bytes())
    content[offset] ^= 0xFF
    file.write_bytes(content)


FIRST_FRAME = BLOCK + BLOCK


def test_a_journal_that_is_not_there_is_none_and_a_new_one_is_empty(file: Path) -> None:
    assert scan(file) is None
    made = Journal(file, "0123456789abcdef012345678", 7, "replaced")
    content = scan(file)
    assert content is not None
    assert (content.store_id, content.id, content.replaces) == ("0123456789abcdef012345678", made.id, "replaced")
    assert content.frames == ()
    assert content.after(6) == ([], 0)
    assert content.after(4) == ([], 2), "rows 5 and 6 were durable in the database before this journal was begun"
    assert file.stat().st_mode & 0o777 == 0o600
    made.close()


def test_frames_are_read_back_in_order_and_those_that_are_known_are_left_out(file: Path) -> None:
    written(file, 1, 3, 2).close()
    content = scan(file)
    assert content is not None
    assert content.frames == (Frame(1, 1, lines(1, 1)), Frame(2, 3, lines(2, 3)), Frame(5, 2, lines(5, 2)))
    assert content.after(0) == (list(content.frames), 0)
    assert content.after(3) == ([Frame(4, 1, lines(4, 1)), Frame(5, 2, lines(5, 2))], 0)
    assert content.after(6) == ([], 0)


def test_a_region_that_is_begun_again_hides_what_is_left_of_its_earlier_use(file: Path) -> None:
    made = written(file, *[1] * 50)
    made.begin(1, 51)
    append(made, *[1] * 50, first=51)
    assert [frame.first for frame in frames_of(file)] == list(range(1, 101))
    made.begin(0, 101)
    append(made, 1, first=101)
    assert [frame.first for frame in frames_of(file)] == list(range(51, 102))
    made.close()


def test_frames_that_fit_are_the_ones_that_end_within_the_region(file: Path) -> None:
    made = Journal(file, "store", 1)
    room = REGION - BLOCK - FRAME_HEADER.size
    assert made.fits(room)
    assert not made.fits(room + 1)
    made.append(1, 1, b"x" * room)
    made.begin(1, 2)
    made.append(2, 1, b"y" * room)
    assert [len(frame.text) for frame in frames_of(file)] == [room, room]
    made.close()


@pytest.mark.parametrize("byte", range(FRAME_HEADER.size + 5))
def test_a_frame_that_cannot_be_read_is_missing_if_a_later_one_can(file: Path, byte: int) -> None:
    written(file, 1, 1, 1).close()
    flip(file, FIRST_FRAME + frame_bytes(len(lines(1, 1))) + byte)
    content = scan(file)
    assert content is not None
    frames, missing = content.after(0)
    assert ([frame.first for frame in frames], missing) == ([1, 3], 1)
    assert content.after(2) == ([Frame(3, 1, lines(3, 1))], 0), "row 2 is in the database: nothing is missing"


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_last_frame_that_was_not_finished_is_no_damage(file: Path, cut: int) -> None:
    written(file, 1, 1).close()
    end = FIRST_FRAME + frame_bytes(len(lines(1, 1))) + FRAME_HEADER.size + len(lines(2, 1))
    content = bytearray(file.read_bytes())
    content[end - cut : end] = bytes(cut)
    file.write_bytes(content)
    found = scan(file)
    assert found is not None
    assert found.problem is None
    assert ([frame.first for frame in found.after(0)[0]], found.after(0)[1]) == ([1], 0)


@pytest.mark.parametrize("copy", [0, SECTOR])
@pytest.mark.parametrize("start", [0, BLOCK, BLOCK + REGION])
def test_either_copy_of_a_header_will_do(file: Path, start: int, copy: int) -> None:
    made = written(file, 1)
    made.begin(1, 2)
    append(made, 1, first=2)
    made.close()
    flip(file, start + copy + 20)
    assert [frame.first for frame in frames_of(file)] == [1, 2]
    flip(file, start + (SECTOR - copy) + 20)
    content = scan(file)
    assert content is not None
    assert content.problem is not None


def test_a_header_of_another_format_is_not_read_whatever_its_checksum_says(file: Path) -> None:
    written(file, 1).close()
    content = bytearray(file.read_bytes())
    header = b"ANOTHER\n" + content[8 : FILE_HEADER.size]
    for copy in (0, SECTOR):
        content[copy : copy + FILE_HEADER.size + CHECKSUM.size] = header + CHECKSUM.pack(zlib.crc32(header))
    file.write_bytes(content)
    found = scan(file)
    assert found is not None
    assert found.problem == "the header of the journal cannot be read"


def test_a_region_whose_new_header_was_torn_is_still_in_its_old_use(file: Path) -> None:
    made = written(file, 1, 1)
    made.begin(1, 3)
    append(made, 1, first=3)
    before = file.read_bytes()
    made.begin(0, 4)
    made.close()
    torn = bytearray(before)
    torn[BLOCK : BLOCK + 20] = file.read_bytes()[BLOCK : BLOCK + 20]
    file.write_bytes(torn)
    assert [frame.first for frame in frames_of(file)] == [1, 2, 3]


def test_text_that_looks_like_a_frame_is_not_taken_for_one(file: Path) -> None:
    whole = written(file, 1)
    frame = file.read_bytes()[FIRST_FRAME : FIRST_FRAME + 40]
    whole.close()
    file.unlink()
    made = Journal(file, "store", 1)
    text = "AQF1" * 30 + frame.decode("latin-1")
    made.append(1, 1, text.encode())
    flip(file, FIRST_FRAME + 8)
    assert frames_of(file) == []
    made.close()


@pytest.mark.parametrize("kind", ["fifo", "folder", "empty", "text"])
def test_what_is_no_journal_is_a_problem_and_is_not_waited_for(file: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.write_bytes(b"Dear diary\n" * (kind == "text"))
    content = scan(file)
    assert content is not None
    assert content.problem == "the header of the journal cannot be read"
    assert content.after(0) == ([], 0)


def test_a_file_system_that_does_not_know_the_flag_gets_a_flush_for_each_write(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushes: list[int] = []
    pwritev, fdatasync = os.pwritev, os.fdatasync

    def unknown_flag(descriptor: int, parts: Any, offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return pwritev(descriptor, parts, offset)

    monkeypatch.setattr(os, "pwritev", unknown_flag)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (flushes.append(descriptor), fdatasync(descriptor)))
    made = Journal(file, "store", 1)
    before = len(flushes)
    append(made, 1, 1, 1, first=1)
    assert len(flushes) == before + 3
    assert len(frames_of(file)) == 3
    made.close()


def test_what_the_system_takes_in_pieces_is_written_to_the_end(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwritev = os.pwritev

    def short(descriptor: int, parts: Any, offset: int, flags: int = 0) -> int:
        return pwritev(descriptor, [b"".join(parts)[:7]], offset, flags)

    made = Journal(file, "store", 1)
    monkeypatch.setattr(os, "pwritev", short)
    append(made, 2, 3, first=1)
    monkeypatch.undo()
    assert [frame.rows for frame in frames_of(file)] == [2, 3]
    made.close()


def test_a_journal_that_cannot_be_made_leaves_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(OSError, match="No space"):
        Journal(file, "store", 1)
    assert not file.exists()
