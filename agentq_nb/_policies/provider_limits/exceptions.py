"""Recognise a provider's limit in an exception of its client library, by the exception's attributes.

The libraries (anthropic, openai, google-genai, litellm, httpx and those built like them) are not imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, tzinfo
from typing import Any, cast

from agentq_nb._policies.provider_limits.provider_limit import ProviderLimit

_MOST = 100  # exceptions of a chain that are looked at
_LONGEST = 20_000  # characters of a body that are looked at

_HTTP_LIBRARIES = {"httpx", "httpx2", "requests", "aiohttp", "urllib3", "urllib"}
"""Libraries that talk to any server: there a 503 says nothing of a provider of models."""


def exception_limit(error: BaseException, *, now: datetime, tz: tzinfo | str | None = None) -> ProviderLimit | None:
    """Return the limit that ``error`` reports, or None if it reports none.

    The errors that caused it, and those of a group, are looked at too; the first that reports a limit counts. An error
    that only occurred while another was handled is an error of its own.

    :param now: when it was raised; aware.
    :param tz: the zone of the machine, for times without one; by default that of ``now``.
    """
    return next(filter(None, (_of_one(one, now, tz) for one in _chain(error))), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, those of its group, and their causes, each once."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _MOST:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if one.__cause__ is not None:
            waiting.append(one.__cause__)
        if isinstance(one, BaseExceptionGroup):
            waiting += reversed(cast("BaseExceptionGroup[BaseException]", one).exceptions)


def _of_one(error: BaseException, now: datetime, tz: tzinfo | str | None) -> ProviderLimit | None:
    response = _attribute(error, "response")
    body = _body(error, response)
    if response is None and body is None and _attribute(error, "llm_provider") is None:
        return None  # a status alone is not a provider's: frameworks for servers have such exceptions too
    status = _status(error, response)
    headers = _headers(error, response)
    library = _library(error)
    if status == 503 and library in _HTTP_LIBRARIES and not headers.get("retry-after"):
        return None
    from agentq_nb._policies.provider_limits.recognition import recognise

    sample: dict[str, Any] = {"status": status, "headers": headers, "body": _with_message(body, error)}
    return recognise(sample, where="http", agent=library, now=now, tz=tz)


def _status(error: BaseException, response: object) -> int | None:
    candidates = (
        _attribute(error, "status_code"),
        _attribute(error, "code"),  # google-genai
        _attribute(error, "status"),  # aiohttp
        _attribute(response, "status_code"),
        _attribute(response, "status"),
    )
    return next((each for each in candidates if type(each) is int and 100 <= each < 600), None)


def _headers(error: BaseException, response: object) -> dict[str, str]:
    for owner, name in ((response, "headers"), (error, "headers"), (error, "litellm_response_headers")):
        headers = _attribute(owner, name)
        try:
            if items := list(headers.items()):
                return {str(key).lower(): str(value) for key, value in items}
        except (AttributeError, TypeError, ValueError):
            continue
    return {}


def _body(error: BaseException, response: object) -> object:
    """Return what the provider answered: parsed where the library has parsed it, else as text."""
    for owner, name in ((error, "body"), (error, "details"), (response, "text")):
        body = _attribute(owner, name)
        if isinstance(body, (Mapping, list)) and body:
            return cast("object", body)
        if isinstance(body, str) and body.strip():
            return body[:_LONGEST]
    return None


def _with_message(body: object, error: BaseException) -> object:
    """Return the body, or, where it is no JSON, the message with it."""
    if isinstance(body, (Mapping, list)):
        return {"error": cast("object", body)}
    message = _attribute(error, "message")
    said = message if isinstance(message, str) and message else _text(error)
    return {"error": {"message": "\n".join(part for part in (said, body) if isinstance(part, str))[:_LONGEST]}}


def _library(error: BaseException) -> str:
    """Return the package that defines the error's class, or the class that it was derived from."""
    names = [kind.__module__.partition(".")[0] for kind in type(error).__mro__]
    known = [name for name in names if name in _HTTP_LIBRARIES or name in ("google", "openai", "anthropic", "litellm")]
    return known[0] if known else names[0]


def _attribute(owner: object, name: str) -> Any:
    """Return an attribute, or None: reading some raises, such as the text of a response that was streamed."""
    try:
        return getattr(owner, name, None)
    except Exception:
        return None


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""
