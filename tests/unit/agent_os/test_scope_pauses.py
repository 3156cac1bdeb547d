"""Prompts of one account and model share a provider's limit, whichever VM and session they are in."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Actor, Queue
from agentq_nb.agent_os import agent_os, agents
from agentq_nb.agent_os.agents import AgentSession
from agentq_nb.agent_os.sessions.scope_pauses import ScopePauses, scope_of
from agentq_nb.errors import PromptFailed, RateLimited
from tests.unit.agent_os.machine import Machine

KEY = "sk-ant-0123456789abcdef"
OTHER_KEY = "sk-ant-fedcba9876543210"
NOW = 1_800_000_000.0


# --- the scope --------------------------------------------------------------------------------------------------------


def test_a_scope_is_the_account_and_the_model() -> None:
    scope = scope_of("claude", {"ANTHROPIC_API_KEY": KEY}, "sonnet", "vm/a")
    assert scope == scope_of("claude", {"ANTHROPIC_API_KEY": KEY, "LANG": "C"}, "sonnet", "vm/b")
    assert scope != scope_of("claude", {"ANTHROPIC_API_KEY": OTHER_KEY}, "sonnet", "vm/a")
    assert scope != scope_of("claude", {"ANTHROPIC_API_KEY": KEY}, "opus", "vm/a")
    assert scope != scope_of("codex", {"OPENAI_API_KEY": KEY}, "sonnet", "vm/a")
    assert scope != scope_of("claude", {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": "http://x"}, "sonnet", "vm/a")
    assert scope_of("claude", {}, None, "vm/a") != scope_of("claude", {}, None, "vm/b"), "each signed in by itself"


def test_no_credential_can_be_read_from_a_scope() -> None:
    assert KEY not in repr(scope_of("claude", {"ANTHROPIC_API_KEY": KEY}, None, "vm/a"))


# --- the pauses -------------------------------------------------------------------------------------------------------

SCOPE = scope_of("claude", {"ANTHROPIC_API_KEY": KEY}, None, "vm/a")
OTHER = scope_of("claude", {"ANTHROPIC_API_KEY": OTHER_KEY}, None, "vm/a")


def is_refused(pauses: ScopePauses, now: float, prompt: object = "prompt", resumed_at: float = -math.inf) -> bool:
    try:
        pauses.check(SCOPE, prompt, now, resumed_at)
    except RateLimited as error:
        return (error.ends_at(now) or 0) >= now
    return False


def test_prompts_are_refused_until_the_limit_ends() -> None:
    pauses = ScopePauses()
    pauses.met(SCOPE, "first", RateLimited("5-hour limit", until=NOW + 60), NOW, 0)
    assert is_refused(pauses, NOW)
    assert is_refused(pauses, NOW + 59)
    assert not is_refused(pauses, NOW + 60)
    pauses.check(OTHER, "another account", NOW, -math.inf)


def test_a_named_limit_pauses_no_scope() -> None:
    pauses = ScopePauses()
    pauses.met(SCOPE, "first", RateLimited("slow down", until=NOW + 60, limit="api"), NOW, 0)
    assert not is_refused(pauses, NOW)


def test_with_an_unknown_end_one_prompt_at_a_time_is_tried_and_pauses_grow() -> None:
    pauses = ScopePauses()
    pauses.met(SCOPE, "first", RateLimited("overloaded"), NOW, 0)
    assert is_refused(pauses, NOW + 4)
    assert not is_refused(pauses, NOW + 5, "tried")
    assert is_refused(pauses, NOW + 5, "meanwhile")
    pauses.met(SCOPE, "tried", RateLimited("overloaded"), NOW + 6, 6)
    pauses.ended(SCOPE, "tried", NOW + 6, answered=False)
    assert is_refused(pauses, NOW + 6 + 9)
    assert not is_refused(pauses, NOW + 6 + 10, "tried again")
    pauses.ended(SCOPE, "tried again", NOW + 17, answered=True)
    assert not is_refused(pauses, NOW + 17)


def test_a_tried_prompt_that_is_cancelled_lets_the_next_one_try() -> None:
    pauses = ScopePauses()
    pauses.met(SCOPE, "first", RateLimited("overloaded"), NOW, 0)
    assert not is_refused(pauses, NOW + 5, "tried")
    pauses.ended(SCOPE, "tried", NOW + 6, answered=False)
    assert not is_refused(pauses, NOW + 6, "next")
    assert is_refused(pauses, NOW + 6, "meanwhile")


def test_a_pause_that_is_ended_by_hand_is_over() -> None:
    pauses = ScopePauses()
    pauses.met(SCOPE, "first", RateLimited("5-hour limit", until=NOW + 3600), NOW, 100.0)
    assert is_refused(pauses, NOW + 1, resumed_at=99.0)
    assert not is_refused(pauses, NOW + 1, resumed_at=101.0)


# --- in VMs -----------------------------------------------------------------------------------------------------------


class Provider:
    """Counts what it is asked, and has a limit for as long as it is told."""

    def __init__(self) -> None:
        self.asked = 0
        self.limit: BaseException | None = None

    def vm(self) -> Any:
        async def claude(session: AgentSession, prompt: str) -> str:
            self.asked += 1
            if self.limit is not None:
                raise self.limit
            return "done"

        return agent_os(agents=[agents.function(claude)])


def test_a_prompt_of_the_same_account_is_refused_without_asking_and_another_is_not(tmp_path: Path) -> None:
    async def program() -> None:
        provider = Provider()
        async with Machine(provider.vm(), tmp_path) as vm:
            first = await vm.create_session("claude", env={"API_KEY": KEY})
            second = await vm.create_session("claude", env={"API_KEY": KEY})
            other = await vm.create_session("claude", env={"API_KEY": OTHER_KEY})
            provider.limit = RateLimited("5-hour limit", retry_after=3600)
            with pytest.raises(RateLimited):
                await vm.send_prompt(first.session_id, "go")
            provider.limit = None
            elsewhere = vm.registry.host.client.vm.get_or_create("b")
            third = await elsewhere.create_session("claude", env={"API_KEY": KEY})
            for asked, session in ((vm, first), (vm, second), (elsewhere, third)):
                with pytest.raises(RateLimited, match="5-hour limit") as refused:
                    await asked.send_prompt(session.session_id, "go")
                assert KEY not in str(refused.value)
                assert refused.value.metadata["until"] > 0
            assert provider.asked == 1
            assert (await vm.send_prompt(other.session_id, "go")).text == "done"
            assert KEY.encode() not in b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()), (
                "it is nowhere on disk"
            )

    asyncio.run(program())


def test_a_failed_prompt_pauses_nothing(tmp_path: Path) -> None:
    async def program() -> None:
        provider = Provider()
        async with Machine(provider.vm(), tmp_path) as vm:
            session = await vm.create_session("claude", env={"API_KEY": KEY})
            provider.limit = ValueError("no limit")
            with pytest.raises(PromptFailed):
                await vm.send_prompt(session.session_id, "go")
            provider.limit = None
            assert (await vm.send_prompt(session.session_id, "go")).text == "done"

    asyncio.run(program())


def test_resuming_a_queue_by_hand_asks_the_provider_again(tmp_path: Path) -> None:
    class Night(Actor):
        tasks = Queue(str, reply=str)

        @tasks.handler
        async def work(self, prompt: str) -> str:
            vm = self.actors.vm.get_or_create("a")
            session = await vm.create_session("claude", env={"API_KEY": KEY})
            return (await vm.send_prompt(session.session_id, prompt)).text

    async def program() -> None:
        provider = Provider()
        async with Machine(provider.vm(), tmp_path, night=Night) as vm:
            night = vm.actor("night")
            provider.limit = RateLimited("5-hour limit", retry_after=3600)
            receipt = await night.send("tasks", "go")
            assert (await receipt.result(1)).status == "timed_out"
            provider.limit = None
            await night.resume("tasks")
            result = await receipt.result(20)
            assert (result.status, result.attempts, provider.asked) == ("completed", 1, 2)

    asyncio.run(program())
