"""RivetKit's client waits while its host is killed, or stopped, and started again: with the recipe of the docs it waits on."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import setup
from tests.rivetkit.npm import script_folder, start_node
from tests.unit.gateway.other_process import CHECKOUT, OtherProcess
from tests.unit.gateway.raw_client import TOKEN

pytestmark = pytest.mark.anyio


def recipe() -> str:
    """Return the function of the docs that asks across restarts."""
    found = re.search(
        r"```js\n(async function ask\(.*?\n}\n)", (CHECKOUT / "docs" / "gateway.md").read_text(), re.DOTALL
    )
    assert found is not None
    return found[1]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[OtherProcess]:
    with OtherProcess.running(tmp_path, "http") as process:
        yield process


@pytest.fixture
def scripts(package: Path, tmp_path: Path) -> Path:
    folder = script_folder(package, Path(__file__).parent, tmp_path / "scripts")
    (folder / "recipe.mjs").write_text(f"export const withClient = (client) => {{\n{recipe()}\nreturn ask;\n}};\n")
    return folder


async def start(scripts: Path, host: OtherProcess, scenario: str, encoding: str = "bare") -> asyncio.subprocess.Process:
    return await start_node(scripts, ("restarts.mjs", host.url, TOKEN, encoding, scenario), {})


async def end(program: asyncio.subprocess.Process) -> Any:
    """Return what the program printed last."""
    printed, errors = await asyncio.wait_for(program.communicate(), 120)
    assert program.returncode == 0, errors.decode()[-2000:]
    return json.loads(printed.decode().strip().splitlines()[-1])


async def restart(host: OtherProcess, how: str) -> None:
    """End the host, leave it gone for a while, and start it again."""
    host.kill() if how == "killed" else await asyncio.to_thread(host.stop)
    await asyncio.sleep(1)
    await asyncio.to_thread(host.start)


async def until(condition: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.05)


def is_running(host: OtherProcess) -> Callable[[], Coroutine[Any, Any, bool]]:
    """Return whether the message of the program is being handled."""
    reviewer = host.client().reviewer.get_or_create("js")

    async def condition() -> bool:
        return any(queue.queue == "held" and queue.running for queue in (await reviewer.status()).queues)

    return condition


async def settled(host: OtherProcess, queue: str) -> list[tuple[Any, ...]]:
    """End the host, and return the messages of a queue, and how often each was settled."""
    await asyncio.to_thread(host.stop)
    async with setup(store=host.store) as registry:
        found = await registry.sql(
            """select m.status, count(*) from messages m join events e on e.message_id = m.message_id
            where m.queue = ? and e.kind = 'message.completed' group by m.message_id, m.status""",
            [queue],
        )
        return list(found)


@pytest.mark.parametrize(
    ("encoding", "how"), [("bare", "killed"), ("cbor", "killed"), ("json", "killed"), ("bare", "stopped")]
)
async def test_a_wait_with_a_key_gets_its_reply_after_the_restart(
    scripts: Path, host: OtherProcess, how: str, encoding: str
) -> None:
    program = await start(scripts, host, "keyed", encoding)
    await until(is_running(host))
    await restart(host, how)
    assert await end(program) == {"status": "completed", "response": 3}
    assert await settled(host, "held") == [("completed", 1)]


async def test_many_waits_across_a_kill_are_each_one_message(scripts: Path, host: OtherProcess) -> None:
    program = await start(scripts, host, "many")
    await until(is_running(host))
    await restart(host, "killed")
    seen = await end(program)
    assert seen["held"] == {"status": "completed", "response": 3}
    assert seen["replies"] == [f"TASK {number}" for number in range(20)]
    assert await settled(host, "tasks") == [("completed", 1)] * 20


async def test_a_wait_without_a_key_ends_with_the_error_of_the_docs_and_its_message_is_handled(
    scripts: Path, host: OtherProcess
) -> None:
    program = await start(scripts, host, "plain")
    await until(is_running(host))
    await restart(host, "killed")
    error = await end(program)
    assert (error["group"], error["code"]) == ("rivetkit", "internal_error")
    assert error["message"].startswith("HTTP request error: Request failed")

    async def is_handled() -> bool:
        return not await is_running(host)()

    await until(is_handled)
    assert await settled(host, "held") == [("completed", 1)]


async def test_a_connection_gives_up_and_another_one_hears_of_events(scripts: Path, host: OtherProcess) -> None:
    program = await start(scripts, host, "events")
    assert program.stdout is not None
    assert await asyncio.wait_for(program.stdout.readline(), 60) == b"connected\n"
    await asyncio.sleep(0.5)
    await restart(host, "killed")
    seen = await end(program)
    assert "Connection lost" in seen["rejected"]["message"]
    assert "idle" in seen["statuses"]
    assert seen["statuses"][-1] == "connected"
