"""``%agentq limits``: looking at limits and changing them in a real notebook, and changing what two cells declare."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.driving import Kernel

IMPORTS = "from agentq_nb import Actor, ConcurrencyLimit, Queue, RateLimit, RateLimited, create_client"

CELL = """
class NAME(Actor):
    tasks = Queue(str, limits=[api])

    async def run(self):
        async for message in self.queue.iter():
            if message.body == "limited":
                raise RateLimited("5-hour limit reached", retry_after=3600, limit="api")
"""
FIRST, SECOND = CELL.replace("NAME", "First"), CELL.replace("NAME", "Second")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with Kernel(tmp_path_factory.mktemp("limits")) as kernel:
        kernel.run("%load_ext agentq_nb").check()
        kernel.run(f"{IMPORTS}\napi = RateLimit(50, per=60, name='api')").check()
        for cell in (FIRST, SECOND, "registry = %agentq start", "first = create_client().first.get_or_create('x')"):
            kernel.run(cell).check()
        yield kernel


def test_limits_are_shown_with_their_use_changed_and_reset(loaded: Kernel) -> None:
    for _ in range(3):
        loaded.run("await first.send('tasks', 'work', wait=True)").check()
    shown = loaded.run("%agentq limits").check().text
    assert "api" in shown
    assert "60 s" in shown
    changed = loaded.run("%agentq limits api --count 20 --per 30").check().text
    assert "20 (declared 50)" in changed
    assert "30 s (declared 60 s)" in changed
    assert "20 (declared 50)" in loaded.run("%agentq status").check().text
    assert loaded.run("registry.limits['api'].used").check().text == "3"
    assert "declared" not in loaded.run("%agentq limits api --reset").check().text


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("limits apy --count 1", "Did you mean 'api'?"),
        ("limits --count 1", "Name the limit"),
        ("limits api --count 0", "whole number from 1 up"),
        ("limits api --reset --count 5", "--reset, or --count"),
    ],
)
def test_what_makes_no_sense_is_one_line(loaded: Kernel, command: str, told: str) -> None:
    cell = loaded.run(f"%agentq {command}")
    assert told in f"{cell.stderr}{cell.error_value}{cell.text if cell.results else ''}"
    assert "Traceback" not in cell.stderr


def test_a_pause_of_the_provider_is_shown_with_its_reason_and_ended_by_hand(loaded: Kernel) -> None:
    loaded.run("receipt = await first.send('tasks', 'limited')").check()
    loaded.run(
        "import asyncio\nwhile not any(queue.paused for queue in (await first.status()).queues): await asyncio.sleep(0.01)"
    ).check()
    assert "5-hour limit reached" in loaded.run("%agentq limits").check().text
    assert "5-hour limit reached" in loaded.run("%agentq status").check().text
    loaded.run("await receipt.cancel()").check()
    assert "5-hour" not in loaded.run("%agentq limits api --resume").check().text
    loaded.run("await first.send('tasks', 'work', wait=True, timeout=10)").check()


def test_a_limit_of_two_cells_is_changed_in_one_after_the_other(loaded: Kernel) -> None:
    loaded.run("api = RateLimit(70, per=60, name='api')").check()
    cell = loaded.run(FIRST)
    assert "'api' is declared in two ways" in cell.stderr
    assert loaded.run("registry.limits['api'].count").check().text == "50"
    assert loaded.run(SECOND).stderr == ""
    loaded.run("await first.status()").check()  # which waits until both are deployed
    assert loaded.run("registry.limits['api'].count").check().text == "70"
