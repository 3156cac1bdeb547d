"""Rows of the log: one event as a line of text, as it is written to disk."""

from __future__ import annotations

import json
from typing import TypeAlias

from agentq_nb.errors import StoreError

Row: TypeAlias = str
"""``kind``, ``actor_id``, ``message_id``, ``session_id`` and ``data``, separated by tabs; an empty field is NULL.

``data`` is a JSON object. Compact JSON holds neither tabs nor line breaks, and ids escape them.
"""


def row(
    kind: str,
    actor_id: str | None = None,
    message_id: str | None = None,
    session_id: str | None = None,
    data: str = "{}",
) -> Row:
    """Make a row. Raises ``store.bad_row`` when ``data`` is not JSON."""
    try:
        json.loads(data)
    except ValueError as error:
        raise StoreError(
            f"A row of kind {kind!r} was not written, since its data is not JSON: {error}.", code="bad_row"
        ) from None
    return f"{kind}\t{actor_id or ''}\t{message_id or ''}\t{session_id or ''}\t{data}"
