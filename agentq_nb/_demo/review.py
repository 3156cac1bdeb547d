"""Review one file: decode it, then check it as text, and as Python if it is."""

from __future__ import annotations

import codecs
from pathlib import PurePath

from agentq_nb._demo import plain_text, python_code
from agentq_nb._demo.report import FileReview, Finding

LARGEST = 2_000_000
"""Bytes of the largest file that is reviewed: parsing a larger one takes seconds, and it is most likely data."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def review_source(path_name: str, source: bytes) -> FileReview:
    """Review the file ``path_name`` (only its name is used) with the contents ``source``. Never raises."""
    size = len(source)
    if not source.strip():
        return FileReview(path_name, "empty", size)
    if size > LARGEST:
        return FileReview(path_name, "too large", size)
    text, remarks = _decode(source)
    if text is None:
        return FileReview(path_name, "binary", size)
    remarks += plain_text.check(path_name, text)
    lines = len(plain_text.lines_of(text))
    if PurePath(path_name).suffix.lower() not in (".py", ".pyi"):
        return FileReview(path_name, "text", size, lines, _in_order(remarks))
    code = python_code.examine(path_name, source)
    return FileReview(path_name, "python", size, lines, _in_order(remarks + code.findings), tuple(code.functions))


def _decode(source: bytes) -> tuple[str | None, list[Finding]]:
    """Return the text, or None for binary data, and findings about its encoding."""
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if source.startswith(mark)), "utf-8")
    try:
        text = source.decode(encoding)
    except UnicodeDecodeError as error:
        if b"\0" in source:
            return None, []
        line = source.count(b"\n", 0, error.start) + 1
        return source.decode("latin-1"), [Finding(line, "encoding", f"not valid {encoding.upper()}")]
    return (None if "\0" in text else text), []


def _in_order(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: finding.line))
