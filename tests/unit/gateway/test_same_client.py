"""Tests of clients in the host's own process, which hold word by word for one that comes over HTTP."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest

from agentq_nb import Actor, create_client
from agentq_nb._client.client import Client
from tests.unit.gateway.raw_client import TOKEN
from tests.unit.runtime import (
    test_acting,
    test_after,
    test_cancelling,
    test_full_queues,
    test_looking,
    test_pausing,
    test_send_options,
    test_sending,
)
from tests.unit.runtime.test_cancelling import work  # noqa: F401  # a fixture
from tests.unit.runtime.test_looking import stepwise  # noqa: F401  # a fixture
from tests.unit.runtime.test_pausing import worker  # noqa: F401  # a fixture
from tests.unit.runtime.world import World

pytestmark = pytest.mark.anyio

DIFFERENT = {
    # Results of actions come as plain values.
    "test_an_acknowledged_message_is_there_after_a_crash",
    "test_fit_bodies_of_every_declared_type_come_out_as_that_type",
    "test_coroutine_and_plain_actions_return_their_value",
    "test_an_actor_knows_its_name_key_and_siblings",
    # The text and the cause of an unexpected error stay with the host.
    "test_any_other_exception_is_an_internal_error_with_its_cause_and_the_actor_goes_on",
    # Where no host is, it is host.unreachable, a kind of host.none.
    "test_sending_without_a_host_says_how_to_start_one",
    # Between two calls the actor has time to take a message.
    "test_messages_of_an_actor_without_its_class_can_be_held_back_before_it_is_defined",
    # The loop that must not be blocked is the host's.
    "test_ten_thousand_that_wait_for_one_do_not_block_the_loop",
}


def collect(module: ModuleType) -> None:
    """Collect the tests of a module that use a world on the machine's clock."""
    for name, test in vars(module).items():
        if name.startswith("test_") and name not in DIFFERENT and "world" in inspect.signature(test).parameters:
            globals()[name] = test


for each in (
    test_acting,
    test_after,
    test_cancelling,
    test_full_queues,
    test_looking,
    test_pausing,
    test_send_options,
    test_sending,
):
    collect(each)


class RemoteWorld(World):
    """A world whose client comes over HTTP, like one of another process."""

    async def start(self, **use: type[Actor]) -> Client:
        await super().start(**use)
        server = await self.registry.serve(port=0, token=TOKEN)
        return create_client(server.url, token=server.token, use=use)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = RemoteWorld(tmp_path)
    yield made
    await made.close()
