"""Losing power, as ``python -m tests.faults.power`` tries it, with few cuts; and what it takes a disk to be."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.faults import power, power_recording
from tests.faults.power_disk import DROPPED, KEPT, MIXED, Disk
from tests.faults.power_ledger import WHOLE
from tests.faults.power_recording import Kind, Operation
from tests.faults.power_traffic import STORE
from tests.requirements import missing

SEED = 7
CUTS = 40


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    folder = power.temporary_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def scratch() -> Iterator[Path]:
    folder = power.temporary_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def library(base: Path) -> Path:
    try:
        return power_recording.build(base)
    except power_recording.NoCompiler as error:
        missing(str(error))


@pytest.fixture(scope="module")
def operations(library: Path, base: Path) -> list[Operation]:
    return power_recording.read(power.record(base, library, ("stop", "kill", "prune")))


def planned(operations: Sequence[Operation], number: int, *near: str) -> list[power.Cut]:
    found = power.cuts(operations, SEED, random_moments=30, mixes=1)
    chosen = [cut for cut in found if not near or cut.near in near]
    return sorted(random.Random(SEED).sample(chosen, min(number, len(chosen))), key=lambda cut: cut.number)


def test_what_was_acknowledged_is_there_after_power_was_lost(operations: list[Operation], scratch: Path) -> None:
    bad = [
        f"{cut}: {verdict.outcome}: {verdict.said}"
        for cut, verdict in power.replay(operations, planned(operations, CUTS), scratch)
        if verdict.outcome != WHOLE
    ]
    assert bad == []


def test_the_recording_has_what_is_delicate(operations: list[Operation]) -> None:
    found = Counter(cut.near for cut in power.cuts(operations, SEED, random_moments=30, mixes=1))
    assert {"checkpoint", "region", "name"} <= set(found)
    assert sum(operation.durable for operation in operations) > 50


def test_without_the_copy_a_torn_checkpoint_is_found(operations: list[Operation], scratch: Path) -> None:
    def lose_the_copy(folder: Path) -> None:
        (folder / f"{STORE}.checkpoint").unlink(missing_ok=True)

    cuts = [
        cut for cut in planned(operations, 1000, "checkpoint") if cut.way == MIXED and _writes_metadata(operations, cut)
    ]
    outcomes = Counter(
        verdict.outcome for _, verdict in power.replay(operations, cuts[:10], scratch, spoil=lose_the_copy)
    )
    assert outcomes.total() - outcomes[WHOLE] > 0


def _writes_metadata(operations: Sequence[Operation], cut: power.Cut) -> bool:
    operation = operations[cut.operation]
    return operation.kind is Kind.WRITE and operation.offset == 12288 and len(operation.data) == 256 << 10


# --- the disk ---------------------------------------------------------------------------------------------------------


def create(name: str, inode: int = 1) -> Operation:
    return Operation(Kind.CREATE, False, inode, 0, name, "", b"")


def wrote(data: bytes, offset: int = 0, *, durable: bool = False, inode: int = 1) -> Operation:
    return Operation(Kind.WRITE, durable, inode, offset, "", "", data)


def plain(kind: Kind, name: str = "", other: str = "", *, inode: int = 1, offset: int = 0) -> Operation:
    return Operation(kind, False, inode, offset, name, other, b"")


SYNC, SYNC_FOLDER = plain(Kind.SYNC), plain(Kind.SYNC_FOLDER)


def left(operations: Sequence[Operation], folder: Path, way: str, seed: int = 0) -> dict[str, bytes]:
    disk = Disk()
    for operation in operations:
        disk.do(operation)
    folder = folder / f"{way}-{seed}"
    folder.mkdir()
    disk.lose_power(folder, random.Random(seed), way)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_data_is_durable_once_synced_and_names_once_their_folder_was(tmp_path: Path) -> None:
    written = [create("a"), wrote(b"old"), SYNC]
    assert left(written, tmp_path, DROPPED) == {}
    assert left([*written, SYNC_FOLDER, wrote(b"new")], tmp_path, DROPPED, 1) == {"a": b"old"}
    assert left([*written, wrote(b"new")], tmp_path, KEPT, 2) == {"a": b"new"}


def test_a_durable_write_needs_no_sync_and_takes_no_other_with_it(tmp_path: Path) -> None:
    done = [create("a"), SYNC_FOLDER, wrote(b"....", 4), wrote(b"four", durable=True)]
    assert left(done, tmp_path, DROPPED) == {"a": b"four"}
    assert left(done, tmp_path, KEPT) == {"a": b"four...."}


def test_a_write_that_was_not_synced_is_old_new_or_torn_between_sectors(tmp_path: Path) -> None:
    done = [create("a"), wrote(bytes(4096)), SYNC, SYNC_FOLDER, wrote(b"\1" * 4096)]
    found = [left(done, tmp_path, MIXED, seed)["a"] for seed in range(40)]
    sectors = {content[start : start + 512] for content in found for start in range(0, 4096, 512)}
    assert sectors == {bytes(512), b"\1" * 512}
    assert {bytes(4096), b"\1" * 4096} < set(found)


def test_names_that_were_not_synced_are_lost_from_the_last_one_backwards(tmp_path: Path) -> None:
    done = [
        create("new"),
        create("other", 2),
        SYNC_FOLDER,
        plain(Kind.RENAME, "new", "a"),
        plain(Kind.UNLINK, "other"),
    ]
    found = {tuple(sorted(left(done, tmp_path, MIXED, seed))) for seed in range(40)}
    assert found == {("new", "other"), ("a", "other"), ("a",)}


def test_what_was_written_behind_a_cut_that_was_lost_is_lost_too(tmp_path: Path) -> None:
    done = [create("a"), wrote(b"123456"), SYNC, SYNC_FOLDER, plain(Kind.TRUNCATE, offset=2), wrote(b"x", 2)]
    found = {left(done, tmp_path, MIXED, seed)["a"] for seed in range(40)}
    assert found == {b"123456", b"12", b"12x"}
