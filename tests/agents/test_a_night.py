"""Tasks that were queued for the night: the model's limits pause the queue, and in the morning all are done.

``AGENTQ_NIGHT_TASKS`` says how many there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentq_nb.agent_os import agents
from tests.agents.fake_llm import serving
from tests.agents.night import MODEL, NightModel, spend_the_night, three_limits_and_a_burst
from tests.agents.real_agents import KEY, need_agent
from tests.kernel.test_dashboard import Page

TASKS = int(os.environ.get("AGENTQ_NIGHT_TASKS", "15"))
LONGEST = 240 + 8.0 * TASKS  # seconds

AGENT = """
from agentq_nb import Actor, Queue, agent_os, agents, create_client, setup
from tests.agents.real_agents import configure

class Model:
    url = {url!r}

class Night(Actor):
    tasks = Queue(str, reply=str)

    @tasks.handler
    async def work(self, prompt):
        vm = self.actors.vm.get_or_create("main")
        session = await vm.create_session("claude", env={env!r})
        return (await vm.send_prompt(session.session_id, prompt)).text

registry = setup(use={{"night": Night, "vm": agent_os(agents=[agents.claude], hosts=[Model.url])}})
await registry.start()
await configure(create_client().vm.get_or_create("main"), Model)
"""

FUNCTION = """
import anthropic
from agentq_nb import Actor, Queue, create_client, setup

model = anthropic.Anthropic(base_url={url!r}, api_key={key!r}, max_retries=0)

class Night(Actor):
    tasks = Queue(str, reply=str)

    @tasks.handler
    def work(self, prompt):
        messages = [{{"role": "user", "content": prompt}}]
        answer = model.messages.create(
            model={model!r}, max_tokens=100, messages=messages, metadata={{"user_id": "only_text"}}
        )
        return answer.content[0].text

registry = setup(use={{"night": Night}})
await registry.start()
"""


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    kernel = Page(tmp_path)
    with kernel:
        kernel.run("%load_ext agentq_nb").check()
        yield kernel


@pytest.mark.timeout(60 + 2 * LONGEST)
@pytest.mark.parametrize("sign_in", ["ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"])
def test_a_night_of_claude_code(page: Page, sign_in: str) -> None:
    need_agent(agents.claude)
    model = NightModel(three_limits_and_a_burst(TASKS))
    with serving(model):
        page.run(AGENT.format(url=model.url, env={sign_in: KEY})).check()
        spend_the_night(page, model, TASKS, LONGEST)


@pytest.mark.timeout(60 + 2 * LONGEST)
def test_a_night_of_a_plain_function(page: Page) -> None:
    model = NightModel(three_limits_and_a_burst(TASKS))
    with serving(model):
        page.run(FUNCTION.format(url=model.url, key=KEY, model=MODEL)).check()
        spend_the_night(page, model, TASKS, LONGEST)
