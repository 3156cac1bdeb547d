"""The diff of a session's VM, as a page gets it: of real clones, and whatever agents have written there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Repository, agent_os, agents
from agentq_nb._client.client import Client
from agentq_nb._core.clock import SystemClock
from agentq_nb._notebook.dashboard.diffs import LONGEST, MOST_LINES
from agentq_nb._notebook.dashboard.overview import Overview
from agentq_nb.errors import RepositoryError, SessionUnknown, ValidationFailed
from tests.unit.agent_os.user_repository import UserRepository
from tests.unit.dashboard.test_pictures import UNSAFE
from tests.unit.runtime.world import World, until

pytestmark = pytest.mark.anyio


async def idle(session: Any, prompt: str) -> str:
    return "done"


@pytest.fixture
def user(tmp_path: Path) -> UserRepository:
    return UserRepository(tmp_path / "user")


async def begin(world: World, user: UserRepository) -> tuple[Client, Any, str]:
    """Start a host with VMs in clones, and one without; return the client, a VM and its session."""
    vm = agent_os(agents=[agents.function(idle)], workspace=Repository(user.path))
    client = await world.start(vm=vm, plain=agent_os(agents=[agents.function(idle)]))
    box = client.vm.get_or_create("box")
    return client, box, (await box.create_session("idle", keep=True)).session_id


async def page(world: World) -> Overview:
    """A page that is open. It knows of a session once it was shown."""
    shown = Overview(world.registry, SystemClock())
    await shown.look()
    return shown


async def test_a_page_gets_all_that_a_sessions_vm_has_changed(world: World, user: UserRepository) -> None:
    _, box, session = await begin(world, user)
    await box.write_file("src/login.py", "def login():\n    return 'home'\n")
    await box.commit("Fix the login")
    await box.write_file("new.txt", "not committed\n")
    shown = await page(world)
    diff = (await shown.answer({"type": "diff", "session": session}))["diff"]
    start = user.git("rev-parse", "--short=12", "main")
    assert diff["title"] == f"agentq/vm/box: 2 files, +2 -1 since {start}"
    assert "-    return 'redirect to /undefined'\n+    return 'home'\n" in diff["text"]
    assert "+not committed" in diff["text"]
    assert diff["note"] == ""


async def test_only_sessions_of_vms_with_a_repository_offer_a_diff(world: World, user: UserRepository) -> None:
    client, _, session = await begin(world, user)
    plain = (await client.plain.get_or_create("main").create_session("idle", keep=True)).session_id
    shown = await page(world)
    rows = (await shown.look())["sessions"]
    assert {name: row["in_clone"] for name, row in rows.items()} == {session: True, plain: False}
    with pytest.raises(RepositoryError, match="has no repository"):
        await shown.answer({"type": "diff", "session": plain})


async def test_whatever_agents_write_is_text_of_limited_length(world: World, user: UserRepository) -> None:
    _, box, session = await begin(world, user)
    hostile = "<img src=x onerror=alert(1)> \x1b[31mred \u202egnp.exe \u200b \x07"
    await box.write_file("a <script>alert(1)<\u202e \n.txt", f"{hostile}\n")
    shown = await page(world)
    diff = (await shown.answer({"type": "diff", "session": session}))["diff"]
    assert not UNSAFE.search(diff["text"])
    assert "+<img src=x onerror=alert(1)> \\x1b[31mred \\u202egnp.exe \\u200b \\x07" in diff["text"]

    for name, text in (("lines", "+\n" * (MOST_LINES + 1)), ("long", "\u200b" * LONGEST)):
        await box.write_file("0", text)
        diff = (await shown.answer({"type": "diff", "session": session}))["diff"]
        assert len(diff["text"]) <= LONGEST, name
        assert len(diff["text"].splitlines()) <= MOST_LINES, name
        assert diff["note"] == "This is only its beginning. All of it: %agentq diff vm/box"


async def test_pages_that_ask_at_once_share_one_diff_and_later_ones_get_a_new_one(
    world: World, user: UserRepository
) -> None:
    _, box, session = await begin(world, user)
    first, second = await page(world), await page(world)
    asked = {"type": "diff", "session": session}
    one, other = await asyncio.gather(first.answer(asked), first.answer(asked))
    assert one["diff"] is other["diff"]
    await box.write_file("new.txt", "new\n")
    assert "+new" in (await first.answer(asked))["diff"]["text"]
    assert "+new" in (await second.answer(asked))["diff"]["text"]


async def test_a_vm_that_sleeps_wakes_for_its_diff(world: World, user: UserRepository) -> None:
    _, box, session = await begin(world, user)
    await box.write_file("new.txt", "new\n")
    await world.registry.stop()
    await world.registry.start()
    shown = await page(world)
    assert world.registry.host.activations.find("vm/box") is None
    assert "+new" in (await shown.answer({"type": "diff", "session": session}))["diff"]["text"]


async def test_no_request_creates_a_vm_or_a_clone(world: World, user: UserRepository) -> None:
    _, box, session = await begin(world, user)
    shown = await page(world)
    await box.destroy(files=True)
    await until(lambda: world.registry.host.activations.find("vm/box") is None)
    with pytest.raises(RepositoryError, match="on branch agentq/vm/box"):
        await shown.answer({"type": "diff", "session": session})
    assert world.registry.host.activations.find("vm/box") is None
    assert list((world.folder / "first.agentq" / "vm").glob("*/shop")) == []
    with pytest.raises(SessionUnknown):
        await shown.answer({"type": "diff", "session": "another"})
    for malformed in (None, 5, ["x"], ""):
        with pytest.raises(ValidationFailed):
            await shown.answer({"type": "diff", "session": malformed})
