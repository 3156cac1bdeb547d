"""Which exceptions of clients' libraries report a provider's limit: by their attributes, along causes and in groups.

openai and httpx are the real ones. Those of anthropic, google-genai and litellm, which are not needed here otherwise, are
classes with the attributes of the real ones.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq_nb.agent_os.provider_limits import ProviderLimit, exception_limit

NOW = datetime(2026, 7, 14, 12, tzinfo=UTC)


def kind_of(error: BaseException) -> str | None:
    limit = exception_limit(error, now=NOW)
    return limit.kind if limit else None


def seconds_of(error: BaseException) -> float | None:
    limit = exception_limit(error, now=NOW)
    return (limit.resume_at - NOW).total_seconds() if limit and limit.resume_at else None


# --- openai -----------------------------------------------------------------------------------------------------------


def from_openai(status: int, error: dict[str, Any], headers: dict[str, str] | None = None, **options: Any) -> Exception:
    """What openai raises when its provider answers so."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers=headers, json={"error": error})

    client = openai.OpenAI(
        api_key="none", max_retries=0, http_client=httpx2.Client(transport=httpx2.MockTransport(answer))
    )
    with pytest.raises(openai.APIError) as raised:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}], **options)
    return raised.value


def test_openai_says_which_bucket_is_spent_and_when_it_is_full() -> None:
    headers = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m30s"}
    said = {"message": "Rate limit reached for gpt-4o", "type": "tokens", "code": "rate_limit_exceeded"}

    error = from_openai(429, said, headers)

    assert exception_limit(error, now=NOW) == ProviderLimit("tokens", NOW + timedelta(seconds=90))


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (429, {"message": "You exceeded your current quota.", "type": "insufficient_quota"}, "billing"),
        (503, {"message": "The engine is currently overloaded, please try again later"}, "overloaded"),
        (500, {"message": "The server had an error while processing your request."}, None),
        (401, {"message": "Incorrect API key provided.", "code": "invalid_api_key"}, None),
        (404, {"message": "The model `x` does not exist.", "code": "model_not_found"}, None),
        (400, {"message": "maximum context length is 128000", "code": "context_length_exceeded"}, None),
        (400, {"message": "Billing hard limit has been reached", "code": "billing_hard_limit_reached"}, "billing"),
    ],
)
def test_errors_of_openai(status: int, said: dict[str, Any], kind: str | None) -> None:
    assert kind_of(from_openai(status, said)) == kind


def test_an_error_of_openai_in_the_middle_of_a_stream() -> None:
    event = {"error": {"message": "Rate limit reached for gpt-4o", "type": "requests", "code": "rate_limit_exceeded"}}

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(
            200, headers={"content-type": "text/event-stream"}, text=f"data: {json.dumps(event)}\n\n"
        )

    client = openai.OpenAI(api_key="none", http_client=httpx2.Client(transport=httpx2.MockTransport(answer)))
    with pytest.raises(openai.APIError) as raised:
        list(client.chat.completions.create(model="gpt-4o", stream=True, messages=[{"role": "user", "content": "hi"}]))

    assert kind_of(raised.value) == "requests"


def test_a_connection_that_fails_is_no_limit() -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    client = openai.OpenAI(
        api_key="none", max_retries=0, http_client=httpx2.Client(transport=httpx2.MockTransport(refuse))
    )
    with pytest.raises(openai.APIConnectionError) as raised:
        client.models.list()

    assert kind_of(raised.value) is None


# --- httpx ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
class TestHttpx:
    def raised(self, library: Any, status: int, **response: Any) -> Exception:
        request = library.Request("POST", "https://api.anthropic.com/v1/messages")
        with pytest.raises(library.HTTPStatusError) as raised:
            library.Response(status, request=request, **response).raise_for_status()
        return raised.value

    def test_its_headers_and_its_body_are_read(self, library: Any) -> None:
        body = {"error": {"type": "rate_limit_error", "message": "exceeds the limit of 10,000 input tokens per minute"}}
        error = self.raised(library, 429, headers={"Retry-After": "20"}, json=body)

        assert exception_limit(error, now=NOW) == ProviderLimit("tokens", NOW + timedelta(seconds=20))

    def test_a_body_that_was_not_read_does_not_matter(self, library: Any) -> None:
        assert kind_of(self.raised(library, 429, stream=library.ByteStream(b"{}"))) == "requests"

    def test_a_503_is_an_overload_only_if_it_says_when_to_come_again(self, library: Any) -> None:
        assert kind_of(self.raised(library, 503, text="Service Unavailable")) is None
        assert (
            kind_of(self.raised(library, 503, headers={"retry-after": "5"}, text="Service Unavailable")) == "overloaded"
        )

    def test_other_statuses_are_no_limits(self, library: Any) -> None:
        for status in (400, 401, 404, 500, 502):
            assert kind_of(self.raised(library, status, text="no")) is None


# --- libraries that are not installed ---------------------------------------------------------------------------------


class AnthropicStatusError(Exception):
    """As anthropic.APIStatusError: ``message``, ``response``, ``status_code``, ``body``."""

    def __init__(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"Error code: {status} - {body}")
        self.message = str(self)
        self.response = httpx.Response(status, headers=headers)
        self.status_code = status
        self.body = body
        self.request_id = None


class GoogleError(Exception):
    """As google.genai.errors.APIError: ``code``, ``status``, ``message``, ``details``, ``response``."""

    def __init__(self, code: int, details: dict[str, Any]) -> None:
        super().__init__(f"{code} {details['error']['status']}. {details}")
        self.code = code
        self.status = details["error"]["status"]
        self.message = details["error"]["message"]
        self.details = details
        self.response = None


