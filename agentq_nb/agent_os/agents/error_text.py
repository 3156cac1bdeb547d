"""Extract a readable sentence from an error of an agent or its language model, which is often JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

_SAYS_WHY = ("details", "detail", "message", "error", "reason", "data")
_DEEPEST = 8
_LONGEST = 300  # characters of data without a sentence


def sentence_of(details: Any) -> str:
    """Return the message in ``details``; ``""`` where it is data without a readable one."""
    return _sentence(details, _DEEPEST)


def shown_as_data(details: Any) -> str:
    """Return the beginning of ``details`` as JSON, when there is no readable message."""
    text = json.dumps(details, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _sentence(details: Any, depth: int) -> str:
    if isinstance(details, str):
        return _without_json(details.strip(), depth)
    if not isinstance(details, Mapping) or not depth:
        return ""
    mapping = cast(Mapping[str, Any], details)
    return next((said for name in _SAYS_WHY if (said := _sentence(mapping.get(name), depth - 1))), "")


def _without_json(text: str, depth: int) -> str:
    """Return ``401 {"error": {"message": "invalid key"}}`` as ``401 invalid key``; leave alone what is not JSON."""
    before, brace, _ = text.partition("{")
    if not brace or not depth:
        return text
    try:
        value, end = json.JSONDecoder().raw_decode(text, len(before))
    except (ValueError, RecursionError):
        return text
    said = _sentence(value, depth - 1)
    return " ".join(part for part in (before.strip(), said, text[end:].strip()) if part) if said else text
