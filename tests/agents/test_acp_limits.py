"""Agents over ACP whose provider's limit is reached: the prompt says so, by an error that pauses its queue."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agentq_nb import Actor, Queue, agent_os
from agentq_nb.agent_os.agents.acp import conversation, limit_watch
from agentq_nb.agent_os.agents.acp.agent import AcpAgent
from agentq_nb.errors import AgentqError, PromptFailed, RateLimited
from tests.agents.test_acp_faults import stub
from tests.unit.agent_os.machine import Machine

SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
END = {"result": {"stopReason": "end_turn"}}


def chunk(text: str) -> dict[str, Any]:
    return {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}


def window(status: str, **more: Any) -> dict[str, Any]:
    limit = {"status": status, "resetsAt": int(SOON.timestamp()), "rateLimitType": "five_hour", **more}
    return {"sessionUpdate": "usage_update", "used": 1, "size": 2, "_meta": {"_claude/rateLimit": limit}}


def refusal(message: str, **data: Any) -> dict[str, Any]:
    return {"error": {"code": -32603, "message": message, "data": data}}


TOOL = {"sessionUpdate": "tool_call", "toolCallId": "1", "title": "ls", "status": "completed"}
BANNER = f"You've hit your session limit · resets {SOON:%H:%M} (UTC)"


def play(folder: Path, agent: AcpAgent | None = None, **part: Any) -> AgentqError | str:
    """Have an agent play a part as its turn; return the error of the prompt, or the text of its answer."""

    async def program() -> AgentqError | str:
        async with Machine(agent_os(agents=[agent or stub()]), folder) as vm:
            session = await vm.create_session("stub")
            try:
                result = await vm.send_prompt(session.session_id, f"play {json.dumps(part)}")
            except AgentqError as error:
                events = await vm.session_events(session.session_id)
                assert events[-1].type == "error"
                return error
            return result.text

    return asyncio.run(program())


LIMITED = {
    "refused, with a kind": ({"answer": refusal(BANNER, errorKind="rate_limit")}, "usage-window", True),
    "refused, in the data": ({"answer": refusal("Internal error", details=BANNER)}, "usage-window", True),
    "refused, without an end": ({"answer": refusal("x", codexErrorInfo="usageLimitExceeded")}, "usage-window", False),
    "refused after a report": (
        {"updates": [window("rejected")], "answer": refusal("You've hit your limit", errorKind="rate_limit")},
        "usage-window",
        True,
    ),
    "only the banner": ({"updates": [chunk(BANNER[:9]), chunk(BANNER[9:])], "answer": END}, "usage-window", True),
    "a report and no word": ({"updates": [window("rejected")], "answer": END}, "usage-window", True),
    "no word after the report": (
        {"updates": [chunk("I begin."), TOOL, window("rejected")], "answer": END},
        "usage-window",
        True,
    ),
    "last words": ({"stderr": f"reading files\nERROR: {BANNER}"}, "usage-window", True),
    "overloaded": ({"answer": refusal("API Error: 529 Overloaded", errorKind="overloaded")}, "overloaded", False),
    "too many": ({"answer": refusal("Internal error", details="429 Too Many Requests")}, "requests", False),
}


@pytest.mark.parametrize("case", LIMITED)
def test_a_turn_that_met_a_limit_raises_until_when(case: str, tmp_path: Path) -> None:
    part, kind, known = LIMITED[case]

    error = play(tmp_path, **part)

    assert isinstance(error, RateLimited), error
    assert (error.full_code, error.metadata["kind"], error.metadata["agent"]) == ("queue.rate_limited", kind, "stub")
    ends = error.ends_at(datetime.now(UTC).timestamp())
    assert (ends is not None) == known
    if ends is not None:
        assert abs(ends - SOON.timestamp()) <= 60
        assert f"It can continue at {datetime.fromtimestamp(ends, UTC):%Y-%m-%d %H:%M}" in error.message


ANSWERS = {
    "prose": {"updates": [chunk("I have read that the session limit was hit; the parser is done.")], "answer": END},
    "a banner after tools": {"updates": [TOOL, chunk(BANNER)], "answer": END},
    "a report and then an answer": {"updates": [window("rejected"), chunk("All done.")], "answer": END},
    "a report that another money pays": {"updates": [window("rejected", isUsingOverage=True), TOOL], "answer": END},
    "a warning": {"updates": [window("allowed_warning"), TOOL], "answer": END},
    "tools without a word": {"updates": [TOOL], "answer": END},
}


@pytest.mark.parametrize("case", ANSWERS)
def test_a_turn_that_met_none_is_an_answer(case: str, tmp_path: Path) -> None:
    assert isinstance(play(tmp_path, **ANSWERS[case]), str)


def test_an_agent_with_a_known_language_model_has_failed_without_a_word_and_without_tools(tmp_path: Path) -> None:
    error = play(tmp_path, replace(stub(), hosts=("models.example.org",)), answer=END)

    assert isinstance(error, PromptFailed)
    assert "ended its turn without a word" in error.message


def test_an_agent_of_an_unknown_kind_may_have_nothing_to_say(tmp_path: Path) -> None:
    assert play(tmp_path, answer=END) == ""


def test_a_prompt_that_needs_money_fails_with_advice_and_pauses_nothing(tmp_path: Path) -> None:
    error = play(tmp_path, answer=refusal("Credit balance is too low", errorKind="billing_error"))

    assert isinstance(error, PromptFailed)
    assert error.full_code == "agent.billing"
    assert "Credit balance is too low. Waiting does not help by itself: add credits" in error.message


def test_an_agent_that_waits_for_hours_inside_its_prompt_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "_SILENCE", 0.05)

    error = play(tmp_path, updates=[chunk("API Error: Rate limit reached · Retrying in 2892 seconds")], waits=True)

    assert isinstance(error, RateLimited)
    assert error.metadata["kind"] == "requests"


def test_an_agent_that_waits_for_seconds_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "_SILENCE", 0.05)
    watched: list[object] = []
    judged = limit_watch.LimitWatch.while_waiting

    async def program() -> None:
        async with Machine(agent_os(agents=[stub()]), tmp_path) as vm:
            session = await vm.create_session("stub")
            part = {"updates": [chunk("API Error: Rate limit reached · Retrying in 30 seconds")], "waits": True}
            prompt = asyncio.create_task(vm.send_prompt(session.session_id, f"play {json.dumps(part)}"))
            while len(watched) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert not prompt.done()
            await vm.cancel_prompt(session.session_id)
            assert (await prompt).stop_reason == "cancelled"

    def counting(watch: limit_watch.LimitWatch) -> Any:
        if watch.text:
            watched.append(watch)
        return judged(watch)

    monkeypatch.setattr(limit_watch.LimitWatch, "while_waiting", counting)
    asyncio.run(program())
    assert watched


def retry(seconds: float, status: int = 429) -> dict[str, Any]:
    """What Claude Code's adapter reports before its client repeats a refused request."""
    message = {"type": "system", "subtype": "api_retry", "error_status": status, "retry_delay_ms": seconds * 1000}
    return {"method": "_claude/sdkMessage", "params": {"sessionId": "one", "message": message}}


