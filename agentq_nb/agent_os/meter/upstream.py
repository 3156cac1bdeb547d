"""Pass one request of an agent on to its language model, with the real key, and its response back as it comes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import httpx2

from agentq_nb._policies.provider_limits.recognition import recognise
from agentq_nb.agent_os.meter.llm import LLM
from agentq_nb.agent_os.meter.stream_usage import WithoutUsage, asking_for_usage
from agentq_nb.agent_os.meter.usage import ResponseReader

if TYPE_CHECKING:
    from starlette.types import Send

    from agentq_nb._policies.provider_limits import ProviderLimit

_CREDENTIALS = (b"x-api-key", b"authorization", b"x-goog-api-key")
_OF_THE_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
_NOT_SENT_ON = _OF_THE_HOP.union(_CREDENTIALS, (b"host", b"content-length", b"accept-encoding", b"cookie"))
_LONGEST_ERROR = 1 << 20  # bytes
_CONNECTING = 30.0  # seconds


@dataclass
class AgentRequest:
    """A request of an agent. ``path`` is below the prefix of its kind."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def token(self) -> bytes:
        """The token that it was sent with; empty if there is none."""
        for name in _CREDENTIALS:
            for sent, value in self.headers:
                if sent == name and value:
                    return value[7:] if value[:7].lower() == b"bearer " else value
        return next((part[4:] for part in self.query.split(b"&") if part.startswith(b"key=")), b"")

    @property
    def model(self) -> str:
        """The model that is asked for."""
        if "/models/" in self.path:
            return self.path.partition("/models/")[2].partition(":")[0]
        model = self._json.get("model")
        return model if isinstance(model, str) else ""

    @property
    def in_background(self) -> bool:
        """Whether its answer is to be fetched later: then nothing would count it."""
        return bool(self._json.get("background"))

    @property
    def _json(self) -> Mapping[str, Any]:
        try:
            data: Any = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return cast("Mapping[str, Any]", data) if isinstance(data, dict) else {}

    def to_send(self, llm: LLM) -> tuple[str, list[tuple[bytes, bytes]]]:
        """Return the URL and the headers to pass on, with the key in the place of the token."""
        query = b"&".join(part for part in self.query.split(b"&") if part and not part.startswith(b"key="))
        url = f"{llm.base_url}{self.path}" + (f"?{query.decode('latin-1')}" if query else "")
        headers = [(name, value) for name, value in self.headers if name not in _NOT_SENT_ON]
        sent = dict(self.headers)
        if b"x-api-key" in sent:
            credential = (b"x-api-key", llm.key.encode())
        elif b"authorization" in sent:
            credential = (b"authorization", b"Bearer " + llm.key.encode())
        else:
            credential = (b"x-goog-api-key", llm.key.encode())
        # A response that is not compressed can be read on the way.
        return url, [*headers, credential, (b"accept-encoding", b"identity")]


@dataclass
class Forwarded:
    """What is known of a request that was passed on.

    :ivar status: the response's; None if none came.
    :ivar complete: whether the whole response came, and was passed on.
    :ivar limit: the provider's limit that it met.
    """

    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    status: int | None = None
    complete: bool = False
    reader: ResponseReader | None = None
    limit: ProviderLimit | None = None


class Unreachable(Exception):
    """The language model could not be reached."""


def new_client() -> httpx2.AsyncClient:
    """Return a client that goes through the host's own proxy, where its variables name one. Blocks."""
    timeout = httpx2.Timeout(None, connect=_CONNECTING)  # a model may think for long: its agent decides for how long
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=60.0)
    return httpx2.AsyncClient(timeout=timeout, limits=limits, follow_redirects=False)


async def forward(
    client: httpx2.AsyncClient, llm: LLM, request: AgentRequest, send: Send, forwarded: Forwarded
) -> None:
    """Pass a request on, and its response back; what becomes known is in ``forwarded``, also when this is cancelled.

    Raises Unreachable, before anything was sent back.
    """
    url, headers = request.to_send(llm)
    body, strip = request.body, None
    if request.path.endswith("/chat/completions") and (asking := asking_for_usage(body)) is not None:
        body, strip = asking, WithoutUsage()
    try:
        built = client.build_request(request.method, url, headers=headers, content=body)
        response = await client.send(built, stream=True)
    except (httpx2.RequestError, httpx2.InvalidURL) as error:
        forwarded.seconds = time.monotonic() - forwarded.began
        raise Unreachable(f"{llm.base_url} could not be reached: {_cause_of(error)}") from None
    client.cookies.clear()  # sessions must not share them
    try:
        forwarded.status = response.status_code
        if response.status_code >= 400:
            await _pass_error(response, llm, send, forwarded)
        else:
            await _pass_answer(response, llm, send, forwarded, strip)
        forwarded.complete = True
    finally:
        forwarded.seconds = time.monotonic() - forwarded.began
        await response.aclose()


def _cause_of(error: BaseException) -> str:
    """Return what the system said, such as that the connection was refused, if it is behind the error."""
    found: BaseException = error
    behind: BaseException | None = error
    while (behind := behind.__cause__ or behind.__context__) is not None:
        if isinstance(behind, OSError) and behind.errno is not None:
            found = behind
    return str(found) or type(found).__name__


async def _pass_answer(
    response: httpx2.Response, llm: LLM, send: Send, forwarded: Forwarded, strip: WithoutUsage | None
) -> None:
    reader = forwarded.reader = ResponseReader(
        llm.provider, response.headers.get("content-type", ""), response.headers.get("content-encoding", "")
    )
    await _start(response, send, without=(b"content-length",) if strip else ())
    try:
        async for data in response.aiter_raw():
            passed = data if strip is None else strip.feed(data)
            if passed:
                await send({"type": "http.response.body", "body": passed, "more_body": True})
            reader.feed(data)
    except httpx2.RequestError:
        # The connection to the agent is cut too: an orderly end would make half an answer look whole.
        raise ConnectionAbortedError from None
    finally:
        reader.finish()
    await send({"type": "http.response.body", "body": b"" if strip is None else strip.finish()})


async def _pass_error(response: httpx2.Response, llm: LLM, send: Send, forwarded: Forwarded) -> None:
    """Pass an error on, without the key, which some providers quote."""
    pieces: list[bytes] = []
    async for data in response.aiter_raw():
        if sum(map(len, pieces)) < _LONGEST_ERROR:
            pieces.append(data)
    body = b"".join(pieces).replace(llm.key.encode(), b"[redacted]")
    sample = {
        "status": response.status_code,
        "headers": dict(response.headers),
        "body": body.decode("utf-8", "replace"),
    }
    forwarded.limit = recognise(sample, where="http", agent=llm.provider, now=datetime.now(UTC))
    await _start(response, send, without=(b"content-length",), more=[(b"content-length", str(len(body)).encode())])
    await send({"type": "http.response.body", "body": body})


async def _start(
    response: httpx2.Response,
    send: Send,
    without: tuple[bytes, ...] = (),
    more: list[tuple[bytes, bytes]] | None = None,
) -> None:
    headers = [
        (name, value)
        for name, value in response.headers.raw
        if name.lower() not in _OF_THE_HOP and name.lower() not in without
    ]
    await send({"type": "http.response.start", "status": response.status_code, "headers": [*headers, *(more or [])]})
