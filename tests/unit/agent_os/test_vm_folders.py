"""Folders of VMs: which there are, who uses them, and that only those go that nobody uses."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import agent_os, agents
from agentq_nb._commands.vm_folders import VmFolder, remove_folders, vm_folders
from tests.unit.runtime.conftest import new_world, world
from tests.unit.runtime.world import World

__all__ = ["new_world", "world"]

pytestmark = pytest.mark.anyio

DAY = 24 * 3600.0


async def echo(session: Any, prompt: str) -> AsyncIterator[Any]:
    yield prompt


MACHINE = agent_os(agents=[agents.function(echo)])


async def folders(world: World) -> dict[str | None, VmFolder]:
    return {folder.actor: folder for folder in await vm_folders(world.registry)}


async def removed(world: World, unused_for: float | None = None) -> set[str | None]:
    gone, failed = await remove_folders(world.registry, await vm_folders(world.registry), unused_for)
    assert failed == []
    assert not any(folder.path.exists() for folder in gone)
    return {folder.actor for folder in gone}


async def used(world: World, *keys: str, workspace: Path | None = None) -> Any:
    """VMs with files, asleep."""
    machine = MACHINE if workspace is None else agent_os(agents=[agents.function(echo)], workspace=workspace)
    client = await world.start(vm=machine)
    for key in keys:
        await client.vm.get_or_create(key).write_file("a/file", b"x" * 10_000)
    return await world.restart()


async def destroyed(client: Any, world: World, key: str) -> None:
    await client.vm.get_or_create(key).destroy()
    activation = world.registry.host.activations.find(f"vm/{key}")
    if activation is not None:
        await activation.ended.wait()


async def test_each_folder_is_told_with_its_vm_its_size_and_who_uses_it(world: World) -> None:
    client = await used(world, "asleep", "awake", "talking", "gone")
    await client.vm.get_or_create("awake").exists("a")
    session = await client.vm.get_or_create("talking").create_session("echo", keep=True)
    await destroyed(client, world, "gone")
    client = await world.restart()
    await client.vm.get_or_create("awake").exists("a")
    stranger = world.registry.host.workspaces / "vm" / "left-by-an-earlier-file"
    stranger.mkdir()
    (stranger / "old").write_bytes(b"x" * 50_000)
    found = await folders(world)
    assert {actor: folder.status for actor, folder in found.items()} == {
        "vm/asleep": "asleep",
        "vm/awake": "awake",
        "vm/talking": "session open",
        "vm/gone": "destroyed",
        None: "unknown",
    }
    assert {actor for actor, folder in found.items() if folder.in_use} == {"vm/awake", "vm/talking"}
    assert found["vm/talking"].sessions == 1
    assert found[None].size >= 50_000
    assert 10_000 <= found["vm/asleep"].size < 30_000
    now = world.registry.host.clock.time()
    assert all(abs(folder.used_at - now) < 60 for folder in found.values())
    await client.vm.get_or_create("talking").close_session(session.session_id)
    await world.restart()
    assert (await folders(world))["vm/talking"].status == "asleep"


async def test_looking_wakes_and_creates_no_vm(world: World) -> None:
    await used(world, "main")
    (world.registry.host.workspaces / "vm" / "stranger").mkdir()
    before = (await world.registry.sql("select count(*) from events")).rows
    await folders(world)
    assert list(world.registry.host.activations.actors) == []
    assert (await world.registry.sql("select count(*) from events")).rows == before


async def test_only_folders_of_destroyed_vms_go_where_no_age_is_given(world: World) -> None:
    client = await used(world, "asleep", "gone")
    await destroyed(client, world, "gone")
    (world.registry.host.workspaces / "vm" / "stranger").mkdir()
    assert await removed(world) == {"vm/gone"}
    assert set(await folders(world)) == {"vm/asleep", None}


async def test_with_an_age_those_go_that_nobody_has_used_since_and_the_destroyed_ones_first(world: World) -> None:
    client = await used(world, "asleep", "gone", "talking", "awake")
    await client.vm.get_or_create("talking").create_session("echo", keep=True)
    await destroyed(client, world, "gone")
    client = await world.restart()
    await client.vm.get_or_create("awake").exists("a")
    (world.registry.host.workspaces / "vm" / "stranger").mkdir()
    assert await removed(world, unused_for=DAY) == set()
    gone, _ = await remove_folders(world.registry, await vm_folders(world.registry), 0.0)
    assert gone[0].actor == "vm/gone"
    assert {folder.actor for folder in gone} == {"vm/gone", "vm/asleep", None}
    assert set(await folders(world)) == {"vm/awake", "vm/talking"}


async def test_a_vm_that_came_into_use_since_it_was_looked_at_keeps_its_folder(world: World) -> None:
    client = await used(world, "woken", "made", "opened")
    seen = await vm_folders(world.registry)
    made = world.registry.host.workspaces / "vm" / "made-again"
    await client.vm.get_or_create("woken").exists("a")
    await client.vm.get_or_create("opened").create_session("echo", keep=True)
    gone, failed = await remove_folders(world.registry, seen, 0.0)
    assert ({folder.actor for folder in gone}, failed) == ({"vm/made"}, [])
    assert await client.vm.get_or_create("woken").exists("a/file")
    assert not made.exists()


async def test_a_vm_whose_folder_went_begins_with_an_empty_one(world: World) -> None:
    client = await used(world, "main")
    assert await removed(world, unused_for=0.0) == {"vm/main"}
    assert await client.vm.get_or_create("main").list_dir() == []


async def test_a_folder_with_work_that_waits_for_its_vm_stays(world: World) -> None:
    from agentq_nb import Queue

    class Busy(MACHINE):  # type: ignore[misc, valid-type]
        jobs = Queue(str)

    client = await world.start(vm=Busy)
    vm = client.vm.get_or_create("main")
    await vm.write_file("file", b"x")
    await vm.pause("jobs")
    await vm.send("jobs", "later")
    await world.restart()
    assert (await folders(world))["vm/main"].status == "work waits"
    assert await removed(world, unused_for=0.0) == set()


async def test_a_folder_elsewhere_is_told_but_never_removed_since_others_may_use_it(
    world: World, tmp_path: Path
) -> None:
    client = await used(world, "gone", workspace=tmp_path / "shared")
    (tmp_path / "shared" / "vm" / "of-another").mkdir(parents=True, exist_ok=True)
    await destroyed(client, world, "gone")
    (folder,) = (await folders(world)).values()
    assert (folder.actor, folder.status, folder.elsewhere) == ("vm/gone", "destroyed", True)
    assert await removed(world, unused_for=0.0) == set()


async def test_what_is_no_folder_of_a_vm_is_left_alone(world: World, tmp_path: Path) -> None:
    await used(world, "main")
    workspaces = world.registry.host.workspaces
    outside = tmp_path / "outside"
    (outside / "kept").mkdir(parents=True)
    (workspaces / "vm" / "link").symlink_to(outside)
    (workspaces / "linked").symlink_to(outside)
    (workspaces / "vm" / "a file").write_text("x")
    assert set(await folders(world)) == {"vm/main"}
    assert await removed(world, unused_for=0.0) == {"vm/main"}
    assert (outside / "kept").is_dir()
    assert (workspaces / "vm" / "a file").exists()


async def test_what_an_interrupted_removal_left_goes_with_the_next(world: World) -> None:
    await used(world, "main")
    left = world.registry.host.workspaces / "vm" / ".removed-0123456789abcdef"
    (left / "deep").mkdir(parents=True)
    assert set(await folders(world)) == {"vm/main"}
    assert await removed(world) == set()
    assert not left.exists()


async def test_a_folder_that_cannot_be_removed_is_told_with_the_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await used(world, "stays", "goes")

    def refuse(path: str, *_: Any) -> None:
        if "stays" in os.listdir(path):
            raise PermissionError(13, "Permission denied")

    client = await world.restart()
    await client.vm.get_or_create("stays").write_file("stays", b"")
    await world.restart()
    monkeypatch.setattr(sys.modules[remove_folders.__module__], "remove_tree", refuse)
    gone, failed = await remove_folders(world.registry, await vm_folders(world.registry), 0.0)
    assert [folder.actor for folder in gone] == ["vm/goes"]
    ((folder, why),) = failed
    assert folder.actor == "vm/stays"
    assert folder.path.is_dir()
    assert "Permission denied" in why


async def test_two_removals_at_once_agree(world: World) -> None:
    await used(world, *(f"vm{number}" for number in range(6)))
    seen = await vm_folders(world.registry)
    both = await asyncio.gather(*(remove_folders(world.registry, seen, 0.0) for _ in range(2)))
    assert sorted(folder.actor for gone, _ in both for folder in gone) == [f"vm/vm{number}" for number in range(6)]
    assert all(failed == [] for _, failed in both)
