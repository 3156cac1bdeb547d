"""Decode, redact, report and truncate the output of processes."""

from __future__ import annotations

import asyncio
import codecs
from collections import deque
from collections.abc import Callable
from typing import Protocol

from agentq_nb.agent_os.values import OutputStream

_SMALLEST_PIECE = 4096  # characters; smaller pieces are joined


class TextFilter(Protocol):
    """Accepts text piece by piece and returns it without secrets."""

    def feed(self, text: str) -> str: ...
    def finish(self) -> str: ...


class Excerpt:
    """Keeps the first and the last half of a text of any length."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._head = ""
        self._tail: deque[str] = deque()
        self._tail_length = 0
        self._gone = 0

    @property
    def left_out(self) -> int:
        """The number of characters missing in the middle."""
        return self._gone + max(0, self._tail_length - self._half)

    def add(self, text: str) -> None:
        room = self._half - len(self._head)
        if room > 0:
            self._head += text[:room]
            text = text[room:]
        if not text:
            return
        if self._tail and len(self._tail[-1]) < _SMALLEST_PIECE:
            self._tail[-1] += text
        else:
            self._tail.append(text)
        self._tail_length += len(text)
        while self._tail_length - len(self._tail[0]) >= self._half:
            gone = len(self._tail.popleft())
            self._tail_length -= gone
            self._gone += gone

    def text(self) -> str:
        """Return everything that is kept, with a mark where text is missing."""
        tail = "".join(self._tail)
        if not self.left_out:
            return self._head + tail
        return f"{self._head}\n[… {self.left_out} characters left out …]\n{tail[max(0, len(tail) - self._half) :]}"


class Output:
    """One output stream of a process: passes each piece of text to ``on_text``, and keeps its first and last half."""

    def __init__(
        self, limit: int, through: TextFilter | None = None, on_text: Callable[[str], None] | None = None
    ) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._through = through
        self._on_text = on_text
        self._kept = Excerpt(limit)

    @property
    def left_out(self) -> int:
        return self._kept.left_out

    def feed(self, data: bytes) -> None:
        text = self._decoder.decode(data)
        self._add(text if self._through is None else self._through.feed(text))

    def finish(self) -> None:
        """Flush what was held back; no more data comes."""
        text = self._decoder.decode(b"", True)
        self._add(text if self._through is None else self._through.feed(text) + self._through.finish())

    def text(self) -> str:
        """Return the text that is kept so far."""
        return self._kept.text()

    def _add(self, text: str) -> None:
        if not text:
            return
        self._kept.add(text)
        if self._on_text is not None:
            self._on_text(text)


_FIRST_DELAY = 0.02  # seconds between the first piece and its event
_PAUSE = 0.2  # seconds between two events; one may hold text of both outputs
_LARGEST = 16_384  # characters of one output stream in one event


class OutputEvents:
    """Calls ``tell`` with pieces of text at most ten times a second, each with the first and last half of what came."""

    def __init__(self, tell: Callable[[OutputStream, str], None]) -> None:
        self._tell = tell
        self._waiting: dict[OutputStream, Excerpt] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._last = float("-inf")

    def add(self, stream: OutputStream, text: str) -> None:
        """Add text to the next event."""
        if stream not in self._waiting:
            self._waiting[stream] = Excerpt(_LARGEST)
        self._waiting[stream].add(text)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time() + _FIRST_DELAY, self._last + _PAUSE), self.flush)

    def flush(self) -> None:
        """Emit pending text at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, {}
        self._last = asyncio.get_running_loop().time()
        for stream, excerpt in waiting.items():
            self._tell(stream, excerpt.text())