class LitellmError(Exception):
    """As litellm.exceptions.RateLimitError and its siblings: ``status_code``, ``message``, ``llm_provider``, ``response``."""

    def __init__(self, status: int, message: str, response: object = None) -> None:
        super().__init__(message)
        self.status_code = status
        self.message = message
        self.llm_provider = "anthropic"
        self.model = "claude"
        self.response = response


def anthropic(type: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": type, "message": message}}


def google(code: int, status: str, message: str, **detail: Any) -> GoogleError:
    details = [detail] if detail else []
    return GoogleError(code, {"error": {"code": code, "status": status, "message": message, "details": details}})


RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
CASES = {
    "anthropic 429": (
        AnthropicStatusError(
            429, anthropic("rate_limit_error", "rate limit of 50 requests per minute"), {"retry-after": "41"}
        ),
        "requests",
        41,
    ),
    "anthropic 529": (AnthropicStatusError(529, anthropic("overloaded_error", "Overloaded")), "overloaded", None),
    "anthropic in a stream": (
        AnthropicStatusError(200, anthropic("overloaded_error", "Overloaded")),
        "overloaded",
        None,
    ),
    "anthropic 429 as HTML": (AnthropicStatusError(429, "<html>429</html>", {"retry-after": "3"}), "requests", 3),
    "anthropic without money": (
        AnthropicStatusError(400, anthropic("invalid_request_error", "Your credit balance is too low")),
        "billing",
        None,
    ),
    "anthropic 401": (AnthropicStatusError(401, anthropic("authentication_error", "invalid x-api-key")), None, None),
    "anthropic 500": (AnthropicStatusError(500, anthropic("api_error", "Internal server error")), None, None),
    "anthropic too long": (
        AnthropicStatusError(400, anthropic("invalid_request_error", "prompt is too long: 9 > 8")),
        None,
        None,
    ),
    "google 429": (
        google(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted", **{"@type": RETRY_INFO, "retryDelay": "26s"}),
        "requests",
        26,
    ),
    "google 503": (google(503, "UNAVAILABLE", "The model is overloaded."), "overloaded", None),
    "google 400": (google(400, "INVALID_ARGUMENT", "API key not valid."), None, None),
    "litellm 429": (
        LitellmError(
            429,
            f"AnthropicException - {json.dumps(anthropic('rate_limit_error', '9 input tokens per minute exceeded'))}",
        ),
        "tokens",
        None,
    ),
    "litellm with a response": (
        LitellmError(429, "x", httpx.Response(429, headers={"retry-after": "9"})),
        "requests",
        9,
    ),
    "litellm 503": (LitellmError(503, "AnthropicException - Overloaded"), "overloaded", None),
    "litellm too long": (LitellmError(400, "ContextWindowExceededError: prompt is too long"), None, None),
}


@pytest.mark.parametrize("case", CASES)
def test_errors_of_other_libraries(case: str) -> None:
    error, kind, seconds = CASES[case]

    assert (kind_of(error), seconds_of(error)) == (kind, seconds)


# --- chains and groups ------------------------------------------------------------------------------------------------

LIMIT = CASES["anthropic 429"][0]


def caused(cause: BaseException) -> BaseException:
    error = RuntimeError("the row could not be classified")
    error.__cause__ = cause
    return error


def test_a_limit_counts_where_it_is_the_cause_or_in_a_group() -> None:
    assert kind_of(caused(caused(LIMIT))) == "requests"
    assert kind_of(ExceptionGroup("rows", [ValueError("x"), ExceptionGroup("more", [caused(LIMIT)])])) == "requests"


def test_an_error_that_came_while_a_limit_was_handled_is_one_of_its_own() -> None:
    def handle() -> None:
        try:
            raise LIMIT
        except Exception:
            raise KeyError("a bug of the fallback")  # noqa: B904

    with pytest.raises(KeyError) as raised:
        handle()

    assert raised.value.__context__ is LIMIT
    assert kind_of(raised.value) is None


def test_causes_in_a_circle_come_to_an_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first

    assert kind_of(first) is None


class ServersException(Exception):
    """What frameworks for servers have their users raise."""

    status_code = 429
    detail = "Too many requests"


@pytest.mark.parametrize(
    "error",
    [RuntimeError("429 rate limit exceeded"), ServersException(), OSError(429, "x"), TimeoutError(), KeyError("429")],
    ids=repr,
)
def test_errors_without_a_providers_answer_are_no_limits(error: Exception) -> None:
    assert kind_of(error) is None


class Odd(Exception):
    """An exception whose attributes are anything, or raise."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__()
        self.values = values

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "values":
            raise AttributeError(name)
        value = self.values.get(name)
        if isinstance(value, Exception):
            raise value
        return value

    def __str__(self) -> str:
        raise RuntimeError("no text")


NAMES = st.sampled_from(
    ["status_code", "code", "status", "response", "headers", "body", "details", "message", "text", "llm_provider"]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.just(RuntimeError("unread")),
    st.just(object()),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(st.one_of(NAMES, st.integers()), inner, max_size=4), st.lists(inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(NAMES, VALUES, max_size=6), st.dictionaries(NAMES, VALUES, max_size=6))
def test_no_attribute_of_an_exception_makes_it_raise(values: dict[str, Any], response: dict[str, Any]) -> None:
    limit = exception_limit(Odd({**values, "response": Odd(response)}), now=NOW)

    assert limit is None or limit.resume_at is None or limit.resume_at > NOW
