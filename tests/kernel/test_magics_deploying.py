"""Cells that define actors, run and run again, in a real kernel."""

from __future__ import annotations

import pytest

from tests.kernel.conftest import IN_BOTH_PLACES
from tests.kernel.driving import Kernel

pytestmark = IN_BOTH_PLACES

ACTOR = """
from agentq_nb import Actor, Queue
class Counter(Actor):
    numbers = Queue(int, reply=str)
    async def run(self):
        async for message in self.queue.iter(completable=True):
            await message.complete(f"{VERSION}: {{message.body}}")
"""


def version(name: str) -> str:
    return ACTOR.replace("{VERSION}", name).replace("{{", "{").replace("}}", "}")


@pytest.fixture
def loaded(kernel: Kernel) -> Kernel:
    kernel.run("%load_ext agentq_nb").check()
    return kernel


def ask(kernel: Kernel, number: int = 1) -> str:
    return kernel.run(f"x = %agentq ask counter/main numbers {number}\nx.response").check().text


def test_classes_defined_before_and_after_the_start_are_registered(loaded: Kernel) -> None:
    loaded.run(version("one")).check()
    loaded.run("%agentq start").check()
    assert ask(loaded) == "'one: 1'"
    loaded.run(version("two").replace("Counter", "OtherCounter")).check()
    answer = loaded.run("x = %agentq ask other_counter/main numbers 5\nx.response").check()
    assert answer.text == "'two: 5'"
    shown = loaded.run("%agentq actors").check().text
    assert "counter" in shown
    assert "other_counter" in shown


def test_running_a_cell_again_deploys_it(loaded: Kernel) -> None:
    loaded.run(version("one")).check()
    loaded.run("%agentq start").check()
    assert ask(loaded) == "'one: 1'"
    assert loaded.run(version("two")).check().silent
    assert ask(loaded) == "'two: 1'"
    loaded.run("%agentq start").check()
    assert ask(loaded) == "'two: 1'"


def test_a_new_class_of_a_cell_that_fails_is_there(loaded: Kernel) -> None:
    loaded.run("%agentq start").check()
    assert loaded.run(version("one") + "\n1 / 0").status == "error"
    assert ask(loaded) == "'one: 1'"


def test_a_class_redefined_by_a_cell_that_fails_is_there_too_when_it_has_no_work(loaded: Kernel) -> None:
    loaded.run(version("one")).check()
    loaded.run("%agentq start").check()
    assert ask(loaded) == "'one: 1'"
    failed = loaded.run(version("two") + "\n1 / 0")
    assert failed.status == "error"
    assert failed.stderr == ""
    assert ask(loaded) == "'two: 1'"


WAITING = version("one").replace("async for", "return\n        async for")


def test_work_of_a_class_that_a_failed_cell_redefined_waits_and_a_line_says_how_to_go_on(loaded: Kernel) -> None:
    loaded.run(WAITING).check()
    loaded.run("%agentq start").check()
    message = loaded.run("x = %agentq send counter/main numbers 7\nx.id").check().text.strip("'")
    failed = loaded.run(version("two") + "\n1 / 0")
    assert failed.status == "error"
    assert failed.stderr.count("\n") == 1
    assert "counter/main" in failed.stderr
    assert "%agentq resume counter/main numbers" in failed.stderr
    loaded.run("from agentq_nb import create_client").check()
    assert loaded.value(f"(await create_client().receipt('{message}').result(0.5)).status") == "timed_out"
    assert loaded.run(version("three")).check().stderr == ""
    assert loaded.value(f"(await create_client().receipt('{message}').result(30)).response") == "three: 7"


def test_the_line_after_a_failed_cell_tells_the_truth(loaded: Kernel) -> None:
    loaded.run(WAITING).check()
    loaded.run("%agentq start").check()
    message = loaded.run("x = %agentq send counter/main numbers 7\nx.id").check().text.strip("'")
    assert loaded.run(version("two") + "\n1 / 0").status == "error"
    loaded.run("%agentq resume counter/main numbers\nfrom agentq_nb import create_client").check()
    assert loaded.value(f"(await create_client().receipt('{message}').result(30)).response") == "two: 7"


def test_a_class_can_be_used_in_the_cell_that_defines_it(loaded: Kernel) -> None:
    loaded.run("%agentq start\nfrom agentq_nb import create_client").check()
    use = (
        "\nresult = await create_client().counter.get_or_create('main').send('numbers', 1, wait=True)\nresult.response"
    )
    assert loaded.run(version("one") + use).check().text == "'one: 1'"
    assert loaded.run(version("two") + use).check().text == "'two: 1'"
    assert loaded.run(version("three") + "\nx = %agentq ask counter/main numbers 1\nx.response").check().text == (
        "'three: 1'"
    )
    by_class = use.replace(".counter.", ".actor(Other).")
    assert loaded.run(version("four").replace("Counter", "Other") + by_class).check().text == "'four: 1'"
    assert loaded.run("Counter = Other\n%agentq actors").check().text


