"""The shell command: which file it means, what it says, and with which exit code."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from agentq_nb import Actor, Queue, Retry, agent_os, create_client, setup
from agentq_nb._commands.catalog import offered
from agentq_nb.cli import existing_store, main
from agentq_nb.errors import StoreError


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTQ_DB", raising=False)


def test_help_names_every_command_of_the_shell_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    told = capsys.readouterr().out
    for name in ("send", "ask", "watch", "run", "serve"):
        assert f"agentq {name}" in told
    for name in ("agents", "demo", "doctor", "sql", "export", "prune", "vms", "status", "results", "dead", "show"):
        assert f"agentq {name}" in told
    assert "agentq start" not in told
    assert "agentq dashboard" not in told
    assert "--store PATH" in told


@pytest.mark.parametrize("asked", [["--help"], ["-h"], [], ["help"]])
def test_help_has_a_usage_line_and_whole_descriptions(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert told.startswith("usage: agentq COMMAND")
    assert "characters)" not in told
    assert "…" not in told


@pytest.mark.parametrize("asked", ["--version", "version"])
def test_the_version_is_the_one_of_the_package_and_needs_no_store(
    asked: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert main([asked]) == 0
    assert capsys.readouterr().out == f"{project['name']} {project['version']}\n"
    assert list(tmp_path.iterdir()) == []


def test_help_speaks_of_the_shell(capsys: pytest.CaptureFixture[str]) -> None:
    for name in [None, *offered("shell")]:
        assert main(["help", *([] if name is None else [name])]) == 0
        told = capsys.readouterr().out
        assert told.startswith("usage: agentq ")
        assert "%agentq" not in told, name
        assert "In a notebook" not in told, name
        assert all(line.strip() for line in told.rstrip().split("\n\n")), name


def test_errors_speak_of_the_shell_where_it_has_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transcript", "nothing", "--store", str(_empty_store(tmp_path))]) != 0
    told = capsys.readouterr().err
    assert "known ones: agentq sessions" in told
    assert "%agentq" not in told


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["dead"], "No dead letters. Messages that failed and are not tried again are listed here."),
        (["dead", "worker/main"], "No dead letters of worker/main. Messages"),
        (["dead", "worker/main", "jobs"], "No dead letters of worker/main, queue 'jobs'. Messages"),
        (["results"], "No message is done yet."),
        (["results", "worker/main"], "No message of worker/main is done yet."),
        (["sessions"], "No sessions. A VM begins one with an agent: await vm.create_session(...)."),
        (["sessions", "vm/main"], "No sessions of vm/main. A VM"),
        (["status"], "No queue has been used yet"),
        (["sql", "select 1 where false"], "No rows."),
    ],
)
def test_a_list_without_rows_says_what_there_is_none_of(
    command: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--store", str(_empty_store(tmp_path))]) == 0
    assert says in capsys.readouterr().out


def _empty_store(folder: Path) -> Path:
    path = folder / "empty.duckdb"

    async def make() -> None:
        async with setup(store=path):
            pass

    asyncio.run(make())
    return path


def test_help_of_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "prune"]) == 0
    assert "agentq prune BEFORE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["strat"], "There is no command 'strat'"),
        (["start"], "start works only in a notebook, as %agentq start"),
        (["sql"], "QUERY is missing. Type: agentq sql QUERY"),
        (["sql", "select 1", "--store"], "--store needs a path"),
        (["agents", "install", "emacs"], "with some of: pi, claude, codex"),
        (["agents", "remove", "pi"], "agents install AGENT..."),
        (["prune", "soon"], "BEFORE is a time like 7d, 12h"),
        (["vms", "prune", "--older", "30"], "a length of time, like 90s, 10m, 2h or 1d"),
    ],
)
def test_bad_words_are_one_line_and_exit_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1


def test_the_only_file_of_the_folder_is_meant(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no"):
        existing_store(None, tmp_path)
    by_a_program = tmp_path / "agentq.duckdb"
    by_a_program.touch()
    assert existing_store(None, tmp_path) == by_a_program
    by_a_program.unlink()
    only = tmp_path / "one.agentq.duckdb"
    only.touch()
    assert existing_store(None, tmp_path) == only
    (tmp_path / "two.agentq.duckdb").touch()
    with pytest.raises(StoreError, match=r"several files here: one.agentq.duckdb, two.agentq.duckdb"):
        existing_store(None, tmp_path)


def test_a_file_that_is_not_there_is_never_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing.duckdb"
    assert main(["status", "--store", str(missing)]) == 1
    assert f"There is no file {missing}. Check the path that --store gives." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_it_runs_as_a_module_and_stops_when_nobody_reads_on(tmp_path: Path) -> None:
    ran = subprocess.run(
        f"{sys.executable} -m agentq_nb.cli help | head -1", shell=True, capture_output=True, text=True, check=True
    )
    assert "usage" in ran.stdout
    assert ran.stderr == ""


class Fallible(Actor):
    tasks = Queue(str, retry=Retry(attempts=1))

    async def run(self) -> None:
        async for message in self.queue.iter(completable=True):
            await message.fail(ValueError(f"no {message.body}"))


@pytest.fixture
def dead(tmp_path: Path) -> tuple[Path, list[str]]:
    """A file with three dead letters, of whose classes this process knows nothing, and their ids."""
    path, copy = tmp_path / "original.duckdb", tmp_path / "dead.duckdb"

    async def fill() -> list[str]:
        async with setup(use={"fallible": Fallible, "other": Fallible}, store=path):
            client = create_client()
            handles: list[Any] = [client.fallible.get_or_create("a"), client.fallible.get_or_create("b")]
            sent = [await handle.send("tasks", "room") for handle in [*handles, client.other.get_or_create("c")]]
            assert [(await receipt.result(10)).status for receipt in sent] == ["failed"] * 3
            return [receipt.id for receipt in sent]

    messages = asyncio.run(fill())
    shutil.copyfile(path, copy)
    return copy, messages


def queued(path: Path, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The actors with a message that waits."""
    capsys.readouterr()
    assert main(["sql", "select actor_id from messages where status = 'queued'", "--store", str(path)]) == 0
    told = capsys.readouterr().out
    return {actor for actor in ("fallible/a", "fallible/b", "other/c") if actor in told}


