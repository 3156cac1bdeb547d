"""Function agents whose calls of a provider meet its limit: what the prompt raises, and what is kept of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentq_nb.agent_os import SessionEvent, agent_os, agents
from agentq_nb.agent_os.agents import AgentSession
from agentq_nb.agent_os.provider_limits import ProviderLimit, prompt_error
from agentq_nb.errors import AgentqError, PromptFailed, RateLimited
from tests.unit.agent_os.machine import Machine

KEY = "sk-ant-0123456789abcdef"


def failed(raises: Callable[[], BaseException], folder: Path) -> tuple[AgentqError, list[SessionEvent]]:
    """The error of a prompt whose agent raises this, and its transcript."""

    async def agent(session: AgentSession, prompt: str) -> str:
        raise raises()

    async def program() -> tuple[AgentqError, list[SessionEvent]]:
        async with Machine(agent_os(agents=[agents.function(agent)]), folder) as vm:
            session = await vm.create_session("agent", env={"API_KEY": KEY})
            with pytest.raises(AgentqError) as raised:
                await vm.send_prompt(session.session_id, "go")
            return raised.value, await vm.session_events(session.session_id)

    return asyncio.run(program())


def answer(status: int, message: str = "slow down", **headers: str) -> BaseException:
    request = httpx.Request("POST", "https://api.anthropic.com/v1/messages")
    body = {"error": {"message": message}}
    response = httpx.Response(
        status, headers={name.replace("_", "-"): value for name, value in headers.items()}, json=body
    )
    return httpx.HTTPStatusError(f"status {status}", request=request, response=response)


def test_a_clients_error_about_a_limit_becomes_one_that_pauses_the_queue(tmp_path: Path) -> None:
    error, events = failed(lambda: answer(429, retry_after="90"), tmp_path)

    assert isinstance(error, RateLimited)
    assert error.metadata["kind"] == "requests"
    ends = error.ends_at(0)
    assert ends is not None
    assert abs(ends - datetime.now(UTC).timestamp() - 90) < 30
    assert isinstance(error.__cause__, httpx.HTTPStatusError)
    assert events[-1].type == "error"


def test_a_limit_that_the_agent_raises_itself_is_passed_on(tmp_path: Path) -> None:
    error, _ = failed(lambda: RateLimited("Enough for today.", retry_after=60, limit="anthropic"), tmp_path)

    assert isinstance(error, RateLimited)
    assert (error.message, error.limit, error.ends_at(0)) == ("Enough for today.", "anthropic", 60)


@pytest.mark.parametrize(
    "raises",
    [
        lambda: RateLimited(f"The key {KEY} is used up.", retry_after=60),
        lambda: answer(429, f"the key {KEY} is used up"),
    ],
    ids=["its own", "a client's"],
)
def test_no_secret_is_in_the_error(raises: Callable[[], BaseException], tmp_path: Path) -> None:
    error, _ = failed(raises, tmp_path)

    assert isinstance(error, RateLimited)
    assert KEY not in f"{error.message} {error.metadata} {error.__cause__!r}"


def test_a_prompt_without_money_fails_as_one(tmp_path: Path) -> None:
    error, _ = failed(lambda: answer(402, "Insufficient Balance"), tmp_path)

    assert isinstance(error, PromptFailed)
    assert error.full_code == "agent.billing"


@pytest.mark.parametrize("status", [400, 401, 404, 500, 502, 503])
def test_any_other_error_fails_the_prompt_as_before(status: int, tmp_path: Path) -> None:
    error, _ = failed(lambda: answer(status, "no"), tmp_path)

    assert isinstance(error, PromptFailed)
    assert error.full_code == "agent.prompt_failed"


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (
            ProviderLimit("usage-window", datetime(2026, 7, 14, 16, tzinfo=UTC)),
            "Agent 'claude' has used up what its plan allows: You've hit your limit. It can continue at 2026-07-14 16:00:00 UTC.",
        ),
        (
            ProviderLimit("overloaded"),
            "Agent 'claude' got no answer, since its language model is overloaded: You've hit your limit. It is not known "
            "when it can continue.",
        ),
        (
            ProviderLimit("billing", datetime(2026, 8, 1, tzinfo=UTC)),
            "Agent 'claude' needs money for its language model: You've hit your limit. The provider says that this ends at "
            "2026-08-01 00:00:00 UTC. Waiting does not help by itself: add credits, or raise the limit of spending, there.",
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, ProviderLimit) else "",
)
def test_the_error_says_what_happened_and_what_to_do(limit: ProviderLimit, says: str) -> None:
    error = prompt_error(limit, "claude", "one", " You've hit\nyour limit. ")

    assert error.message == says
    facts: dict[str, Any] = {"agent": "claude", "session_id": "one", "kind": limit.kind}
    assert facts.items() <= error.metadata.items()


def test_a_time_that_has_passed_meanwhile_is_still_the_one_that_was_said() -> None:
    ends = datetime.now(UTC) - timedelta(seconds=5)

    error = prompt_error(ProviderLimit("requests", ends), "claude", "one", "x")

    assert isinstance(error, RateLimited)
    assert error.ends_at(0) == ends.timestamp()
