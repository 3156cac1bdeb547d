"""Redact the values of environment variables, and passwords in addresses, in text that is stored or shown."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from typing import Any, cast

from agentq_nb._core.secret_search import SecretSearch, as_bytes, as_text
from agentq_nb._core.threads import in_long_thread

SHORTEST_SECRET = 8
"""Characters; a shorter value is too likely to be an ordinary word."""

_LONG = 1 << 20
"""Characters; searching longer text blocks the event loop for several milliseconds."""

_SECRET_NAMES = {"APIKEY", "KEY", "PASSPHRASE", "PASSWD", "PASSWORD", "PAT", "SECRET", "TOKEN"}
"""Parts of a variable's name that mark it as a secret."""

# Up to the last @: people forget to escape those of a password. A path has one slash of the two.
_IN_URL = re.compile(r"(\b[\w+.-]+:/{1,2}[^\s:/@]*:)\S+@")
_AS_OPTION = re.compile(r"(\b(?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE)


class Redactor:
    """Replaces the known secrets in text by ``[redacted NAME]``, with the name of their variable.

    Secrets are never forgotten while the process runs: an agent may have written one to a file that is read much later.
    """

    def __init__(self) -> None:
        self._public: set[str] = set()
        self.search = SecretSearch({})
        """Finds the currently known secrets."""

    def add(self, environment: Mapping[str, str], public: Collection[str] = ()) -> None:
        """Treat the values of these variables as secrets, except the ``public`` ones and those too short."""
        self._public.update(public)
        new = {name: value for name, value in environment.items() if name not in public and not self._knows(value)}
        if new:
            # A new object, since another thread may be using the old one.
            names = {form: name for name, value in new.items() for form in _forms(value)} | self.search.names
            self.search = SecretSearch(names)
        if self is not _given:
            _given.add(environment, public)

    def add_own(self) -> None:
        """Add the secrets among this process's own variables: code that runs inside it can read them."""
        own = {name: value for name, value in os.environ.items() if _SECRET_NAMES.intersection(name.upper().split("_"))}
        self.add({name: value for name, value in own.items() if name not in self._public})

    def text(self, text: str) -> str:
        """Return ``text`` without secrets."""
        data = as_bytes(text)
        shown, here = list[bytes](), 0
        for start, end, name in self.search.find(data):
            shown += (data[here:start], _mark(name))
            here = end
        return as_text(b"".join([*shown, data[here:]])) if shown else text

    async def long_text(self, text: str) -> str:
        """Return ``text`` without secrets; long text is searched in a thread."""
        return self.text(text) if len(text) < _LONG else await in_long_thread(self.text, text)

    def data(self, value: Any) -> Any:
        """Return JSON-like data without secrets, in keys too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            mapping = cast(Mapping[Any, Any], value)
            return {self.data(key): self.data(item) for key, item in mapping.items()}
        if isinstance(value, (list, tuple)):
            items = cast(list[Any], value)
            return [self.data(item) for item in items]
        return value

    def _knows(self, value: str) -> bool:
        return len(value) < SHORTEST_SECRET or value in self.search.names


_given = Redactor()
"""Every secret that any part of this process was given."""


def without_secrets(data: Any) -> Any:
    """Return JSON-like data (errors to be stored) without any secret that this process was given or started with."""
    _given.add_own()
    return _given.data(data)


class StreamRedactor:
    """Redacts text that comes in pieces: a possible beginning of a secret waits for the next piece."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._waiting = b""

    def feed(self, text: str) -> str:
        """Return the text that can be shown by now; may be empty."""
        shown, self._waiting = self._split(self._waiting + as_bytes(text))
        return as_text(shown)

    def finish(self) -> str:
        """Return the rest at the end of the stream. A long enough beginning of a secret is redacted too."""
        shown, rest = self._split(self._waiting)
        self._waiting = b""
        begun = as_text(rest)
        return as_text(shown) + ("[redacted]" if len(begun) >= SHORTEST_SECRET else begun)

    def _split(self, data: bytes) -> tuple[bytes, bytes]:
        """Split into redacted text that can be shown and the rest: a secret that is complete, or may become so."""
        search = self._redactor.search
        cut = search.beginning(data)
        shown, here = list[bytes](), 0
        for start, end, name in search.find(data):
            if end > cut:
                cut = min(cut, start)
                break
            shown += (data[here:start], _mark(name))
            here = end
        return b"".join([*shown, data[here:cut]]), data[cut:]


def _mark(name: str) -> bytes:
    return as_bytes(f"[redacted {name}]")


def _forms(value: str) -> set[str]:
    """Return a secret's forms: as it is, as JSON and ``repr`` write it, as UTF-8 keeps it, and each of its lines."""
    kept = value.encode("utf-8", "replace").decode()
    plain = {value, value.strip(), kept, *(line.strip() for line in value.splitlines())}
    written = {form for text in plain for form in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])}
    written |= {repr(text)[1:-1] for text in plain}
    return {form for form in plain | written if len(form) >= SHORTEST_SECRET}


def without_passwords(text: str) -> str:
    """Return a text with the passwords of the addresses in it replaced by ``***``.

    >>> without_passwords("postgresql://me:secret@server/db")
    'postgresql://me:***@server/db'
    """
    return _AS_OPTION.sub(r"\1***", _IN_URL.sub(r"\1***@", text))
