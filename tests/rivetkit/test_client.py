"""RivetKit's own JavaScript client, as it comes from npm, against a notebook's host."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentq_nb import Queue, Registry, Retry, action, setup
from agentq_nb._host.registry_server import Server
from tests.rivetkit.npm import run_node, script_folder
from tests.unit.gateway.client_actor import ClientActor
from tests.unit.gateway.raw_client import TOKEN

pytestmark = pytest.mark.anyio


class Task(BaseModel):
    prompt: str


class ReviewRequest(BaseModel):
    file: str


class Review(BaseModel):
    summary: str


class TaskRunner(ClientActor, sleep_timeout=None):
    review = Queue(ReviewRequest, reply=Review)
    found = Queue(Any)
    failing = Queue(Any, reply=Any, retry=Retry(attempts=1))
    nobody = Queue(Any)

    @review.handler
    async def look(self, request: ReviewRequest) -> Review:
        return Review(summary=f"{request.file} is fine")

    @failing.handler
    async def raise_it(self, body: Any) -> Any:
        raise ValueError("as it must")

    @action
    async def ingest_issue(self, title: str, body: str) -> None:
        await self.queue.push("found", {"title": title, "body": body})

    @action
    async def issues(self) -> Any:
        message = await self.found.next(timeout=10)
        return None if message is None else message.body

    @action
    async def own_key(self) -> list[str]:
        return list(self.key)


@pytest.fixture
def client(package: Path, tmp_path: Path) -> Path:
    """The folder from which the scenarios are run."""
    return script_folder(package, Path(__file__).parent, tmp_path / "scripts")


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with setup(use={"task_runner": TaskRunner}, store=tmp_path / "q.duckdb") as registry:
        yield registry


@pytest.fixture
async def server(registry: Registry) -> Server:
    return await registry.serve(port=0, token=TOKEN)


async def run(client: Path, server: Server, encoding: str, scenario: str, token: str = TOKEN) -> Any:
    """Return what the scenario printed."""
    ended = await run_node(client, "client.mjs", server.url, token, encoding, scenario)
    assert ended.status == 0, ended.errors[-2000:]
    return json.loads(ended.printed.strip().splitlines()[-1])


every_encoding = pytest.mark.parametrize("encoding", ["bare", "cbor", "json"])


@every_encoding
async def test_its_three_programs_run_as_they_are_written(client: Path, server: Server, encoding: str) -> None:
    last = await run(client, server, encoding, "serialize")
    assert last == {"status": "completed", "response": {"echo": {"prompt": "last"}}}
    assert await run(client, server, encoding, "reply") == "/home/user/src/auth.ts is fine"
    found = {"title": "Login redirect broken", "body": "Users are redirected to /undefined"}
    assert await run(client, server, encoding, "ingest") == found


@every_encoding
async def test_it_gets_errors_by_group_and_code(client: Path, server: Server, encoding: str) -> None:
    seen = await run(client, server, encoding, "errors")
    first, second = seen["full"]
    assert "code" not in first
    assert (second["group"], second["code"], second["metadata"]["limit"]) == ("queue", "full", 1)
    assert second["message"].startswith("Queue is full. Limit is 1 message")
    codes = {name: f"{error['group']}.{error['code']}" for name, error in seen.items() if "group" in error}
    assert codes == {
        "large": "queue.message_too_large",
        "queue": "queue.unknown",
        "action": "actor.action_not_found",
        "user": "user.own",
        "internal": "rivetkit.internal_error",
        "failed": "queue.failed",
        "missing": "actor.not_found",
    }
    assert seen["user"]["metadata"] == {"pair": ["$x", 1]}
    assert "hunter2" not in json.dumps(seen)
    assert seen["timedOut"] == {"status": "timedOut"}
    created, again = seen["twice"]
    assert (created, again["group"], again["code"]) == ({"returned": "created"}, "actor", "duplicate_key")


@every_encoding
async def test_every_value_comes_back_as_it_was(client: Path, server: Server, encoding: str) -> None:
    seen = await run(client, server, encoding, "values")
    # JSON has no undefined in objects, so the client leaves it out; the others make null of it inside a value.
    sent, returned = seen["sent"], seen["returned"]
    assert sent.pop("undefined") == "undefined"
    assert returned.pop("undefined", None) is None
    assert returned == sent
    assert (seen["void"], seen["null"], seen["body"]) == ("undefined", None, True)


@every_encoding
async def test_a_hundred_handles_are_served_side_by_side(client: Path, server: Server, encoding: str) -> None:
    seen = await run(client, server, encoding, "handles")
    assert seen["totals"] == list(range(100))
    assert seen["replies"] == [str(number) for number in range(100)]


@every_encoding
async def test_slashes_in_keys_never_make_two_actors_one(client: Path, server: Server, encoding: str) -> None:
    seen = await run(client, server, encoding, "keys")
    assert seen["seen"] == [[2, [encoding, *key]] for key in seen["names"]]
    assert seen["comma"] == [[encoding, "x,y"], [encoding, "x", "y"], 1]


@every_encoding
async def test_a_connection_calls_actions_and_gets_events(client: Path, server: Server, encoding: str) -> None:
    seen = await run(client, server, encoding, "events")
    assert (seen["first"], seen["many"], seen["seen"]) == (1, [2, 3, 4], [2, 3, 4])
    assert (seen["error"]["code"], seen["error"]["metadata"]) == ("own", {"pair": ["$x", 1]})


async def test_a_wrong_token_is_an_error_at_the_first_call(client: Path, server: Server) -> None:
    refused = await run(client, server, "bare", "refused", token="some-other-token-it-is")
    assert (refused["group"], refused["code"]) == ("gateway", "wrong_token")