def test_a_class_that_the_same_cell_redefines_is_what_actions_and_waits_meet(loaded: Kernel) -> None:
    loaded.run("%agentq start\nfrom agentq_nb import create_client").check()
    asks = """
from agentq_nb import Actor, action
class Asked(Actor):
    @action
    def version(self):
        return "VERSION"
await create_client().asked.get_or_create('main').version()
"""
    assert loaded.run(asks.replace("VERSION", "one")).check().text == "'one'"
    assert loaded.run(asks.replace("VERSION", "two")).check().text == "'two'"
    loaded.run(WAITING).check()
    loaded.run("receipt = await create_client().counter.get_or_create('main').send('numbers', 7)").check()
    assert loaded.run(version("two") + "\n(await receipt.result(30)).response").check().text == "'two: 7'"


def test_silent_executions_deploy_nothing_and_the_next_cell_does(loaded: Kernel) -> None:
    loaded.run(version("one")).check()
    loaded.run("%agentq start\nfrom agentq_nb import current_registry").check()
    assert ask(loaded) == "'one: 1'"
    for more in ({"silent": True}, {"store_history": False}):
        assert loaded.run("import time", **more).status == "ok"
    loaded.run(version("two"), store_history=False).check()
    deployed = "current_registry().classes['counter'] is Counter"
    assert loaded.run(deployed, store_history=False).check().text == "False"
    loaded.run(version("three"), silent=True)
    assert loaded.run(deployed, store_history=False).check().text == "False"
    assert ask(loaded) == "'three: 1'"
    assert loaded.run("class COUNTER(Counter):\n    pass", store_history=False).check().stderr == ""


def test_two_claims_to_one_name_are_one_line_under_the_cell(loaded: Kernel) -> None:
    loaded.run(version("one")).check()
    loaded.run("%agentq start").check()
    cell = loaded.run("class COUNTER(Counter):\n    pass")
    assert cell.status == "ok"
    assert cell.stderr.count("\n") == 1
    assert "Two actor classes claim the name 'counter'" in cell.stderr
    assert ask(loaded) == "'one: 1'"


STATEFUL = """
from pydantic import BaseModel
from agentq_nb import Actor, action, create_client
class Sum(BaseModel):
    total: FIELD
class Adder(Actor):
    state: Sum
    async def on_create(self, input):
        self.state = Sum(total=FIRST)
    @action
    async def version(self) -> str:
        return "VERSION"
"""
FIRST = STATEFUL.replace("FIELD", "str").replace("FIRST", "'many'").replace("VERSION", "one")
SECOND = STATEFUL.replace("FIELD", "int").replace("FIRST", "0").replace("VERSION", "two")


@pytest.mark.parametrize("asleep", [False, True], ids=["awake", "asleep"])
def test_a_state_that_does_not_fit_keeps_the_old_code_and_the_cell_shows_one_line(loaded: Kernel, asleep: bool) -> None:
    loaded.run(FIRST).check()
    loaded.run("%agentq start").check()
    assert loaded.value("await create_client().adder.get_or_create('main').version()") == "one"
    if asleep:
        loaded.run("%agentq stop").check()
        loaded.run("%agentq start").check()
    cell = loaded.run(SECOND).check()
    loaded.run("import asyncio; await asyncio.sleep(0.5)").check()
    assert cell.stderr.count("\n") == 1
    assert "adder/main" in cell.stderr
    assert loaded.value("await create_client().adder.get('main').version()") == "one"
    assert (
        loaded.run(SECOND + "    def migrate_state(old):\n        return {'total': len(old['total'])}").check().silent
    )
    assert loaded.value("await create_client().adder.get('main').version()") == "two"


def test_a_plain_setup_is_deployed_into_but_gets_no_new_names(loaded: Kernel) -> None:
    loaded.run(version("one")).check()
    loaded.run("from agentq_nb import setup\nregistry = setup(use={'mine': Counter})\nawait registry.start()").check()
    ask_mine = "x = %agentq ask mine/main numbers 1\nx.response"
    assert loaded.run(ask_mine).check().text == "'one: 1'"
    loaded.run(version("two")).check()
    assert loaded.run(ask_mine).check().text == "'two: 1'"
    assert loaded.run(version("three") + "\n1 / 0").status == "error"
    assert loaded.run(ask_mine).check().text == "'three: 1'"
    loaded.run(version("four")).check()
    assert loaded.run(ask_mine).check().text == "'four: 1'"
    loaded.run("class Another(Counter):\n    pass").check()
    assert loaded.value("sorted(registry.classes)") == ["mine"]


def test_queued_work_survives_a_kill_and_waits_for_its_class(loaded: Kernel) -> None:
    loaded.run(version("one").replace("async for", "return\n        async for")).check()
    loaded.run("%agentq start").check()
    message = loaded.run("x = %agentq send counter/main numbers 7\nx.id").check().text.strip("'")
    loaded.kill()
    loaded.restart()
    loaded.run("%load_ext agentq_nb").check()
    loaded.run("%agentq start").check()
    assert "counter" in loaded.run("%agentq status").check().text
    loaded.run(version("two")).check()
    loaded.run("from agentq_nb import create_client").check()
    assert loaded.value(f"(await create_client().receipt('{message}').result(30)).response") == "two: 7"
