"""Agent libraries for Python as agents of a VM: a few lines each, with the VM's files, its shell, and the notebook's tools.

The functions here are the whole adapters. Both libraries speak to a model on loopback, over HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, OpenAIResponsesModel, RunConfig, Runner, function_tool
from openai import AsyncOpenAI
from pydantic_ai import (
    Agent as PydanticAgent,
)
from pydantic_ai import (
    AgentRunResultEvent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
)
from pydantic_ai.models.openai import OpenAIResponsesModel as PydanticModel
from pydantic_ai.providers.openai import OpenAIProvider

from agentq_nb import agent_os, agents
from agentq_nb.agent_os.agents import AgentSession
from agentq_nb.errors import PromptFailed
from tests.agents.fake_llm import serving
from tests.unit.agent_os.machine import Machine

KEY = "sk-not-a-real-key"


def workspace_tools(session: AgentSession) -> list[Callable[..., Any]]:
    """The VM's files and shell, as functions that any library can describe to its model."""

    async def write_file(path: str, content: str) -> str:
        """Write a file of the workspace."""
        await asyncio.to_thread(session.write, path, content)
        return "written"

    async def shell(command: str) -> str:
        """Run a command in the workspace."""
        return (await session.exec(command)).stdout

    return [write_file, shell, *session.tools.values()]


def model_client(session: AgentSession) -> AsyncOpenAI:
    """A client to be closed by ``async with``: one that the garbage collector finds fails in whatever loop runs then."""
    return AsyncOpenAI(base_url=session.env["BASE_URL"], api_key=session.env["OPENAI_API_KEY"], max_retries=0)


async def pydantic_ai(session: AgentSession, prompt: str) -> AsyncIterator[Any]:
    history: list[ModelMessage] = []
    for earlier, answer in session.history:
        history += [ModelRequest.user_text_prompt(earlier), ModelResponse([TextPart(answer)])]
    async with model_client(session) as client:
        provider = OpenAIProvider(openai_client=client)
        agent = PydanticAgent(PydanticModel("gpt-5", provider=provider), tools=workspace_tools(session))
        async with agent.run_stream_events(prompt, message_history=history) as events:
            async for event in events:
                match event:
                    case (
                        PartStartEvent(part=TextPart(content=text))
                        | PartDeltaEvent(delta=TextPartDelta(content_delta=text))
                    ):
                        yield text
                    case FunctionToolCallEvent(part=call):
                        yield {"type": "tool_call", "text": call.tool_name, "id": call.tool_call_id, "input": call.args}
                    case FunctionToolResultEvent(part=result):
                        yield {"type": "tool_result", "text": str(result.content), "id": result.tool_call_id}
                    case AgentRunResultEvent(result=result):
                        used = result.usage
                        yield {
                            "type": "result",
                            "usage": {"input_tokens": used.input_tokens, "output_tokens": used.output_tokens},
                        }
                    case _:
                        pass


async def openai_agents(session: AgentSession, prompt: str) -> AsyncIterator[Any]:
    tools = [function_tool(tool) for tool in workspace_tools(session)]
    said: list[Any] = []
    for earlier, answer in session.history:
        said += [{"role": "user", "content": earlier}, {"role": "assistant", "content": answer}]
    async with model_client(session) as client:
        agent = Agent(name="worker", tools=tools, model=OpenAIResponsesModel("gpt-5", client))
        run = Runner.run_streamed(
            agent, [*said, {"role": "user", "content": prompt}], run_config=RunConfig(tracing_disabled=True)
        )
        async for event in run.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                yield event.data.delta
            elif event.type == "run_item_stream_event" and event.name == "tool_called":
                call = event.item.raw_item
                yield {"type": "tool_call", "text": call.name, "id": call.call_id, "input": call.arguments}
            elif event.type == "run_item_stream_event" and event.name == "tool_output":
                yield {"type": "tool_result", "text": str(event.item.output), "id": event.item.raw_item["call_id"]}
        used = run.context_wrapper.usage
        yield {"type": "result", "usage": {"input_tokens": used.input_tokens, "output_tokens": used.output_tokens}}


def total(of: list[str]) -> int:
    """What they cost together."""
    return sum({"tea": 39, "milk": 3}[name] for name in of)


@pytest.mark.parametrize("library", [pydantic_ai, openai_agents])
def test_a_library_works_on_the_files_of_a_vm_and_streams_its_answer(library: Any, tmp_path: Path) -> None:
    async def program(url: str) -> None:
        async with Machine(agent_os(agents=[agents.function(library, name="worker")], tools=[total]), tmp_path) as vm:
            env = {"OPENAI_API_KEY": KEY, "BASE_URL": f"{url}/v1"}
            session = await vm.create_session("worker", env=env, public_env=["BASE_URL"])
            result = await vm.send_prompt(
                session.session_id,
                '@write notes/hello.txt hello\n@run wc -c < notes/hello.txt\n@call total {"of": ["tea", "milk"]}\n'
                "@say all of it is there",
            )
            assert result.text.endswith("all of it is there")
            assert result.stop_reason == "end_turn"
            assert result.usage == {"input_tokens": 40, "output_tokens": 20}
            assert [call["text"] for call in result.tool_calls] == ["write_file", "shell", "total"]
            assert await vm.read_file("notes/hello.txt") == b"hello"
            assert [given.strip() for given in model.results] == ["written", "5", "42"]

            events = await vm.session_events(session.session_id)
            # The answer came word by word, and the notebook's tool is told as the host saw it, too.
            assert [event.text for event in events if event.type == "text"][-5:] == [
                "all ",
                "of ",
                "it ",
                "is ",
                "there",
            ]
            assert [event.text for event in events if event.data.get("host_tool")] == ["total", "42"]

            second = await vm.send_prompt(session.session_id, "@run rm notes/hello.txt\n@say and now it is gone")
            assert second.text.endswith("and now it is gone")
            assert not await vm.exists("notes/hello.txt")
            # It was told what had been said before.
            assert "all of it is there" in model.bodies[-1]

            with pytest.raises(PromptFailed, match=r"401"):
                await vm.send_prompt(session.session_id, "@status 401")

    with serving() as model:
        asyncio.run(program(model.url))
    assert model.keys == {KEY}
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("library", [pydantic_ai, openai_agents])
def test_a_library_is_cancelled_in_the_middle_of_its_answer(library: Any, tmp_path: Path) -> None:
    async def program(url: str) -> None:
        async with Machine(agent_os(agents=[agents.function(library, name="worker")]), tmp_path) as vm:
            env = {"OPENAI_API_KEY": KEY, "BASE_URL": f"{url}/v1"}
            session = await vm.create_session("worker", env=env, public_env=["BASE_URL"])
            begun = vm.heard("text", "begin")
            words = " ".join(str(number) for number in range(100))
            prompt = asyncio.create_task(
                vm.send_prompt(session.session_id, f"@slow 0.3\n@say begin {words} at_the_end")
            )
            await asyncio.wait_for(begun.wait(), 60)
            assert await vm.cancel_prompt(session.session_id)
            result = await prompt
            assert result.stop_reason == "cancelled"
            assert "begin" in result.text
            assert "at_the_end" not in result.text
            assert (await vm.send_prompt(session.session_id, "@say still here")).text.endswith("still here")

    with serving() as model:
        asyncio.run(program(model.url))
