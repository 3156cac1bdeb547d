"""Have OpenAI's chat completions name their tokens while they stream, for agents that do not ask for that."""

from __future__ import annotations

import json
import re
from typing import Any, cast

_END_OF_EVENT = re.compile(rb"\r?\n\r?\n")


def asking_for_usage(body: bytes) -> bytes | None:
    """Return a request's body with the question for its tokens; None where it asks itself, or does not stream."""
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    asked = cast("dict[str, Any]", data)
    options: Any = asked.get("stream_options")
    if not asked.get("stream") or not isinstance(options, (dict, type(None))):
        return None
    if options and "include_usage" in options:
        return None
    return json.dumps({**asked, "stream_options": {**(options or {}), "include_usage": True}}).encode()


class WithoutUsage:
    """Leaves out of a stream the event that only names the tokens, since its agent has not asked for it.

    All other events pass as they are, each as soon as it is whole.
    """

    def __init__(self) -> None:
        self._waiting = b""

    def feed(self, data: bytes) -> bytes:
        """Return what can be passed on by now."""
        self._waiting += data
        passed: list[bytes] = []
        start = 0
        for end in _END_OF_EVENT.finditer(self._waiting):
            event = self._waiting[start : end.end()]
            start = end.end()
            if not _only_names_tokens(event):
                passed.append(event)
        self._waiting = self._waiting[start:]
        return b"".join(passed)

    def finish(self) -> bytes:
        """Return the rest at the end of the stream."""
        return b"" if _only_names_tokens(self._waiting) else self._waiting


def _only_names_tokens(event: bytes) -> bool:
    text = event.strip()
    if not text.startswith(b"data:") or b'"usage"' not in text:
        return False
    try:
        data: Any = json.loads(text[5:])
    except (ValueError, RecursionError):
        return False
    if not isinstance(data, dict):
        return False
    said = cast("dict[str, Any]", data)
    return said.get("choices") == [] and bool(said.get("usage"))
