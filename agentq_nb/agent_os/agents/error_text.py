"""The sentence in what an agent or its language model gave as the reason of an error, which often is JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

_SAYS_WHY = ("details", "detail", "message", "error", "reason", "data")
_DEEPEST = 8
_LONGEST = 300  # characters of what holds no sentence


def sentence_of(details: Any) -> str:
    """What ``details`` says to people; ``""`` where it is data that says nothing to them."""
    return _sentence(details, _DEEPEST)


def shown_as_data(details: Any) -> str:
    """The beginning of ``details`` as JSON, for where nothing better is known."""
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
    """``401 {"error": {"message": "invalid key"}}`` as ``401 invalid key``; what is no JSON stays as it is."""
    before, brace, _ = text.partition("{")
    if not brace or not depth:
        return text
    try:
        value, end = json.JSONDecoder().raw_decode(text, len(before))
    except (ValueError, RecursionError):
        return text
    said = _sentence(value, depth - 1)
    return " ".join(part for part in (before.strip(), said, text[end:].strip()) if part) if said else text