def test_an_agent_that_was_told_when_to_ask_again_does_not_wait_itself_while_nothing_is_lost(tmp_path: Path) -> None:
    error = play(tmp_path, frames=[retry(0.5), retry(20)], waits=True)

    assert isinstance(error, RateLimited)
    assert error.metadata["kind"] == "requests"
    ends = error.ends_at(0)
    assert ends is not None
    assert 10 < ends - datetime.now(UTC).timestamp() <= 20


@pytest.mark.parametrize(
    "part",
    [
        {"frames": [retry(0.5), retry(20, 500), retry(20, 529), retry(float("nan"))]},
        {"frames": [{"method": "_claude/sdkMessage", "params": ["?"]}, {"method": "_claude/sdkMessage"}]},
        {"updates": [TOOL], "frames": [retry(20)]},
        {"updates": [chunk("I begin.")], "frames": [retry(20)]},
    ],
    ids=["soon", "unreadable", "after a tool", "after a word"],
)
def test_an_agent_that_repeats_a_request_otherwise_goes_on(part: dict[str, Any], tmp_path: Path) -> None:
    last = {"method": "session/update", "params": {"sessionId": "one", "update": chunk("Done.")}}

    answer = play(tmp_path, **{**part, "frames": [*part["frames"], last]}, answer=END)

    assert isinstance(answer, str)
    assert answer.endswith("Done.")


def test_a_time_without_a_zone_is_in_that_of_the_agents_environment(tmp_path: Path) -> None:
    shown = SOON.astimezone(ZoneInfo("Asia/Kolkata"))

    async def program() -> None:
        async with Machine(agent_os(agents=[stub()]), tmp_path) as vm:
            session = await vm.create_session("stub", env={"TZ": "Asia/Kolkata"}, public_env=["TZ"])
            part = {"updates": [chunk(f"You've hit your limit · resets {shown:%I:%M%p}")], "answer": END}
            with pytest.raises(RateLimited) as raised:
                await vm.send_prompt(session.session_id, f"play {json.dumps(part)}")
            ends = raised.value.ends_at(0)
            assert ends is not None
            assert abs(ends - SOON.timestamp()) <= 60

    asyncio.run(program())


def test_the_caller_in_another_actor_gets_the_same_error(tmp_path: Path) -> None:
    caught: list[BaseException] = []

    class Worker(Actor):
        tasks = Queue(str)

        async def run(self) -> None:
            vm = self.actors.vm.get_or_create(["a"])
            async for message in self.queue.iter():
                session = await vm.create_session("stub")
                try:
                    await vm.send_prompt(session.session_id, message.body)
                except Exception as error:
                    caught.append(error)

    async def program() -> None:
        async with Machine(agent_os(agents=[stub()]), tmp_path, worker=Worker) as vm:
            prompt = f"play {json.dumps({'updates': [chunk(BANNER)], 'answer': END})}"
            await vm.actor("worker").send("tasks", prompt, wait=True, timeout=60)

    asyncio.run(program())
    assert [type(error) for error in caught] == [RateLimited]
