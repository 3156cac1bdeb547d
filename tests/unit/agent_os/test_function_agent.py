"""Python functions as agents: every kind, what they may give, how they fail and how they are stopped."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agentq_nb._core.redaction import Redactor
from agentq_nb.agent_os import PromptResult, SessionEvent, agent_os, agents
from agentq_nb.agent_os.agents import AgentEvent, AgentSession
from agentq_nb.errors import PromptFailed
from tests.unit.agent_os.machine import Machine


def prompted(f: Any, folder: Path, text: str = "go", **env: str) -> tuple[PromptResult, list[SessionEvent]]:
    """The result of one prompt to the function, and the transcript."""

    async def program() -> tuple[PromptResult, list[SessionEvent]]:
        async with Machine(agent_os(agents=[agents.function(f, name="pi")]), folder) as vm:
            session = await vm.create_session("pi", env=env)
            result = await vm.send_prompt(session.session_id, text)
            return result, await vm.session_events(session.session_id)

    return asyncio.run(program())


class Bound:
    """Methods as agents."""

    def one(self, prompt: str) -> str:
        return prompt

    def two(self, session: AgentSession, prompt: str) -> str:
        return prompt


async def generator(session: AgentSession, prompt: str):
    yield "gen"
    yield {"type": "text", "text": "erator "}
    yield AgentEvent("text", prompt)


async def coroutine(session: AgentSession, prompt: str) -> str:
    await asyncio.sleep(0)
    return f"coroutine {prompt}"


def plain(session: AgentSession, prompt: str) -> str:
    assert threading.current_thread() is not threading.main_thread()
    return f"plain {prompt}"


class Called:
    async def __call__(self, session: AgentSession, prompt: str) -> str:
        return f"object {prompt}"

    async def method(self, session: AgentSession, prompt: str):
        yield f"method {prompt}"


async def with_more(word: str, session: AgentSession, prompt: str) -> str:
    return f"{word} {prompt}"


@pytest.mark.parametrize(
    ("f", "text"),
    [
        (generator, "generator go"),
        (coroutine, "coroutine go"),
        (plain, "plain go"),
        (Called(), "object go"),
        (Called().method, "method go"),
        (functools.partial(with_more, "partial"), "partial go"),
        (lambda session, prompt: coroutine(session, prompt), "coroutine go"),
        (lambda session, prompt: generator(session, prompt), "generator go"),
        (lambda session, prompt: None, ""),
    ],
)
def test_every_kind_of_function_answers(f: Any, text: str, tmp_path: Path) -> None:
    result, events = prompted(f, tmp_path)
    assert (result.text, result.stop_reason) == (text, "end_turn")
    assert "".join(event.text or "" for event in events if event.type == "text") == text


def test_tool_calls_usage_and_stop_reason_are_passed_on(tmp_path: Path) -> None:
    async def f(session: AgentSession, prompt: str):
        yield {"type": "tool_call", "tool": "read", "path": "a.py"}
        yield {"type": "tool_result", "text": "3 lines"}
        yield {"type": "note", "text": "thinking"}
        yield "done"
        yield {"type": "result", "stop_reason": "max_tokens", "usage": {"input_tokens": 5}, "cost": 0.25}

    result, events = prompted(f, tmp_path)
    assert result.tool_calls == ({"text": None, "tool": "read", "path": "a.py"},)
    assert (result.text, result.stop_reason, result.usage) == ("done", "max_tokens", {"input_tokens": 5})
    assert [(event.type, event.text) for event in events[1:]] == [
        ("tool_call", None),
        ("tool_result", "3 lines"),
        ("note", "thinking"),
        ("text", "done"),
        ("result", None),
    ]
    assert events[-1].data == {"stop_reason": "max_tokens", "usage": {"input_tokens": 5}, "cost": 0.25}


def test_the_session_gives_place_files_environment_and_history(tmp_path: Path) -> None:
    async def f(session: AgentSession, prompt: str) -> str:
        assert session.root.is_dir()
        assert session.cwd == session.root
        assert session.env == {"KEY": "value-of-key"}
        session.write("/home/user/src/auth.py", "x = 1")
        assert (session.root / "src" / "auth.py").read_bytes() == session.read("src/auth.py") == b"x = 1"
        ran = await session.exec("echo $KEY; ls src")
        return f"{len(session.history)} {ran.exit_code} {ran.stdout}"

    result, _ = prompted(f, tmp_path, KEY="value-of-key")
    assert result.text == "0 0 [redacted KEY]\nauth.py\n"


def broken_coroutine(session: AgentSession, prompt: str) -> Any:
    async def fails() -> str:
        raise LookupError("no such model")

    return fails()


async def broken_generator(session: AgentSession, prompt: str):
    yield "so far"
    raise LookupError("no such model")


def broken_plain(session: AgentSession, prompt: str) -> str:
    raise LookupError("no such model")


@pytest.mark.parametrize("f", [broken_coroutine, broken_generator, broken_plain])
def test_an_agent_that_raises_fails_the_prompt_with_its_cause_and_the_session_goes_on(f: Any, tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(agents=[agents.function(f, name="pi")]), tmp_path) as vm:
            session = await vm.create_session("pi")
            for _ in range(2):
                with pytest.raises(
                    PromptFailed, match=r"'pi' failed in session .* LookupError: no such model"
                ) as failed:
                    await vm.send_prompt(session.session_id, "go")
                assert isinstance(failed.value.__cause__, LookupError)
            error = (await vm.session_events(session.session_id))[-1]
            assert (error.type, error.text) == ("error", "LookupError: no such model")
            assert 'raise LookupError("no such model")' in error.data["traceback"]
            assert "agentq_nb" not in error.data["traceback"].replace(__file__, "")
            assert (await vm.get_session(session.session_id)).status == "open"

    asyncio.run(program())


async def leaves(session: AgentSession, prompt: str) -> str:
    sys.exit("I am off")


def leaves_its_thread(session: AgentSession, prompt: str) -> str:
    sys.exit("I am off")


@pytest.mark.parametrize("f", [leaves, leaves_its_thread])
def test_an_agent_that_exits_has_failed_like_any_other(f: Any, tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(agents=[agents.function(f, name="pi")]), tmp_path) as vm:
            session = await vm.create_session("pi")
            with pytest.raises(PromptFailed, match=r"'pi' failed in session .* SystemExit: I am off"):
                await vm.send_prompt(session.session_id, "go")
            assert [event.type for event in await vm.session_events(session.session_id)] == ["prompt", "error"]

    asyncio.run(program())


async def circular(session: AgentSession, prompt: str):
    ring: list[Any] = []
    ring.append(ring)
    yield {"type": "note", "ring": ring}


async def gives(value: Any, session: AgentSession, prompt: str):
    yield value


@pytest.mark.parametrize(
    "value",
    [
        5,
        None,
        b"bytes",
        {"text": "no type"},
        {"type": "prompt"},
        {"type": "text", "text": 5},
        {"type": "note", "x": {1}},
    ],
)
def test_what_is_no_event_fails_the_prompt_saying_so(value: Any, tmp_path: Path) -> None:
    with pytest.raises(PromptFailed, match="TypeError"):
        prompted(functools.partial(gives, value), tmp_path)


@pytest.mark.parametrize("value", [{"type": "note", "x": float("nan")}, {"type": "result", "usage": object()}])
def test_what_is_no_json_fails_the_prompt_saying_so(value: Any, tmp_path: Path) -> None:
    for f in (functools.partial(gives, value), circular):
        with pytest.raises(PromptFailed, match="TypeError"):
            prompted(f, tmp_path)


def test_a_function_that_returns_no_text_fails_saying_so(tmp_path: Path) -> None:
    with pytest.raises(PromptFailed, match="returns its text as str"):
        prompted(lambda session, prompt: 5, tmp_path)


def test_text_that_no_database_takes_is_stored_all_the_same(tmp_path: Path) -> None:
    async def f(session: AgentSession, prompt: str):
        yield "nul \0, surrogate \ud800, literal \\u0000"
        yield {"type": "note", "text": "\0", "x\0": ["\udfff"]}

    _, events = prompted(f, tmp_path)
    assert events[1].text == "nul \u2400, surrogate ?, literal \\u0000"
    assert events[2].data == {"x\u2400": ["?"]}


def test_three_thousand_pieces_come_in_order(tmp_path: Path) -> None:
    async def f(session: AgentSession, prompt: str):
        for number in range(3000):
            yield f"{number} "

    result, events = prompted(f, tmp_path)
    assert result.text == "".join(f"{number} " for number in range(3000))
    assert "".join(event.text or "" for event in events if event.type == "text") == result.text
    assert [event.index for event in events] == list(range(1, 3003))


def test_a_plain_function_is_told_that_it_was_cancelled(tmp_path: Path) -> None:
    begun, noticed = threading.Event(), threading.Event()

    def f(session: AgentSession, prompt: str) -> str:
        begun.set()
        if session.stopped.wait(30):
            assert session.cancelled
            noticed.set()
        return "too late"

    async def program() -> None:
        async with Machine(agent_os(agents=[agents.function(f)]), tmp_path) as vm:
            session = await vm.create_session("f")
            sending = asyncio.create_task(vm.send_prompt(session.session_id, "go"))
            await asyncio.to_thread(begun.wait)
            await vm.cancel_prompt(session.session_id)
            assert (await sending).stop_reason == "cancelled"

    asyncio.run(program())
    assert noticed.wait(10)


def test_cancelling_runs_the_generators_finally(tmp_path: Path) -> None:
    cleaned: list[str] = []

    async def program() -> None:
        begun = asyncio.Event()

        async def f(session: AgentSession, prompt: str):
            try:
                yield "x"
                begun.set()
                await asyncio.sleep(600)
            finally:
                cleaned.append("yes")

        async with Machine(agent_os(agents=[agents.function(f)]), tmp_path) as vm:
            session = await vm.create_session("f")
            sending = asyncio.create_task(vm.send_prompt(session.session_id, "go"))
            await begun.wait()
            await vm.cancel_prompt(session.session_id)
            await sending
            assert cleaned == ["yes"]

    asyncio.run(program())


def test_the_secrets_of_a_long_answer_are_looked_for_off_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def f(session: AgentSession, prompt: str):
        for _ in range(20):
            yield "x" * 100_000
        yield "sk-12345678"

    looks: list[bool] = []
    look = Redactor.text

    def noting(redactor: Redactor, text: str) -> str:
        if len(text) > 1_000_000:
            looks.append(threading.current_thread() is threading.main_thread())
        return look(redactor, text)

    monkeypatch.setattr(Redactor, "text", noting)
    result, _ = prompted(f, tmp_path, KEY="sk-12345678")
    assert result.text.endswith("x[redacted KEY]")
    assert looks == [False]


def test_what_is_no_agent_is_refused_at_once() -> None:
    def yields(session: AgentSession, prompt: str):
        yield "x"

    with pytest.raises(TypeError, match="async def"):
        agents.function(yields)
    with pytest.raises(TypeError, match="takes a function"):
        agents.function("pi")  # type: ignore[arg-type]
    assert agents.function(coroutine).name == "coroutine"
    assert agents.function(coroutine, name="pi").check()
    assert repr(agents.function(coroutine, name="pi")) == "agents.function(coroutine, name='pi')"


@pytest.mark.parametrize(
    "wrong",
    [lambda prompt: prompt, lambda: "", lambda session, prompt, more: "", lambda session, *, prompt: "", Bound().one],
)
def test_a_function_that_cannot_be_called_with_a_session_and_a_prompt_is_refused_when_declared(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"a session and a prompt.*does not take.*\(session, prompt\): \.\.\."):
        agents.function(wrong)


@pytest.mark.parametrize("right", [lambda *both: "", lambda session, prompt, more=1: "", Bound().two, max])
def test_a_function_that_can_is_taken(right: Any) -> None:
    assert agents.function(right, name="right").name == "right"
