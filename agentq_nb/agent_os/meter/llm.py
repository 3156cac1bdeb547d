"""``LLM``: the language model behind a VM's agents, with the key that they never see."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from agentq_nb._core.number_options import is_positive, is_whole
from agentq_nb._policies.budget import Budget

Provider: TypeAlias = Literal["anthropic", "openai", "gemini"]
Prices: TypeAlias = Mapping[str, Mapping[str, float]]

PRICED = ("input", "output", "cache_read", "cache_write")
"""The kinds of tokens that have prices."""


@dataclass(frozen=True)
class Style:
    """How the endpoints of one kind are reached.

    :ivar base_url: where they are by default.
    :ivar key: the variable that has the key.
    :ivar other_keys: variables with other credentials for the same models.
    :ivar base_url_variables: the variables in which programs look for another base URL.
    :ivar prefix: the path at which the proxy has them.
    :ivar model_calls: the paths of requests that generate something, below ``prefix``.
    :ivar others: the paths of other requests that agents may make.
    """

    base_url: str
    key: str
    other_keys: tuple[str, ...]
    base_url_variables: tuple[str, ...]
    prefix: str
    model_calls: re.Pattern[str]
    others: re.Pattern[str]

    @property
    def variables(self) -> tuple[str, ...]:
        """All variables that decide which of its models a program uses, and with which key."""
        return (self.key, *self.other_keys, *self.base_url_variables)


STYLES: Mapping[Provider, Style] = {
    "anthropic": Style(
        "https://api.anthropic.com",
        "ANTHROPIC_API_KEY",
        ("ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
        ("ANTHROPIC_BASE_URL",),
        "/anthropic",
        re.compile(r"/v1/messages"),
        re.compile(r"/v1/messages/count_tokens|/v1/models(/[\w.:@-]+)?"),
    ),
    "openai": Style(
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        ("CODEX_API_KEY",),
        ("OPENAI_BASE_URL",),
        "/openai/v1",
        re.compile(r"/(chat/completions|responses|responses/compact|completions|embeddings)"),
        re.compile(r"/responses/input_tokens|/models(/[\w.:@/-]+)?"),
    ),
    "gemini": Style(
        "https://generativelanguage.googleapis.com",
        "GEMINI_API_KEY",
        ("GOOGLE_API_KEY",),
        ("GOOGLE_GEMINI_BASE_URL",),
        "/gemini",
        re.compile(r"/v1(beta|alpha)?/models/[\w.@-]+:(streamG|g)enerateContent"),
        re.compile(r"/v1(beta|alpha)?/models(/[\w.@-]+(:(countTokens|embedContent|batchEmbedContents))?)?"),
    ),
}


class LLM:
    """A language model for ``agent_os(llm=...)``: agents use it through a proxy, and never have its key.

        vm = agent_os(agents=[agents.claude], llm=LLM("anthropic", budget=Budget(usd=20, per="day")))

    The proxy listens on this machine's loopback. Each session gets a token that is good only for itself, and only until it is
    closed. The proxy counts the tokens, the money and the time of every request: see the view ``usage``, ``%agentq cost``, and
    the columns ``tokens`` and ``cost`` of results and batches. Responses are passed on as they come.

    :param provider: the kind of its endpoints: ``"anthropic"``, ``"openai"`` or ``"gemini"``.
    :param key: the key; None: the variable ``ANTHROPIC_API_KEY``, ``OPENAI_API_KEY`` or ``GEMINI_API_KEY`` of this process.
    :param base_url: another server with such endpoints, as its clients are given it: ``"http://localhost:11434/v1"``.
    :param name: what shares its budget and its limits, and is shown with its requests; None: the provider.
    :param prices: US dollars for a million tokens, by model: ``{"my-model": {"input": 3, "output": 15, "cache_read": 0.3}}``;
        ``"*"`` stands for every other model. None: the prices in the package genai-prices, as of its release.
    :param requests_per_minute: how many requests may start in any minute, in all VMs together; the others wait.
    :param tokens_per_minute: the same for tokens, input and output.
    :param budget: how much money may be spent.

    Raises ValueError if there is no key, and for values out of range.
    """

    def __init__(
        self,
        provider: Provider,
        key: str | None = None,
        *,
        base_url: str | None = None,
        name: str | None = None,
        prices: Prices | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        budget: Budget | None = None,
    ) -> None:
        if provider not in get_args(Provider):
            kinds = ", ".join(map(repr, get_args(Provider)))
            raise ValueError(f"LLM takes the kind of its endpoints, one of {kinds}, not {provider!r:.100}.")
        variable = STYLES[provider].key
        key = os.environ.get(variable) if key is None else key
        if not isinstance(key, str) or not key or not key.isascii() or not key.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise ValueError(f"LLM({provider!r}) has no key: give it as key=..., or set {variable} in the environment.")
        for option, value in (
            ("requests_per_minute", requests_per_minute),
            ("tokens_per_minute", tokens_per_minute),
        ):
            if value is not None and not is_whole(value):
                raise ValueError(f"LLM({option}=...) is a whole number from 1 up, not {value!r:.100}.")
        if budget is not None and not isinstance(budget, Budget):  # pyright: ignore[reportUnnecessaryIsInstance]  # as above
            raise ValueError(f"LLM(budget=...) is a Budget, as in Budget(usd=20, per='day'), not {budget!r:.100}.")
        self.provider: Provider = provider
        self.key = key
        self.base_url = _checked_url(base_url or STYLES[provider].base_url)
        self.name = name or provider
        self.prices = _checked_prices(prices)
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self.budget = budget

    def __repr__(self) -> str:
        options = ("name", "base_url", "requests_per_minute", "tokens_per_minute", "budget")
        shown = "".join(f", {name}={value!r}" for name in options if (value := getattr(self, name)) is not None)
        return f"LLM({self.provider!r}{shown})"

    @property
    def style(self) -> Style:
        """How its endpoints are reached."""
        return STYLES[self.provider]


def checked_llms(given: LLM | Sequence[LLM] | None) -> tuple[LLM, ...]:
    """Return the language models given to ``agent_os``. Raises TypeError."""
    llms = () if given is None else (given,) if isinstance(given, LLM) else tuple(given)
    for llm in llms:
        if not isinstance(llm, LLM):  # pyright: ignore[reportUnnecessaryIsInstance]  # users are not type-checked
            raise TypeError(f'llm takes language models, as in llm=LLM("anthropic"), not {llm!r:.100}.')
    kinds = [llm.provider for llm in llms]
    if len(set(kinds)) < len(kinds):
        raise TypeError("llm takes one language model of each kind: programs look for one key and one base URL.")
    return llms


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except (ValueError, AttributeError):
        known = False
    if not known:
        raise ValueError(f"LLM(base_url=...) is a URL like 'http://localhost:11434/v1', not {url!r:.100}.")
    return url.rstrip("/")


def _checked_prices(prices: Prices | None) -> Prices | None:
    if prices is None:
        return None
    try:
        for model, costs in prices.items():
            unknown = set(costs).difference(PRICED)
            wrong = [cost for cost in costs.values() if cost != 0 and not is_positive(cost)]
            if unknown or wrong or "input" not in costs or "output" not in costs:
                raise ValueError(
                    f"LLM(prices=...) needs 'input' and 'output' for {model!r:.100}, and may have 'cache_read' and "
                    f"'cache_write': US dollars for a million tokens, not {costs!r:.200}."
                )
    except (AttributeError, TypeError):
        raise ValueError(
            "LLM(prices=...) has prices by model, as in {'my-model': {'input': 3, 'output': 15}}, in US dollars for a "
            f"million tokens, not {prices!r:.200}."
        ) from None
    return {model: dict(costs) for model, costs in prices.items()}
