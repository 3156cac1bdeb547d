"""Read the tokens of a request out of its response, as that passes by: of each kind of endpoint, streaming and not."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from agentq_nb.agent_os.meter.llm import LLM, STYLES, Provider

_PROVIDERS = {"anthropic": "anthropic", "openai": "openai", "gemini": "google"}
"""The names of providers in genai-prices."""

_LONGEST = 32 << 20
"""Bytes of a response, or of one event of a stream, that are kept for reading it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one request. ``input`` includes those that were read from, or written to, a cache."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0


class ResponseReader:
    """Reads one response while it is passed on. It never raises: what it cannot read, it does not count.

    :ivar usage: the tokens; None as long as the response has named none.
    :ivar model: the model that answered.
    """

    def __init__(self, provider: Provider, content_type: str, content_encoding: str) -> None:
        self.usage: Usage | None = None
        self.model: str | None = None
        self._provider: Provider = provider
        self._streams = content_type.partition(";")[0].strip().lower() == "text/event-stream"
        self._unpacker = zlib.decompressobj(47) if content_encoding in ("gzip", "deflate") else None
        self._counts: dict[str, int] = {}
        self._pieces: list[bytes] = []
        self._kept = 0

    def feed(self, data: bytes) -> None:
        """Take in the next piece of the body."""
        if self._unpacker is not None:
            try:
                data = self._unpacker.decompress(data)
            except zlib.error:
                return
        *lines, rest = data.split(b"\n") if self._streams else (data,)
        for line in lines:
            self._keep(line)
            self._end_line()
        self._keep(rest)

    def finish(self) -> None:
        """Read what is left when the response has ended."""
        if self._streams:
            self._end_line()
        else:
            self._read(b"".join(self._pieces))

    def _keep(self, data: bytes) -> None:
        self._kept += len(data)
        if self._kept <= _LONGEST:
            self._pieces.append(data)

    def _end_line(self) -> None:
        line = b"".join(self._pieces) if self._kept <= _LONGEST else b""
        self._pieces, self._kept = [], 0
        if line.startswith(b"data:") and b'"usage' in line:
            self._read(line[5:])

    def _read(self, text: bytes) -> None:
        try:
            data: Any = json.loads(text)
        except (ValueError, RecursionError):
            return
        # Gemini answers with a list where events are not asked for.
        for one in cast("list[Any]", data) if isinstance(data, list) else [data]:
            if isinstance(one, Mapping):
                self._take(cast("Mapping[str, Any]", one))

    def _take(self, said: Mapping[str, Any]) -> None:
        """Take in one JSON object; later counts replace earlier ones, since they are of the whole response."""
        for part in (said, said.get("message"), said.get("response")):
            if not isinstance(part, Mapping):
                continue
            answer = cast("Mapping[str, Any]", part)
            model = answer.get("model") or answer.get("modelVersion")
            if isinstance(model, str):
                self.model = model
            for name in ("usage", "usageMetadata"):
                if isinstance(counts := answer.get(name), Mapping):
                    self._counts |= _flat(cast("Mapping[str, Any]", counts))
                    self.usage = _READERS[self._provider](self._counts)


def _flat(counts: Mapping[str, Any], prefix: str = "") -> dict[str, int]:
    """Return the counts with dotted names, those that are whole numbers."""
    flat: dict[str, int] = {}
    for name, value in counts.items():
        if isinstance(value, Mapping):
            flat |= _flat(cast("Mapping[str, Any]", value), f"{prefix}{name}.")
        elif isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            flat[f"{prefix}{name}"] = value
    return flat


def _anthropic(counts: Mapping[str, int]) -> Usage:
    read, written = counts.get("cache_read_input_tokens", 0), counts.get("cache_creation_input_tokens", 0)
    return Usage(counts.get("input_tokens", 0) + read + written, counts.get("output_tokens", 0), read, written)


def _openai(counts: Mapping[str, int]) -> Usage:
    read = counts.get("input_tokens_details.cached_tokens", counts.get("prompt_tokens_details.cached_tokens", 0))
    asked = counts.get("input_tokens", counts.get("prompt_tokens", 0))
    return Usage(asked, counts.get("output_tokens", counts.get("completion_tokens", 0)), read)


def _gemini(counts: Mapping[str, int]) -> Usage:
    asked = counts.get("promptTokenCount", 0) + counts.get("toolUsePromptTokenCount", 0)
    answered = counts.get("candidatesTokenCount", 0) + counts.get("thoughtsTokenCount", 0)
    return Usage(asked, answered, counts.get("cachedContentTokenCount", 0))


_READERS = {"anthropic": _anthropic, "openai": _openai, "gemini": _gemini}


def cost_of(llm: LLM, model: str, usage: Usage) -> float | None:
    """Return US dollars; None for a model without a known price. The first call loads the prices, which takes a while."""
    if llm.prices is not None:
        prices = llm.prices.get(model) or llm.prices.get("*")
        return None if prices is None else _by_own_prices(prices, usage)
    from genai_prices import Usage as Priced
    from genai_prices import calc_price

    priced = Priced(
        input_tokens=usage.input,
        output_tokens=usage.output,
        cache_read_tokens=usage.cache_read,
        cache_write_tokens=usage.cache_write,
    )
    if llm.base_url != STYLES[llm.provider].base_url:
        with suppress(LookupError, ValueError):
            return float(calc_price(priced, model, provider_api_url=llm.base_url).total_price)
    for provider in (_PROVIDERS[llm.provider], None):
        with suppress(LookupError, ValueError):
            return float(calc_price(priced, model, provider_id=provider).total_price)
    return None


def _by_own_prices(prices: Mapping[str, float], usage: Usage) -> float:
    uncached = max(0, usage.input - usage.cache_read - usage.cache_write)
    price = prices["input"]
    total = uncached * price + usage.output * prices["output"]
    total += usage.cache_read * prices.get("cache_read", price) + usage.cache_write * prices.get("cache_write", price)
    return total / 1e6
