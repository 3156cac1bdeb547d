"""The proxy before a VM's language models: it counts what they count, passes everything on as it comes, and keeps the key."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from agentq_nb import LLM, Actor, Queue, agent_os, agents
from agentq_nb.agent_os import VM
from agentq_nb.agent_os.meter.llm import STYLES, Provider
from agentq_nb.errors import ValidationFailed
from tests.agents.fake_llm import FakeModel, Tokens, serving
from tests.unit.agent_os.machine import Machine

KEY = "sk-the-real-key-0123456789abcdef"
USAGE = "select model, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens from usage order by time"
BODIES: dict[str, dict[str, Any]] = {
    "/v1/messages": {
        "model": "claude-sonnet-4-5",
        "max_tokens": 99,
        "messages": [{"role": "user", "content": "@say hello you"}],
    },
    "/responses": {"model": "gpt-5", "input": [{"role": "user", "content": "@say hello you"}]},
    "/chat/completions": {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "@say hello you"}]},
    "/v1beta/models/gemini-2.5-flash:generateContent": {
        "contents": [{"role": "user", "parts": [{"text": "@say hello you"}]}]
    },
}
PROVIDERS: dict[str, Provider] = {
    "/v1/messages": "anthropic",
    "/responses": "openai",
    "/chat/completions": "openai",
    "/v1beta/models/gemini-2.5-flash:generateContent": "gemini",
}
HEADERS: dict[Provider, Callable[[str], dict[str, str]]] = {
    "anthropic": lambda token: {"x-api-key": token},
    "openai": lambda token: {"authorization": f"Bearer {token}"},
    "gemini": lambda token: {"x-goog-api-key": token},
}


def llm(model: FakeModel, provider: Provider = "anthropic", **options: Any) -> LLM:
    path = "/v1" if provider == "openai" else ""
    return LLM(provider, KEY, base_url=f"{model.url}{path}", **options)


def vm_of(function: Callable[..., Any], *models: LLM, **options: Any) -> type[VM]:
    return agent_os(agents=[agents.function(function, name="caller")], llm=models, isolation="off", **options)


def place(env: Any, path: str) -> str:
    return f"{env[STYLES[PROVIDERS[path]].base_url_variables[0]]}{path}"


def credential(env: Any, path: str) -> dict[str, str]:
    return HEADERS[PROVIDERS[path]](env[STYLES[PROVIDERS[path]].key])


def run_with(
    program: Callable[[Machine, FakeModel], Awaitable[None]],
    folder: Path,
    function: Callable[..., Any],
    *providers: Provider,
    options: dict[str, Any] | None = None,
    **others: Any,
) -> None:
    async def whole(model: FakeModel) -> None:
        models = [llm(model, provider, **(options or {})) for provider in providers or ("anthropic",)]
        async with Machine(vm_of(function, *models), folder, **others) as vm:
            await program(vm, model)

    with serving() as model:
        model.varies = True
        asyncio.run(whole(model))


async def counted(vm: Machine) -> list[Tokens]:
    return [Tokens(*row) for row in (await vm.registry.sql(USAGE)).rows]


@pytest.mark.parametrize("streams", [True, False], ids=["streaming", "whole"])
@pytest.mark.parametrize("path", BODIES)
def test_the_counts_are_those_of_the_model_and_the_answer_is_byte_for_byte_its_own(
    path: str, streams: bool, tmp_path: Path
) -> None:
    got: list[bytes] = []
    asked = path.replace(":generateContent", ":streamGenerateContent") if streams else path

    async def caller(session: Any, prompt: str) -> str:
        body = BODIES[path] | ({"stream": True} if streams and PROVIDERS[path] != "gemini" else {})
        if streams and path == "/chat/completions":
            body = body | {"stream_options": {"include_usage": True}}
        async with httpx2.AsyncClient() as client:
            for url, headers in (
                (place(session.env, path).replace(path, asked), credential(session.env, path)),
                (f"{program.model.url}{'/v1' if PROVIDERS[path] == 'openai' else ''}{asked}", {}),
            ):
                answer = await client.post(url, json=body, headers=headers)
                assert answer.status_code == 200, answer.text
                got.append(answer.content)
        return "done"

    class Program:
        model: FakeModel

        async def __call__(self, vm: Machine, model: FakeModel) -> None:
            self.model = model
            session = await vm.create_session("caller")
            result = await vm.send_prompt(session.session_id, "go")
            assert result.usage["output_tokens"] == model.counted[0].output
            assert await counted(vm) == [
                tokens
                if PROVIDERS[path] == "anthropic"
                else Tokens(tokens.model, tokens.input, tokens.output, tokens.cache_read)
                for tokens in model.counted[:1]
            ]
            assert model.keys == {KEY, ""}

    program = Program()
    run_with(program, tmp_path, caller, PROVIDERS[path])
    through, direct = (_without_numbers(answer) for answer in got)
    assert through == direct


def _without_numbers(answer: bytes) -> bytes:
    """An answer without what differs between two: its number of tokens, and its id."""
    return re.sub(rb"\d+", b"0", answer)


def test_a_stream_comes_as_it_is_written_and_not_at_its_end(tmp_path: Path) -> None:
    async def caller(session: Any, prompt: str) -> AsyncIterator[str]:
        body = BODIES["/v1/messages"] | {"stream": True}
        body |= {"messages": [{"role": "user", "content": "@slow 0.2\n@say one two three four five"}]}
        came: list[float] = []
        async with (
            httpx2.AsyncClient() as client,
            client.stream(
                "POST", place(session.env, "/v1/messages"), json=body, headers=credential(session.env, "/v1/messages")
            ) as answer,
        ):
            async for _ in answer.aiter_raw():
                came.append(time.monotonic())
        yield str(came[-1] - came[0] > 0.5 and len(came) > 5)

    async def program(vm: Machine, model: FakeModel) -> None:
        session = await vm.create_session("caller")
        assert (await vm.send_prompt(session.session_id, "go")).text == "True"

    run_with(program, tmp_path, caller)


def test_an_agent_that_does_not_ask_for_tokens_is_counted_and_sees_no_event_about_them(tmp_path: Path) -> None:
    got: list[str] = []

    async def caller(session: Any, prompt: str) -> str:
        path = "/chat/completions"
        async with httpx2.AsyncClient() as client:
            body = BODIES[path] | {"stream": True}
            answer = await client.post(place(session.env, path), json=body, headers=credential(session.env, path))
            got.append(answer.text)
        return "done"

    async def program(vm: Machine, model: FakeModel) -> None:
        session = await vm.create_session("caller")
        await vm.send_prompt(session.session_id, "go")
        assert [tokens.output for tokens in await counted(vm)] == [tokens.output for tokens in model.counted]
        assert json.loads(model.bodies[0])["stream_options"] == {"include_usage": True}

    run_with(program, tmp_path, caller, "openai")
    events = [json.loads(line[6:]) for line in got[0].splitlines() if line.startswith("data: {")]
    assert [event["choices"][0]["delta"]["content"].strip() for event in events] == ["hello", "you"]
    assert got[0].endswith("data: [DONE]\n\n")


def test_a_token_is_good_for_its_vm_and_its_session_and_only_until_that_is_closed(tmp_path: Path) -> None:
    envs: list[dict[str, str]] = []

    async def caller(session: Any, prompt: str) -> str:
        envs.append(dict(session.env))
        return "done"

    async def program(vm: Machine, model: FakeModel) -> None:
        other = vm.registry.host.client.vm.get_or_create(("other",))
        for machine in (vm, other):
            session = await machine.create_session("caller")
            await machine.send_prompt(session.session_id, "go")
        mine, foreign = envs
        path = "/v1/messages"
        async with httpx2.AsyncClient() as client:

            async def status(env: dict[str, str], token: str, path: str = path) -> int:
                url = f"{env['ANTHROPIC_BASE_URL']}{path}"
                return (await client.post(url, json=BODIES["/v1/messages"], headers={"x-api-key": token})).status_code

            token = mine["ANTHROPIC_API_KEY"]
            assert await status(mine, token) == 200
            assert await status(foreign, token) == 401
            assert await status(mine, foreign["ANTHROPIC_API_KEY"]) == 401
            for wrong in ("", token[:-1], f"{token}x", KEY):
                assert await status(mine, wrong) == 401
            for place in ("/v1/messages/batches", "/v1/files", "/v1/../v1/messages", "/v1/messages/../files", ""):
                assert await status(mine, token, place) in (403, 200 if place == "/v1/../v1/messages" else 403)
            await vm.close_session((await vm.list_sessions())[0].session_id)
            assert await status(mine, token) == 401
            assert await status(foreign, foreign["ANTHROPIC_API_KEY"]) == 200
            await vm.sleep()
            with pytest.raises(httpx2.ConnectError):
                await status(mine, token)
        assert set(model.paths) == {path}
        assert model.keys == {KEY}

    run_with(program, tmp_path, caller)


def test_each_request_counts_for_the_message_the_queue_and_the_batch_it_was_made_for(tmp_path: Path) -> None:
    async def caller(session: Any, prompt: str) -> str:
        path = "/v1/messages"
        async with httpx2.AsyncClient() as client:
            for _ in range(int(prompt)):
                await client.post(place(session.env, path), json=BODIES[path], headers=credential(session.env, path))
        return "done"

    class Worker(Actor):
        tasks = Queue(str, concurrency=2)

        @tasks.handler
        async def work(self, task: str) -> None:
            vm = self.actors.vm.get_or_create(["a"])
            session = await vm.create_session("caller")
            await vm.send_prompt(session.session_id, task)

    async def program(vm: Machine, model: FakeModel) -> None:
        worker = vm.actor("worker")
        alone = await worker.send("tasks", "3")
        await alone.result(timeout=60)
        batch = await worker.send_many("tasks", ["1", "2"], name="two")
        await batch
        session = await vm.create_session("caller")
        await vm.send_prompt(session.session_id, "1")
        rows = (
            await vm.registry.sql(
                "select message_id, worker, queue, batch, session_id, status from usage order by time"
            )
        ).rows
        ids = [row[0] for row in rows]
        assert ids[:3] == [alone.id] * 3
        assert sorted(map(ids[3:6].count, set(ids[3:6]))) == [1, 2]
        assert ids[6] is None
        assert [row[1:4] for row in rows] == [
            *[("worker/x", "tasks", None)] * 3,
            *[("worker/x", "tasks", "two")] * 3,
            (None, None, None),
        ]
        assert rows[6][4] == session.session_id
        assert {row[5] for row in rows} == {200}

    run_with(program, tmp_path, caller, worker=Worker)


def test_a_request_that_its_agent_gives_up_is_ended_at_the_model_and_counted_as_far_as_it_came(tmp_path: Path) -> None:
    async def caller(session: Any, prompt: str) -> str:
        path = "/v1/messages"
        body = BODIES[path] | {
            "stream": True,
            "messages": [{"role": "user", "content": "@slow 0.3\n@say a b c d e f g h i j"}],
        }
        async with (
            httpx2.AsyncClient() as client,
            client.stream("POST", place(session.env, path), json=body, headers=credential(session.env, path)) as answer,
        ):
            async for _ in answer.aiter_raw():
                return "enough"
        raise AssertionError

    async def program(vm: Machine, model: FakeModel) -> None:
        session = await vm.create_session("caller")
        assert (await vm.send_prompt(session.session_id, "go")).text == "enough"
        async with asyncio.timeout(10):
            while not (rows := (await vm.registry.sql("select complete, status, input_tokens from usage")).rows):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert rows == [(False, 200, model.counted[0].input)]

    run_with(program, tmp_path, caller)


def test_agents_reach_their_model_while_a_cell_blocks_the_kernel(tmp_path: Path) -> None:
    started = threading.Event()
    answered: list[int] = []

    def caller(session: Any, prompt: str) -> str:
        path = "/v1/messages"
        started.set()
        with httpx2.Client() as client:
            answer = client.post(place(session.env, path), json=BODIES[path], headers=credential(session.env, path))
        answered.append(answer.status_code)
        return "done"

    async def program(vm: Machine, model: FakeModel) -> None:
        session = await vm.create_session("caller")
        await vm.send_prompt(session.session_id, "go")
        started.clear()
        prompt = asyncio.ensure_future(vm.send_prompt(session.session_id, "go"))
        while not started.is_set():  # noqa: ASYNC110  # a thread sets it
            await asyncio.sleep(0)
        until = time.monotonic() + 30
        while len(answered) < 2 and time.monotonic() < until:
            time.sleep(0.01)  # noqa: ASYNC251  # it is what a cell does
        assert answered == [200, 200]
        await prompt

    run_with(program, tmp_path, caller)


def test_a_request_whose_answer_nothing_would_count_is_refused(tmp_path: Path) -> None:
    async def caller(session: Any, prompt: str) -> str:
        path = "/responses"
        body = BODIES[path] | {"background": True}
        async with httpx2.AsyncClient() as client:
            answer = await client.post(place(session.env, path), json=body, headers=credential(session.env, path))
        return f"{answer.status_code} {answer.json()['error']['message']}"

    async def program(vm: Machine, model: FakeModel) -> None:
        session = await vm.create_session("caller")
        said = (await vm.send_prompt(session.session_id, "go")).text
        assert said == "403 Requests in the background are not passed on: nothing counts them."
        assert model.bodies == []

    run_with(program, tmp_path, caller, "openai")


def test_a_model_that_is_not_reached_is_an_error_that_says_so(tmp_path: Path) -> None:
    async def caller(session: Any, prompt: str) -> str:
        path = "/v1/messages"
        async with httpx2.AsyncClient() as client:
            answer = await client.post(
                place(session.env, path), json=BODIES[path], headers=credential(session.env, path)
            )
        return f"{answer.status_code} {answer.json()['error']['message']}"

    async def whole() -> None:
        model = LLM("anthropic", KEY, base_url="http://127.0.0.1:9")
        async with Machine(vm_of(caller, model), tmp_path) as vm:
            session = await vm.create_session("caller")
            said = (await vm.send_prompt(session.session_id, "go")).text
            assert said.startswith("502 http://127.0.0.1:9 could not be reached: [Errno 111] Connect")
            assert (await vm.registry.sql("select status, complete, cost from usage")).rows == [(None, False, None)]

    asyncio.run(whole())


def test_a_key_in_env_is_refused_where_the_vm_has_a_model(tmp_path: Path) -> None:
    async def caller(session: Any, prompt: str) -> str:
        return "never"

    async def program(vm: Machine, model: FakeModel) -> None:
        for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"):
            with pytest.raises(ValidationFailed, match=f"Leave {name} out of env"):
                await vm.create_session("caller", env={name: "sk-something-else"})
        await vm.create_session("caller", env={"OPENAI_API_KEY": "sk-something-else"})

    run_with(program, tmp_path, caller)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"provider": "mistral"}, "one of 'anthropic', 'openai', 'gemini'"),
        ({"key": ""}, "has no key"),
        ({"key": "two\nlines"}, "has no key"),
        ({"base_url": "localhost:80"}, "is a URL"),
        ({"requests_per_minute": 0}, "whole number"),
        ({"tokens_per_minute": 1.5}, "whole number"),
        ({"prices": {"m": {"input": 1}}}, "needs 'input' and 'output'"),
        ({"prices": {"m": {"input": 1, "output": -1}}}, "needs 'input' and 'output'"),
        ({"prices": {"m": 3}}, "has prices by model"),
        ({"budget": 20}, "is a Budget"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_model_is_said_without_its_key(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as wrong:
        LLM(**{"provider": "anthropic", "key": KEY, **options})
    assert KEY not in str(wrong.value)


def test_a_vm_takes_models_of_different_kinds_and_a_network_that_reaches_them() -> None:
    model = LLM("anthropic", KEY)
    for wrong, says in (
        ([model, model], "one language model of each kind"),
        ("anthropic", "llm takes language models"),
    ):
        with pytest.raises(TypeError, match=says):
            agent_os(llm=wrong)  # type: ignore[arg-type]  # it is wrong
    with pytest.raises(TypeError, match="reaches no language model"):
        agent_os(llm=model, network="none")
    assert agent_os(llm=[model, LLM("openai", KEY)]).language_models()[0] is model


def test_a_model_takes_its_key_from_the_environment_and_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert LLM("openai").key == KEY
    assert KEY not in repr(LLM("openai"))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ValueError, match="set OPENAI_API_KEY"):
        LLM("openai")
