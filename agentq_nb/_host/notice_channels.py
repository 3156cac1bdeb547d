"""Where notices are sent: the services of the apprise package, a command, or a Python function."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeAlias, cast

from agentq_nb._core.threads import start_long
from agentq_nb._policies.notices import Notice, NoticeKind
from agentq_nb.errors import ValidationFailed

NotifyTarget: TypeAlias = str | Sequence[str] | Callable[[Notice], Any]
"""URLs of apprise, a command as a list, or a function of a :class:`Notice`."""

LONGEST_SEND = 20.0
"""Seconds that one attempt may take."""

_URL = re.compile(r"[A-Za-z][\w+.-]*://")
_SEVERITY: dict[NoticeKind, str] = {"done": "success", "failed": "failure", "stopped": "failure", "test": "info"}


class Channel(ABC):
    """One place to which notices are sent. ``shown`` names it, without secrets."""

    shown: str
    _running: Future[Any] | None = None

    async def send(self, notice: Notice) -> None:
        """Send a notice, or raise. Never takes longer than :data:`LONGEST_SEND`."""
        if self._running is not None and not self._running.done():
            # A thread cannot be stopped, and there must be no second one that hangs.
            raise TimeoutError(f"the attempt before has not ended after {LONGEST_SEND:g} s")
        self._running = start_long(self._send, notice)
        try:
            async with asyncio.timeout(LONGEST_SEND):
                result = await asyncio.wrap_future(self._running)
                if inspect.isawaitable(result):
                    await result
        except TimeoutError:
            raise TimeoutError(f"there was no answer within {LONGEST_SEND:g} s") from None

    @abstractmethod
    def _send(self, notice: Notice) -> Any:
        """Send a notice, or raise. In a thread; what it returns is awaited if it can be."""


class UrlChannel(Channel):
    """A service that apprise knows, by its URL."""

    def __init__(self, url: str) -> None:
        try:
            import apprise
        except ImportError:
            raise ValidationFailed(
                "notify=URL needs the apprise package: pip install 'agentq-nb[notify]'. Without it, notify takes a command "
                "as a list, or a function."
            ) from None
        self._service: Any = apprise.Apprise()
        if not self._service.add(url):
            scheme = url.partition("://")[0]
            raise ValidationFailed(
                f"notify: apprise cannot use this URL, which begins with {scheme}://. Its services and their URLs are listed "
                "on https://appriseit.com/services/."
            )
        self.shown = f"{url.partition('://')[0]}://{_host_of(url)}"

    def _send(self, notice: Notice) -> None:
        severity = _SEVERITY.get(notice.kind, "warning")
        if not self._service.notify(body=notice.text, title=notice.title, notify_type=severity):
            raise ConnectionError("the service did not take it; the logger 'apprise' says why")


class CommandChannel(Channel):
    """A command, which gets the text on stdin and everything in its environment."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)
        self.shown = f"the command {self._argv[0]}"

    def _send(self, notice: Notice) -> None:
        variables = {
            "AGENTQ_NOTICE_KIND": notice.kind,
            "AGENTQ_NOTICE_TITLE": notice.title,
            "AGENTQ_NOTICE_TEXT": notice.text,
            "AGENTQ_NOTICE_COUNT": str(notice.count),
        }
        said = f"{notice.title}\n\n{notice.text}\n".encode("utf-8", "replace")
        with subprocess.Popen(
            self._argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **variables},
            start_new_session=True,
        ) as process:
            try:
                process.communicate(said, timeout=LONGEST_SEND)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise TimeoutError(f"it did not end within {LONGEST_SEND:g} s") from None
        if process.returncode != 0:
            raise ConnectionError(f"it ended with exit code {process.returncode}")


class FunctionChannel(Channel):
    """A function of a notice, plain (called in a thread) or async."""

    def __init__(self, function: Callable[[Notice], Any]) -> None:
        self._function = function
        self.shown = f"the function {getattr(function, '__name__', type(function).__name__)}"

    def _send(self, notice: Notice) -> Any:
        return self._function(notice)


def channels_of(target: NotifyTarget) -> list[Channel]:
    """Return the channels. Raises ``actor.validation_error`` for what is none."""
    if callable(target):
        return [FunctionChannel(target)]
    words = [target] if isinstance(target, str) else list(target) if isinstance(target, Sequence) else []  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
    if not words or not all(isinstance(word, str) and word for word in cast("list[Any]", words)):
        raise ValidationFailed(
            f"notify takes a URL, a list of URLs, a command as a list, or a function; not {target!r:.100}."
        )
    if all(_URL.match(word) for word in words):
        return [UrlChannel(url) for url in words]
    if isinstance(target, str) or _URL.match(words[0]):
        raise ValidationFailed(
            f"notify takes URLs such as 'mailto://…', and {next(word for word in words if not _URL.match(word))!r:.100} is "
            "none. A command is a list: ['notify-send', 'agentq']."
        )
    return [CommandChannel(words)]


def _host_of(url: str) -> str:
    """Return the host in a URL where it cannot be a secret; in many services' URLs a token stands in its place."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in ("json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos", "syslog"):
        return "…"
    return re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2] or "…"
