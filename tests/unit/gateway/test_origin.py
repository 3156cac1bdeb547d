"""What comes in over HTTP is marked as such, and so is what it leads to; agents.shell does not run it."""

from __future__ import annotations

from typing import Any

import pytest

from agentq_nb import Actor, Queue, Registry, action
from agentq_nb.agent_os import agent_os, agents
from tests.unit.gateway.raw_client import TOKEN, ask

pytestmark = pytest.mark.anyio

MAIN = "rvt-method=getOrCreate&rvt-key=main"


class Helper(Actor):
    tasks = Queue(Any, reply=Any)

    @tasks.handler
    async def prompt(self, text: str) -> str:
        vm = self.actors.vm.get_or_create(["x"])
        session = await vm.create_session("shell")
        result = await vm.send_prompt(session.session_id, text)
        return result.text

    @action
    async def pass_on(self, text: str) -> Any:
        return await self.actors.helper.get_or_create("other").send("tasks", text, wait=True, timeout=20)


@pytest.fixture
async def url(registry: Registry) -> str:
    await registry.deploy("helper", Helper)
    await registry.deploy("vm", agent_os(agents=[agents.shell], isolation="off"))
    return (await registry.serve(port=0, token=TOKEN)).url


async def origins(registry: Registry) -> dict[str, str]:
    return dict(await registry.sql("select actor_id, origin from messages"))


PROMPT = "```sh\necho it ran\n```"


async def test_a_message_sent_over_http_is_from_there_and_its_prompt_is_refused(url: str, registry: Registry) -> None:
    path = f"/gateway/helper/queue/tasks?{MAIN}"
    reply = await ask(url, "POST", path, {"body": PROMPT, "wait": True, "timeout": 20000})
    assert (reply.status, reply.code) == (400, "queue.failed")
    assert "came in over the network" in reply.json["message"]
    assert await origins(registry) == {"helper/main": "http"}


async def test_an_action_called_over_http_passes_that_on(url: str, registry: Registry) -> None:
    reply = await ask(url, "POST", f"/gateway/helper/action/pass_on?{MAIN}", {"args": [PROMPT]})
    assert "came in over the network" in reply.body.decode()
    assert "it ran" not in reply.body.decode()
    assert await origins(registry) == {"helper/other": "http"}


@pytest.mark.parametrize(
    ("claimed", "origin"), [("webhook:github", "webhook:github"), ("socket", "http"), ("process", "http")]
)
async def test_a_client_can_say_that_it_acts_for_less_trusted_work_and_never_for_more(
    url: str, registry: Registry, claimed: str, origin: str
) -> None:
    path = f"/gateway/helper/queue/tasks?{MAIN}"
    assert (await ask(url, "POST", path, {"body": "x"}, x_agentq_origin=claimed)).status == 200
    assert await origins(registry) == {"helper/main": origin}


@pytest.mark.parametrize("claimed", ["", "root", "webhook:", "webhook:a b", "webhook:" + "x" * 101])
async def test_an_origin_that_is_none_is_refused(url: str, registry: Registry, claimed: str) -> None:
    reply = await ask(url, "POST", f"/gateway/helper/queue/tasks?{MAIN}", {"body": "x"}, x_agentq_origin=claimed)
    assert (reply.status, reply.code) == (400, "gateway.bad_request")
    assert await origins(registry) == {}


async def test_the_same_prompt_from_the_notebook_is_run(url: str, registry: Registry) -> None:
    handle = registry.host.client.helper.get_or_create("main")
    result = await handle.send("tasks", PROMPT, wait=True, timeout=20)
    assert "it ran" in result.unwrap()
    assert await origins(registry) == {"helper/main": "process"}
