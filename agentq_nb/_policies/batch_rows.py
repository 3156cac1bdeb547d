"""Which rows of a batch stand for given items: by content, and by number among equal ones, not by position."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence


def match_rows(known: Iterable[tuple[int, bytes]], wanted: Iterable[bytes], following: int) -> list[int]:
    """Return the row of each item: a known row of the same content, or else a new one.

    The second item of a content gets the second known row of it, and so on, so ten equal items are ten rows.

    :param known: the number and the content's digest of each known row, in ascending order.
    :param wanted: the digest of each item.
    :param following: the number of the first new row.
    """
    rows: defaultdict[bytes, list[int]] = defaultdict(list)
    for row, digest in known:
        rows[digest].append(row)
    for of_content in rows.values():
        of_content.reverse()
    found: list[int] = []
    for digest in wanted:
        if of_content := rows.get(digest):
            found.append(of_content.pop())
        else:
            found.append(following)
            following += 1
    return found


def spans(rows: Iterable[int]) -> list[range]:
    """Return numbers as ranges of consecutive ones, in the same order."""
    found: list[range] = []
    start = end = -1
    for row in rows:
        if row == end:
            end += 1
            continue
        if end > start:
            found.append(range(start, end))
        start, end = row, row + 1
    if end > start:
        found.append(range(start, end))
    return found


def count_of(rows: Sequence[range]) -> int:
    """Return how many numbers the ranges hold."""
    return sum(map(len, rows))
