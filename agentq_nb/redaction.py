"""Taking the values of environment variables out of text that is stored or shown."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from typing import Any, cast

SHORTEST_SECRET = 8
"""Characters; what is shorter is too likely to be an ordinary word."""


_SECRET_NAMES = {"APIKEY", "KEY", "PASSPHRASE", "PASSWD", "PASSWORD", "PAT", "SECRET", "TOKEN"}
"""Parts of a variable's name that make it one of a secret."""


class Redactor:
    """Knows secrets by the name of their variable and replaces them by ``[redacted NAME]``.

    It never forgets one while the process lives: an agent may have written it to a file that is read much later.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._public: set[str] = set()
        self._ready: re.Pattern[str] | None = None

    def add(self, environment: Mapping[str, str], public: Collection[str] = ()) -> None:
        """Take the values of these variables for secrets, but not the ``public`` ones and not those too short."""
        self._public.update(public)
        new = {name: value for name, value in environment.items() if name not in public and not self._knows(value)}
        if new:
            # A new dictionary, since another thread may be reading the old one.
            self._names = {form: name for name, value in new.items() for form in _forms(value)} | self._names
            self._ready = None
        if self is not _given:
            _given.add(environment, public)

    def add_own(self) -> None:
        """Take the secrets among this process's own variables too: what runs inside it can read them."""
        own = {name: value for name, value in os.environ.items() if _SECRET_NAMES.intersection(name.upper().split("_"))}
        self.add({name: value for name, value in own.items() if name not in self._public})

    def text(self, text: str) -> str:
        """``text`` without secrets."""
        pattern = self._pattern()
        return text if pattern is None else pattern.sub(lambda found: f"[redacted {self._names[found[0]]}]", text)

    def data(self, value: Any) -> Any:
        """JSON-like data without secrets, in keys neither."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            mapping = cast(Mapping[Any, Any], value)
            return {self.data(key): self.data(item) for key, item in mapping.items()}
        if isinstance(value, (list, tuple)):
            items = cast(list[Any], value)
            return [self.data(item) for item in items]
        return value

    def split(self, text: str) -> int:
        """Where to cut ``text`` so that no secret that is complete, or may become so, lies across the cut."""
        longest = max(map(len, self._names), default=0)
        cut = len(text)
        for start in range(max(0, len(text) - longest + 1), len(text)):
            end = text[start:]
            if any(len(secret) > len(end) and secret.startswith(end) for secret in self._names):
                cut = start
                break
        pattern = self._pattern()
        for found in pattern.finditer(text) if pattern is not None else ():
            if found.start() < cut < found.end():
                return found.start()
        return cut

    def _knows(self, value: str) -> bool:
        return len(value) < SHORTEST_SECRET or value in self._names

    def _pattern(self) -> re.Pattern[str] | None:
        if self._ready is None and self._names:
            # The longest first, so that a secret that begins like another one is taken out whole.
            ordered = sorted(self._names, key=len, reverse=True)
            self._ready = re.compile("|".join(map(re.escape, ordered)))
        return self._ready


_given = Redactor()
"""Every secret that this process was given, by whomever."""


def without_secrets(data: Any) -> Any:
    """JSON-like data without any secret that this process was given or was started with: errors that are stored."""
    _given.add_own()
    return _given.data(data)


class StreamRedactor:
    """The same for text that comes in pieces: what may be the beginning of a secret waits for the next piece."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._waiting = ""

    def feed(self, text: str) -> str:
        """The text that can be shown by now; may be empty."""
        self._waiting += text
        cut = self._redactor.split(self._waiting)
        safe, self._waiting = self._waiting[:cut], self._waiting[cut:]
        return self._redactor.text(safe)

    def finish(self) -> str:
        """What was waiting, now that nothing more comes. A secret that was cut off in the middle is one all the same."""
        rest, self._waiting = self._waiting, ""
        cut = self._redactor.split(rest)
        begun = rest[cut:]
        return self._redactor.text(rest[:cut]) + ("[redacted]" if len(begun) >= SHORTEST_SECRET else begun)


def _forms(value: str) -> set[str]:
    """A secret as it is, as JSON and ``repr`` write it, as UTF-8 keeps it, and the lines of one that has several."""
    kept = value.encode("utf-8", "replace").decode()
    plain = {value, value.strip(), kept, *(line.strip() for line in value.splitlines())}
    written = {form for text in plain for form in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])}
    written |= {repr(text)[1:-1] for text in plain}
    return {form for form in plain | written if len(form) >= SHORTEST_SECRET}
