"""Names that DuckDB or the file system would not take are refused at once; all others work, up to the longest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest

from agentq_nb._core.paths import store_path
from agentq_nb._host import registry
from agentq_nb._host.setup import setup
from agentq_nb._store import EventLog
from agentq_nb._store.open_store import check_log
from agentq_nb._store.renamed_notebook import adopt, check_before_begun, left_behind, unfinished_messages
from agentq_nb._store.store_paths import check_path
from agentq_nb.errors import StoreDamaged, StoreError
from tests.unit.store.helpers import append, queued, with_log, write

REFUSED = [
    ("why?", 'the character "?"'),
    ("a?access_mode=READ_ONLY", 'the character "?"'),
    ("back\\slash", 'the character "\\"'),
    ("caf\udce9", "the byte 0xe9"),
    ("nul\0byte", "the character NUL"),
    ("half\ud800", "the lone surrogate U+D800"),
]

WORKING = [
    "100%", "a%20b", "#1", "it's", 'a "b"', "a;b", "*", "[a]", "{a}", "~", "$HOME", "a:b", "line\nbreak", " a ", ".hidden",
    "日本語", "\N{LINE SEPARATOR}", "--store", "a.wal", "file:a", "s3:a",
]  # fmt: skip

MESSAGES = "select message_id from messages order by 1"


@pytest.fixture(autouse=True)
def no_registry_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registries", {})
    monkeypatch.setattr(registry, "_latest", None)


def inside(folder: Path, name: str, where: str) -> Path:
    """A path with this name in it: of the file, or of its folder, which is made."""
    if where == "file":
        return folder / f"{name}.agentq.duckdb"
    with suppress(ValueError):  # a name that no folder can have
        (folder / name).mkdir()
    return folder / name / "a.agentq.duckdb"


def everything(folder: Path) -> list[bytes]:
    return sorted(path for path, _, _ in os.walk(os.fsencode(folder))) + sorted(
        os.path.join(path, name) for path, _, names in os.walk(os.fsencode(folder)) for name in names
    )


@pytest.mark.parametrize("where", ["file", "folder"])
@pytest.mark.parametrize(("name", "said"), REFUSED, ids=ascii)
def test_a_name_that_duckdb_reads_in_its_own_way_is_refused_everywhere_and_nothing_is_made(
    tmp_path: Path, name: str, said: str, where: str
) -> None:
    path = inside(tmp_path, name, where)
    source = tmp_path / "source.agentq.duckdb"
    write(source, queued("a"))
    before = everything(tmp_path)

    async def export(log: EventLog) -> None:
        with pytest.raises(StoreError) as caught:
            await log.export(path)
        assert said in caught.value.message
        assert "export to another file" in caught.value.message

    for use in (
        lambda: EventLog.open(path),
        lambda: setup(store=path),
        lambda: adopt(source, path),
        lambda: adopt(path, source),
    ):
        with pytest.raises(StoreError) as caught:
            use()
        assert said in caught.value.message
        assert "store=PATH" in caught.value.message
        assert caught.value.code == "bad_name"
    for look in (check_log, unfinished_messages):
        with pytest.raises(StoreError):
            look(path)
    with_log(source, export)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("where", ["file", "folder"])
@pytest.mark.parametrize("name", WORKING, ids=ascii)
def test_any_other_name_works_for_a_log_after_a_crash_for_its_copy_and_for_adoption(
    tmp_path: Path, name: str, where: str
) -> None:
    path = inside(tmp_path, name, where)
    crash(path)
    copy = path.with_name("copy of " + path.name)

    async def use(log: EventLog) -> None:
        assert log.fetch(MESSAGES) == [("a",)]
        await append(log, queued("b"))
        await log.export(copy)

    with_log(path, use)
    with duckdb.connect(str(copy), read_only=True) as connection:
        assert connection.execute(MESSAGES).fetchall() == [("a",), ("b",)]
    assert unfinished_messages(path) == 2
    target = path.with_name("adopted " + path.name)
    adopt(path, target)
    assert unfinished_messages(target) == 2
    left = {file.name for file in path.parent.iterdir() if file.is_file()}
    assert left == {copy.name, target.name, target.name + ".guard"}


def crash(path: Path) -> None:
    """Let another process write a message to the log, and die."""
    code = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from agentq_nb._store import EventLog\n"
        "from tests.unit.store.helpers import append, queued\n"
        "async def run():\n"
        "    await append(EventLog.open(Path(os.fsdecode(sys.argv[1]))), queued('a'))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(run())\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/a.duckdb",
        "http://host/a.duckdb",
        "https://host/a",
        "md:a",
        "md:",
        ":memory:",
        "file:///tmp/a.duckdb",
    ],
)
def test_an_address_is_refused_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.duckdb", queued("a"))
    for asked, environ in ((address, {}), (None, {"AGENTQ_DB": address})):
        path, _ = store_path(asked, environ, None)
        with pytest.raises(StoreError, match="looks like an address"):
            EventLog.open(path)
    with pytest.raises(StoreError, match="looks like an address"):
        setup(store=address)

    async def export(log: EventLog) -> None:
        with pytest.raises(StoreError, match=r"looks like an address.*export to another file"):
            await log.export(Path(address))

    with_log(tmp_path / "a.duckdb", export)
    assert {file.name for file in tmp_path.iterdir()} == {"a.duckdb", "a.duckdb.guard"}


def test_a_relative_path_and_the_home_folder_are_what_they_are_in_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for asked, meant in (
        ("~/a.duckdb", tmp_path / "home" / "a.duckdb"),
        (Path("~/a.duckdb"), tmp_path / "home" / "a.duckdb"),
        ("sub/a.duckdb", tmp_path / "sub" / "a.duckdb"),
        ("~no_such_user/a.duckdb", tmp_path / "~no_such_user" / "a.duckdb"),
    ):
        assert store_path(asked, {}, None)[0] == meant
        assert store_path(None, {"AGENTQ_DB": str(asked)}, None)[0] == meant
        assert setup(store=asked).store_path == meant


def longest(folder: Path) -> int:
    """The length of the longest name that is accepted in this folder."""
    return max(length for length in range(1, 256) if accepted(folder / ("n" * length)))


def accepted(path: Path) -> bool:
    try:
        check_path(path)
    except StoreError as error:
        return error.code != "name_too_long"
    return True


def test_a_name_that_is_too_long_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    limit = longest(tmp_path)
    source = tmp_path / "a.agentq.duckdb"
    write(source, queued("a"))
    before = everything(tmp_path)
    for name in ("n" * (limit + 1), "n" * 243, "n" * 255, "n" * 256, "n" * 5000, "ü" * (limit // 2 + 1)):
        for use in (
            lambda path: EventLog.open(path),
            lambda path: setup(store=path),
            lambda path: adopt(source, path),
            lambda path: with_log(source, lambda log: log.export(path)),
        ):
            with pytest.raises(StoreError, match=rf"too long: \d+ bytes, and {limit} is the limit"):
                use(tmp_path / name)
    assert everything(tmp_path) == before


def test_a_path_that_is_too_long_is_refused_though_each_of_its_names_is_short(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["n" * 200] * 30)
    with pytest.raises(StoreError, match=r"The path of .* is too long: \d+ bytes, and 4\d\d\d is the limit"):
        EventLog.open(deep / "a.duckdb")


def test_the_longest_name_holds_out_through_a_crash_a_copy_an_adoption_and_damage(tmp_path: Path) -> None:
    limit = longest(tmp_path)
    path, target, copy = (tmp_path / (letter * limit) for letter in "ntc")
    crash(path)

    async def use(log: EventLog) -> None:
        assert log.fetch(MESSAGES) == [("a",)]
        for number in range(2000):
            log.append([queued(f"m{number}")])
        await log.flushed()
        await log.export(copy)

    with_log(path, use)
    adopt(path, target)
    check_log(target)
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    content[-1] ^= 1
    target.write_bytes(content[: len(content) - 4096])
    with pytest.raises(StoreDamaged):
        EventLog.open(target)
    log = EventLog.open(target, accept_loss=True)
    assert log.fetch("select count(*) from events where kind = 'store.loss_accepted'") == [(1,)]
    log.close()


def test_a_log_of_a_name_that_cannot_be_used_does_not_hinder_the_others_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.agentq.duckdb").write_bytes(b"x")
    (tmp_path / "why?.agentq.duckdb").write_bytes(b"x")
    write(tmp_path / "old.agentq.duckdb", queued("a"))
    found = {one.store.name: one.unfinished for one in left_behind(tmp_path)}
    assert found == {"caf\udce9.agentq.duckdb": None, "why?.agentq.duckdb": None, "old.agentq.duckdb": 1}
    notebook = tmp_path / "new.ipynb"
    notebook.write_text("{}")
    with pytest.raises(StoreError, match=r"old\.agentq\.duckdb holds 1 unfinished message"):
        check_before_begun(tmp_path / "new.agentq.duckdb", notebook)
