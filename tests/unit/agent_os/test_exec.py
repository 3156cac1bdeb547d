"""The exec action: arguments, folders, names, and files seen from both sides."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentq_nb.agent_os import agent_os
from agentq_nb.agent_os.sandbox import isolation
from agentq_nb.agent_os.values import IsolationKind
from agentq_nb.errors import IsolationUnavailable, ValidationFailed, WorkspaceError
from tests.unit.agent_os.machine import Machine


def test_commands_and_file_actions_see_the_same_files(kind: IsolationKind, tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(), tmp_path) as vm:
            assert (await vm.isolation()).kind == kind
            await vm.write_file("/home/user/src/a.txt", "from outside")
            result = await vm.exec("cat a.txt; echo inside > b.txt; pwd", cwd="src")
            assert result.stdout.startswith("from outside")
            where = result.stdout.splitlines()[-1].removeprefix("from outside")
            assert await vm.read_file(f"{where}/b.txt") == b"inside\n"
            assert [entry.name for entry in await vm.list_dir("/home/user/src")] == ["a.txt", "b.txt"]
            assert (await vm.stat("src/b.txt")).size == 7
            await vm.move("src/b.txt", "c.txt")
            await vm.delete("src", recursive=True)
            assert await vm.exists("c.txt")
            assert not await vm.exists("src")
            await vm.make_dir("d/e")
            assert (await vm.exec(["ls", "-R"])).stdout == ".:\nc.txt\nd\n\n./d:\ne\n\n./d/e:\n"

    asyncio.run(program())


def test_a_link_out_made_by_a_command_does_not_let_file_actions_out(kind: IsolationKind, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("outside")

    async def program() -> None:
        async with Machine(agent_os(), tmp_path) as vm:
            assert (await vm.exec(f"ln -s {tmp_path} out; ln -s {tmp_path}/secret file")).exit_code == 0
            for action, arguments in (
                (vm.read_file, ["file"]),
                (vm.read_file, ["out/secret"]),
                (vm.write_file, ["out/secret", b"x"]),
                (vm.list_dir, ["out"]),
            ):
                with pytest.raises(WorkspaceError, match="link"):
                    await action(*arguments)
            with pytest.raises(WorkspaceError):
                await vm.exec("true", cwd="out")

    asyncio.run(program())
    assert (tmp_path / "secret").read_text() == "outside"


def test_lists_are_run_without_a_shell_in_between(kind: IsolationKind, tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(), tmp_path) as vm:
            assert (
                await vm.exec(["printf", "%s|", "a b", "$HOME", "*", "'", "new\nline"])
            ).stdout == "a b|$HOME|*|'|new\nline|"
            assert (await vm.exec(["no-such-program"])).exit_code == 127
            assert (await vm.exec("sleep 60", timeout=0.2)).timed_out

    asyncio.run(program())


@pytest.mark.parametrize("command", [[], [""], "a\0b", ["ls", "\0"], ["ls", 5], 5, None])
def test_what_is_no_command_is_refused(command: Any, tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(), tmp_path) as vm:
            with pytest.raises(ValidationFailed):
                await vm.exec(command)

    asyncio.run(program())


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "soon", [5]])
def test_what_is_no_time_limit_is_refused_before_anything_runs(timeout: float, tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(), tmp_path) as vm:
            with pytest.raises(ValidationFailed, match="timeout"):
                await vm.exec("touch ran", timeout=timeout)
            assert not await vm.exists("ran")

    asyncio.run(program())


def test_a_command_that_is_too_long_is_told(tmp_path: Path) -> None:
    async def program() -> None:
        async with Machine(agent_os(isolation="off"), tmp_path) as vm:
            result = await vm.exec("true " + "x" * 3_000_000)
            assert result.exit_code == 126
            assert "too long" in result.stderr

    asyncio.run(program())


def test_required_isolation_refuses_creation_and_exec_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "_tried", {"bubblewrap": "not here", "landlock": "not here"})

    async def program() -> None:
        async with Machine(agent_os(isolation="required"), tmp_path) as vm:
            for action in (lambda: vm.exec("touch made"), vm.isolation, vm.list_dir):
                with pytest.raises(IsolationUnavailable, match="offers none"):
                    await action()

    asyncio.run(program())
    assert not list(tmp_path.rglob("made"))
