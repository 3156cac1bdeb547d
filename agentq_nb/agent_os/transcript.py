"""A session's events in the host's log: written as they come, read back in order."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol, cast

from agentq_nb._core.redaction import Redactor, StreamRedactor
from agentq_nb.agent_os.values import EventType, SessionEvent

_MOST_PENDING = 512  # rows not yet on disk, before the writer has to wait


class Records(Protocol):
    """The host's log, as one VM sees it."""

    def append(self, kind: str, data: dict[str, Any], *, session_id: str | None = None) -> Awaitable[None]:
        """Append one row. It is submitted at once and in order; awaiting the result means it is on disk."""
        ...

    async def fetch(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query on ``events``."""
        ...


class Transcript:
    """Writes one session's events. Secrets are redacted on the way, including those split by streaming."""

    def __init__(
        self,
        session_id: str,
        records: Callable[[], Records],
        redactor: Redactor,
        show: Callable[[SessionEvent], None],
        last: int = 0,
    ) -> None:
        """``records`` returns the log that is open now: a session may outlive a stop of the host."""
        self.session_id = session_id
        self.last = last
        """The index of the last event."""
        self._records = records
        self._redactor = redactor
        self._stream = StreamRedactor(redactor)
        self._show = show
        self._pending: list[Awaitable[None]] = []

    async def write(self, type: EventType, text: str | None = None, data: Mapping[str, Any] | None = None) -> None:
        """Add an event; it is on disk once :meth:`durable` has returned."""
        shown = None if text is None else self._redactor.text(text)
        self._append(type, shown, self._redactor.data(dict(data or {})))
        await self._limit_pending()

    async def stream(self, text: str) -> None:
        """Add a piece of the agent's answer."""
        shown = self._stream.feed(text)
        if shown:
            self._append("text", shown, {})
        await self._limit_pending()

    async def end_stream(self) -> None:
        """End the answer: add what was held back because it might have been the beginning of a secret."""
        shown = self._stream.finish()
        if shown:
            self._append("text", shown, {})

    async def recover(self) -> None:
        """Continue after a host that may have ended in the middle of an answer: what it did not write is lost."""
        self._pending = []
        await self.end_stream()

    def shown(self, value: Any) -> Any:
        """Return JSON as it is stored here, without secrets. Raises ``TypeError`` for what is not JSON."""
        return self._redactor.data(storable(value))

    async def durable(self) -> None:
        """Return when everything added so far is on disk."""
        pending, self._pending = self._pending, []
        for row in pending:
            await row

    def _append(self, type: EventType, text: str | None, data: Mapping[str, Any]) -> None:
        row: dict[str, Any] = storable({**data, "index": self.last + 1, "type": type})
        if text is not None:
            row["text"] = storable(text)
        self.last += 1
        self._pending.append(self._records().append("session.event", row, session_id=self.session_id))
        self._show(event_of(self.session_id, datetime.now(UTC), row))

    async def _limit_pending(self) -> None:
        if len(self._pending) >= _MOST_PENDING:
            await self.durable()


def event_of(session_id: str, time: datetime, row: Mapping[str, Any]) -> SessionEvent:
    """Return a row of the log as an event."""
    rest = {name: value for name, value in row.items() if name not in ("index", "type", "text")}
    return SessionEvent(session_id, row["index"], time, row["type"], row.get("text"), rest)


def storable(value: Any) -> Any:
    """Return JSON whose text a database accepts: no lone surrogates, no NUL. Raises ``TypeError`` if not JSON."""
    try:
        return _clean(json.loads(json.dumps(value, allow_nan=False)))
    except (ValueError, RecursionError) as error:
        raise TypeError(f"An agent's event must be JSON: {error}") from None


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\u2400")
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [_clean(item) for item in cast(list[Any], value)]
    return value


async def read_events(records: Records, actor_id: str, session_id: str, after: int = 0) -> list[SessionEvent]:
    """Return the events of a session from the log whose index is greater than ``after``."""
    rows = await records.fetch(
        "SELECT time, data FROM events WHERE kind = 'session.event' AND actor_id = ? AND session_id = ? "
        "AND CAST(data->>'index' AS BIGINT) > ? ORDER BY seq",
        (actor_id, session_id, after),
    )
    return [event_of(session_id, in_utc(time), as_mapping(data)) for time, data in rows]


def in_utc(time: datetime) -> datetime:
    """Return the time with its time zone: the log's times are UTC without one."""
    return time.replace(tzinfo=UTC)


def as_mapping(data: Any) -> dict[str, Any]:
    """Return the ``data`` column, which the database returns as JSON text."""
    return json.loads(data) if isinstance(data, (str, bytes)) else data