@pytest.mark.parametrize(
    ("words", "says", "back"),
    [
        (["--all"], "Put 3 dead letters back.", {"fallible/a", "fallible/b", "other/c"}),
        (["--all", "fallible"], "Put 2 dead letters back.", {"fallible/a", "fallible/b"}),
        (["--all", "fallible/a", "tasks"], "Put 1 dead letter back.", {"fallible/a"}),
        (
            ["fallible", "--all", "--since", "1h", "--error", "ValueError: no"],
            "Put 2 dead",
            {"fallible/a", "fallible/b"},
        ),
        (["--all", "--error", "KeyError"], "nothing was put back", set[str]()),
        (["--all", "fallible", "others"], "nothing was put back", set[str]()),
    ],
)
def test_retry_puts_dead_letters_back_and_says_how_many(
    dead: tuple[Path, list[str]], words: list[str], says: str, back: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = dead
    assert main(["retry", *words, "--store", str(path)]) == 0
    assert says in capsys.readouterr().out
    assert queued(path, capsys) == back


def test_retry_of_one_message_in_the_shell(dead: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    path, (_, second, _) = dead
    assert main(["retry", second, "--store", str(path)]) == 0
    assert second in capsys.readouterr().out
    assert queued(path, capsys) == {"fallible/b"}


@pytest.mark.parametrize(
    "words", [[], ["--since", "1h"], ["someone", "tasks"], ["--all", "no actor"], ["--all", "--since", "soon"]]
)
def test_retry_without_saying_which_puts_nothing_back(
    dead: tuple[Path, list[str]], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = dead
    assert main(["retry", *words, "--store", str(path)]) == 2
    assert queued(path, capsys) == set()


@pytest.mark.parametrize("words", [["remove"], ["--yes"], ["--older", "30d"]])
def test_vms_says_what_can_be_typed(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vms", *words, "--store", str(_empty_store(tmp_path))]) == 2
    assert "Type: agentq vms" in capsys.readouterr().err


def _store_with_vms(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a VM that sleeps and one that was destroyed; the shell works in its folder."""
    path = folder / "work.agentq.duckdb"

    async def make() -> None:
        async with setup(use={"vm": agent_os(isolation="off")}, store=path) as registry:
            vm = create_client().vm
            for key in ("kept", "gone"):
                await vm.get_or_create(key).write_file("file", b"x" * 5_000)
            await vm.get_or_create("gone").destroy()
            while (ending := registry.host.activations.find("vm/gone")) is not None:
                await ending.ended.wait()

    asyncio.run(make())
    monkeypatch.chdir(folder)
    return folder / "work.agentq" / "vm"


def test_folders_of_vms_are_listed_and_pruned_from_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vms = _store_with_vms(tmp_path, monkeypatch)
    kept, gone = (next(vms.glob(f"{key}-*")) for key in ("kept", "gone"))
    assert main(["vms"]) == 0
    told = capsys.readouterr().out
    lines = {line.split()[0]: line for line in told.splitlines() if line.startswith("vm/")}
    assert "asleep" in lines["vm/kept"]
    assert str(kept) in lines["vm/kept"]
    assert "destroyed" in lines["vm/gone"]
    assert "To remove the folders of destroyed VMs: agentq vms prune" in told
    assert main(["vms", "prune"]) == 0
    told = capsys.readouterr().out
    assert "Nothing was removed yet. To remove 1 folder: agentq vms prune --yes" in told
    assert "vm/kept" not in told
    assert gone.exists()
    assert main(["vms", "prune", "--yes"]) == 0
    assert "Removed 1 folder." in capsys.readouterr().out
    assert not gone.exists()
    assert main(["vms", "prune", "--older", "30d", "--yes"]) == 0
    assert "nothing was removed" in capsys.readouterr().out
    assert (kept / "file").exists()
    assert main(["vms", "prune", "--older", "0s"]) == 0
    assert "agentq vms prune --older 0s --yes" in capsys.readouterr().out
    assert main(["vms", "prune", "--older", "0s", "--yes"]) == 0
    assert not kept.exists()
    assert main(["vms"]) == 0
    assert "No VM has a folder here." in capsys.readouterr().out
