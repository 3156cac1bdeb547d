"""Answers of a type: told, found, validated, asked for again; and prompts that end meanwhile."""

from __future__ import annotations

import asyncio
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator

from agentq_nb import Actor, Queue, RateLimit, Retry
from agentq_nb._core.tagged_values import plain
from agentq_nb.agent_os import PromptResult, SessionEvent, agent_os, agents
from agentq_nb.agent_os.agents import AgentSession
from agentq_nb.errors import AgentqError, PromptFailed, ReplyInvalid, SessionUnknown, ValidationFailed
from tests.unit.agent_os.machine import Machine

GOOD = '{"summary": "fine", "stars": 5}'


class Review(BaseModel):
    summary: str
    stars: int = Field(ge=1, le=5)


class Node(BaseModel):
    """A type whose JSON Schema has references."""

    name: str
    children: list[Node] = []


@dataclass
class Point:
    x: float
    y: float


class Told:
    """An agent that gives one answer after the other, and keeps what it was told."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.prompts: list[str] = []
        self.instructions: list[str] = []
        self.schemas: list[Any] = []

    async def __call__(self, session: AgentSession, prompt: str) -> str:
        self.prompts.append(prompt)
        self.instructions.append(session.instructions)
        self.schemas.append(session.reply_schema)
        return self.answers[min(len(self.prompts), len(self.answers)) - 1]


def asked(agent: Any, folder: Path, reply: Any = Review) -> tuple[PromptResult | AgentqError, list[SessionEvent]]:
    """The result of one prompt, or its error, and the transcript."""

    async def program() -> tuple[PromptResult | AgentqError, list[SessionEvent]]:
        async with Machine(agent_os(agents=[agents.function(agent, name="one")]), folder) as vm:
            session = await vm.create_session("one")
            try:
                result = await vm.send_prompt(session.session_id, "Review it.", reply=reply)
            except AgentqError as error:
                result = error
            return result, await vm.session_events(session.session_id)

    return asyncio.run(program())


@pytest.mark.parametrize(
    ("answer", "reply", "expected"),
    [
        (GOOD, Review, Review(summary="fine", stars=5)),
        (f"I looked at it. {GOOD} That is all.", Review, Review(summary="fine", stars=5)),
        (f"```json\n{GOOD}\n```", Review, Review(summary="fine", stars=5)),
        ('{"summary": "draft", "stars": 1} or rather ' + GOOD, Review, Review(summary="fine", stars=5)),
        (GOOD + ' in the form {"summary": …, "stars": …}', Review, Review(summary="fine", stars=5)),
        (f'{{"review": {GOOD}}}', Review, Review(summary="fine", stars=5)),
        ('{"summary": "\N{SNOWMAN} \\ud83d\\ude00 \N{GRINNING FACE}", "stars": 3}', Review, None),
        ('{"name": "a", "children": [{"name": "b"}]}', Node, Node(name="a", children=[Node(name="b")])),
        ('{"x": 1, "y": 2.5}', Point, Point(1.0, 2.5)),
        ("The answer is 42.", int, 42),
        ("42", int, 42),
        ("```\n42\n```\nThat took 3 tries.", int, 42),
        ("It is:\n\n-1.5e3\n", float, -1500.0),
        ('"two words"', str, "two words"),
        ('["a", "b"]', list[str], ["a", "b"]),
        ('{"a": [1, 2]}', dict[str, list[int]], {"a": [1, 2]}),
        ('I say "bad".', Literal["good", "bad"], "bad"),
        ("Nothing was found: null", int | None, None),
        ('{"anything": [1, null]}', Any, {"anything": [1, None]}),
    ],
)
def test_the_answer_is_found_and_validated(answer: str, reply: Any, expected: Any, tmp_path: Path) -> None:
    agent = Told(answer)
    result, events = asked(agent, tmp_path, reply)
    assert isinstance(result, PromptResult), result
    if expected is None and reply is Review:
        expected = Review(summary="\N{SNOWMAN} \N{GRINNING FACE} \N{GRINNING FACE}", stars=3)
    assert result.reply == expected
    assert result.text == answer
    assert [event.type for event in events] == ["prompt", "text", "result"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("I could not do it.", "has no JSON value"),
        ('{"summary": "fine"}', "stars: Field required"),
        ('{"summary": "fine", "stars": 9}', "less than or equal to 5"),
        ('{"summary": "fine", "stars": 5', "ends within its JSON value"),
        (GOOD + '\nNo, I take that back:\n{"summary": "the final', "ends within its JSON value"),
        ('{"summary": "fine", "stars": 5,}', "Invalid JSON"),
        ('{"summary": "\\ud800", "stars": 5}', "hex escape"),
    ],
)
def test_an_answer_that_does_not_fit_is_asked_for_again_with_the_reason(
    answer: str, reason: str, tmp_path: Path
) -> None:
    agent = Told(answer, GOOD)
    result, events = asked(agent, tmp_path)
    assert isinstance(result, PromptResult)
    assert result.reply == Review(summary="fine", stars=5)
    assert agent.prompts[0] == "Review it."
    assert reason in agent.prompts[1]
    assert [event.type for event in events] == ["prompt", "text", "result"] * 2


def test_a_part_of_an_answer_that_does_not_fit_is_no_answer(tmp_path: Path) -> None:
    """The leaf of a tree is a tree."""
    broken = '{"name": "root", "children": [{"name": "leaf", "children": []}, {"name": 7}]}'
    cut = '{"name": "root", "children": [{"name": "leaf", "children": []}, {"na'
    agent = Told(broken, cut, '{"name": "root"}')
    result, _ = asked(agent, tmp_path, Node)
    assert isinstance(result, PromptResult)
    assert (result.reply, len(agent.prompts)) == (Node(name="root"), 3)


def test_several_numbers_in_a_sentence_are_not_guessed_from(tmp_path: Path) -> None:
    agent = Told("Of 10 files 3 are broken.", "3")
    result, _ = asked(agent, tmp_path, int)
    assert isinstance(result, PromptResult)
    assert result.reply == 3
    assert "not clear which is meant" in agent.prompts[1]


def test_an_infinite_number_is_asked_for_again(tmp_path: Path) -> None:
    result, _ = asked(Told("1e999", "1e9"), tmp_path, float)
    assert isinstance(result, PromptResult)
    assert math.isfinite(result.reply)


def test_the_agent_is_told_the_schema_each_time_and_the_prompt_is_as_it_was(tmp_path: Path) -> None:
    agent = Told("no", '{"name": "a"}')
    asked(agent, tmp_path, Node)
    assert agent.prompts[0] == "Review it."
    assert all('"$ref": "#/$defs/Node"' in told for told in agent.instructions)
    assert len(agent.instructions) == 2
    assert agent.schemas[0]["$defs"]["Node"]["required"] == ["name"]


def test_without_a_type_nothing_is_told(tmp_path: Path) -> None:
    agent = Told(GOOD)
    result, _ = asked(agent, tmp_path, None)
    assert isinstance(result, PromptResult)
    assert (result.reply, agent.instructions, agent.schemas) == (None, [""], [None])


def test_what_cannot_be_had_is_an_error_that_keeps_the_text(tmp_path: Path) -> None:
    agent = Told("first", "second", "never")
    error, events = asked(agent, tmp_path)
    assert isinstance(error, ReplyInvalid)
    assert error.full_code == "agent.reply_invalid"
    assert (error.metadata["text"], error.metadata["times"], error.metadata["reply"]) == ("never", 3, "Review")
    assert len(agent.prompts) == 3
    assert [event.text for event in events if event.type == "text"] == ["first", "second", "never"]
    assert events[-1].type == "error"
    assert "Review" in (events[-1].text or "")


def test_of_a_huge_answer_the_end_is_kept_and_it_is_still_searched(tmp_path: Path) -> None:
    error, _ = asked(Told("x" * 5_000_000 + "END"), tmp_path)
    assert isinstance(error, ReplyInvalid)
    assert error.metadata["text"].endswith("END")
    assert len(error.metadata["text"]) < 70_000
    (tmp_path / "other").mkdir()
    result, _ = asked(Told("[" + "{," * 2_000_000 + "\n```\n" + GOOD + "\n```"), tmp_path / "other")
    assert isinstance(result, PromptResult)
    assert result.reply == Review(summary="fine", stars=5)


def test_secrets_in_an_answer_are_redacted_in_its_reply(tmp_path: Path) -> None:
    secret = "sk-0123456789abcdef"

    async def program() -> None:
        async with Machine(agent_os(agents=[agents.function(Told(f'["{secret}"]'), name="one")]), tmp_path) as vm:
            session = await vm.create_session("one", env={"KEY": secret})
            result = await vm.send_prompt(session.session_id, "go", reply=list[str])
            assert result.reply == ["[redacted KEY]"]

    asyncio.run(program())


@pytest.mark.parametrize("reply", [5, {"type": "object"}, "Review", Callable[[], int]])
def test_what_is_no_type_is_refused_before_the_agent_is_asked(reply: Any, tmp_path: Path) -> None:
    agent = Told(GOOD)
    error, events = asked(agent, tmp_path, reply)
    assert isinstance(error, ValidationFailed)
    assert "reply takes a type" in error.message
    assert (agent.prompts, events) == ([], [])


def test_the_usage_and_the_tool_calls_of_all_turns_are_in_the_result(tmp_path: Path) -> None:
    async def counting(session: AgentSession, prompt: str) -> Any:
        yield {"type": "tool_call", "text": prompt}
        yield GOOD if session.history else "not yet"
        yield {"type": "result", "usage": {"input_tokens": 10, "model": "m"}}

    result, _ = asked(counting, tmp_path)
    assert isinstance(result, PromptResult)
    assert result.usage == {"input_tokens": 20, "model": "m"}
    assert len(result.tool_calls) == 2


def test_a_result_with_a_reply_can_be_pickled_and_sent_to_other_programs(tmp_path: Path) -> None:
    result, _ = asked(Told(GOOD), tmp_path)
    assert pickle.loads(pickle.dumps(result)) == result
    assert plain(result, "The result")["reply"] == {"summary": "fine", "stars": 5}


def test_a_validator_says_why(tmp_path: Path) -> None:
    class Even(BaseModel):
        number: int

        @field_validator("number")
        @classmethod
        def even(cls, number: int) -> int:
            if number % 2:
                raise ValueError("take an even number")
            return number

    agent = Told('{"number": 3}', '{"number": 4}')
    result, _ = asked(agent, tmp_path, Even)
    assert isinstance(result, PromptResult)
    assert result.reply.number == 4
    assert "take an even number" in agent.prompts[1]


def test_the_shell_is_not_asked_again(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(agents=[agents.shell], isolation="off"), tmp_path) as vm:
            session = await vm.create_session("shell")
            result = await vm.send_prompt(session.session_id, "```sh\necho '[1, 2]'\n```", reply=list[int])
            assert result.reply == [1, 2]
            with pytest.raises(ReplyInvalid, match="was asked once"):
                await vm.send_prompt(session.session_id, "```sh\necho no\n```", reply=list[int])

    asyncio.run(program())


# --- what ends a prompt between its questions ---------------------------------------------------------------------------


class Slow:
    """An agent whose first answer does not fit, and whose second one never comes."""

    def __init__(self) -> None:
        self.asked_again = asyncio.Event()
        self.ended = asyncio.Event()
        self.times = 0

    async def __call__(self, session: AgentSession, prompt: str) -> str:
        self.times += 1
        if self.times == 1:
            return "not yet"
        self.asked_again.set()
        try:
            await asyncio.sleep(600)
        finally:
            self.ended.set()
        return GOOD


async def begin_to_ask_again(vm: Machine, slow: Slow) -> tuple[str, asyncio.Future[Any]]:
    """A session, and a prompt in it whose first answer was wrong, and which the agent is asked again now."""
    session = await vm.create_session("slow")
    prompt = asyncio.ensure_future(vm.send_prompt(session.session_id, "go", reply=Review))
    await slow.asked_again.wait()
    return session.session_id, prompt


def test_a_cancel_while_it_is_asked_again_ends_the_prompt(tmp_path: Path) -> None:
    async def program() -> None:
        slow = Slow()
        async with Machine(agent_os(agents=[agents.function(slow, name="slow")]), tmp_path) as vm:
            session, prompt = await begin_to_ask_again(vm, slow)
            assert await vm.cancel_prompt(session)
            result = await prompt
            assert (result.stop_reason, result.reply, slow.times) == ("cancelled", None, 2)
            assert not await vm.cancel_prompt(session)

    asyncio.run(program())


def test_a_cancel_between_two_questions_ends_the_prompt(tmp_path: Path) -> None:
    """Cancelled at the end of its first turn, when the agent does nothing."""

    async def program() -> None:
        agent = Told("not yet", GOOD)
        async with Machine(agent_os(agents=[agents.function(agent, name="one")]), tmp_path) as vm:
            session = await vm.create_session("one")
            cancels: list[Any] = []

            def listen(event: SessionEvent) -> None:
                if event.type == "result" and not cancels:
                    cancels.append(asyncio.ensure_future(vm.cancel_prompt(session.session_id)))

            vm.registry.host.listen(vm.actor_id, "session_event", listen)
            result = await vm.send_prompt(session.session_id, "go", reply=Review)
            assert await cancels[0]
            assert (result.stop_reason, result.reply, len(agent.prompts)) == ("cancelled", None, 1)
            again = await vm.send_prompt(session.session_id, "go", reply=Review)
            assert again.reply == Review(summary="fine", stars=5)

    asyncio.run(program())


def test_a_session_that_is_closed_between_two_questions_is_not_asked_again(tmp_path: Path) -> None:
    async def program() -> None:
        slow = Slow()
        async with Machine(agent_os(agents=[agents.function(slow, name="slow")]), tmp_path) as vm:
            session, prompt = await begin_to_ask_again(vm, slow)
            await vm.close_session(session)
            assert (await prompt).stop_reason == "cancelled"
            with pytest.raises(SessionUnknown):
                await vm.send_prompt(session, "go", reply=Review)

    asyncio.run(program())


def test_no_other_prompt_comes_between_two_questions(tmp_path: Path) -> None:
    async def program() -> None:
        agent = Told("not yet", GOOD)
        async with Machine(agent_os(agents=[agents.function(agent, name="one")]), tmp_path) as vm:
            session = await vm.create_session("one")
            both = [vm.send_prompt(session.session_id, word, reply=Review) for word in ("first", "second")]
            await asyncio.gather(*map(asyncio.ensure_future, both))
            assert [prompt[:11] for prompt in agent.prompts] == ["first", "Your answer", "second"]

    asyncio.run(program())


def test_each_question_counts_as_a_start_of_a_prompt(tmp_path: Path) -> None:
    async def program() -> None:
        agent = Told("not yet", GOOD)
        limit = RateLimit(2, per=3600, name="prompts")
        cls = agent_os(agents=[agents.function(agent, name="one")], limits=[limit])
        async with Machine(cls, tmp_path) as vm:
            session = await vm.create_session("one")
            await vm.send_prompt(session.session_id, "go", reply=Review)
            (status,) = [each for each in vm.registry.host.broker.limits.status() if each.name == "prompts"]
            assert status.used == 2

    asyncio.run(program())


class Reviewer(Actor):
    """Asks for a review of each message; the handler's time is limited."""

    reviews = Queue(str, reply=Review, retry=Retry(attempts=1), handler_timeout=0.5)

    @reviews.handler
    async def review(self, text: str) -> Review:
        vm = self.actors.vm.get_or_create(["a"])
        session = await vm.create_session("one")
        return (await vm.send_prompt(session.session_id, text, reply=Review)).reply


def test_a_handler_whose_time_is_over_while_it_is_asked_again_fails_its_attempt(tmp_path: Path) -> None:
    async def program() -> None:
        slow = Slow()
        cls = agent_os(agents=[agents.function(slow, name="one")])
        async with Machine(cls, tmp_path, reviewer=Reviewer) as vm:
            result = await vm.actor("reviewer").send("reviews", "go", wait=True)
            assert (result.status, result.error["code"]) == ("failed", "handler_timed_out")
            assert slow.ended.is_set()
            assert slow.times == 2

    asyncio.run(program())


def test_a_message_whose_answer_cannot_be_had_fails_with_its_text(tmp_path: Path) -> None:
    async def program() -> None:
        cls = agent_os(agents=[agents.function(Told("never"), name="one")])
        async with Machine(cls, tmp_path, reviewer=Reviewer) as vm:
            result = await vm.actor("reviewer").send("reviews", "go", wait=True)
            assert (result.status, result.error["code"]) == ("failed", "reply_invalid")
            assert result.error["metadata"]["text"] == "never"

    asyncio.run(program())


def test_an_agent_that_fails_when_asked_again_fails_the_prompt(tmp_path: Path) -> None:
    async def failing(session: AgentSession, prompt: str) -> str:
        if session.history:
            raise RuntimeError("out of words")
        return "not yet"

    error, _ = asked(failing, tmp_path)
    assert isinstance(error, PromptFailed)
    assert "out of words" in error.message


def test_the_reason_that_an_agent_is_told_is_short(tmp_path: Path) -> None:
    class Long(BaseModel):
        number: int

        @field_validator("number")
        @classmethod
        def refuse(cls, number: int) -> int:
            raise ValueError("no " * 10_000)

    agent = Told('{"number": 1}')
    asked(agent, tmp_path, Long)
    assert 1000 < len(agent.prompts[1]) < 3000
