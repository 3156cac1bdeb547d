"""A disk that loses power: which files and bytes may be there afterwards.

The model. Data is durable once the file was synced, or at once for a write with RWF_DSYNC. A write that was not synced is
there, not there, or torn: each of its sectors (512 or 4096 bytes) is old or new. Each write is lost or kept by itself. A
file that was cut and not synced has its old length or the new one; in the first case nothing is there of what was written
to it later. Changes of names are durable only once their folder was synced, whatever was synced else; of those that were
not, the first so many are there, in the order in which they were made, as a file system that keeps a journal of its
metadata has it. So a name may be there without the data, but no later name without the earlier ones.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.power_recording import Kind, Operation

DROPPED, KEPT, MIXED = "dropped", "kept", "mixed"
WAYS = (DROPPED, KEPT, MIXED)
"""What becomes of everything that was not durable."""


@dataclass
class File:
    """One file, whatever its names."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Operation] = field(default_factory=list[Operation])
    """Writes and cuts since it was synced, and durable writes between them."""

    def sync(self) -> None:
        for operation in self.pending:
            _apply(self.durable, operation)
        self.pending.clear()

    def do(self, operation: Operation) -> None:
        """A write or a cut."""
        self.pending.append(operation)
        if not operation.durable:
            return
        if all(earlier.durable for earlier in self.pending):
            self.sync()
        elif any(earlier.kind is Kind.TRUNCATE for earlier in self.pending):
            self.sync()  # a durable write makes the length durable as well

    def after_loss(self, choose: random.Random, way: str) -> bytearray:
        """What may be read back."""
        content = bytearray(self.durable)
        cut_lost = False
        for operation in self.pending:
            if operation.durable or way == KEPT:
                _apply(content, operation)
            elif way == MIXED and not cut_lost:
                fate = choose.choice((DROPPED, KEPT, "512", "4096"))
                if operation.kind is Kind.TRUNCATE:
                    cut_lost = fate == DROPPED
                if fate == KEPT or (operation.kind is Kind.TRUNCATE and not cut_lost):
                    _apply(content, operation)
                elif fate.isdigit() and operation.kind is Kind.WRITE:
                    _tear(content, operation, int(fate), choose)
        return content


def _apply(content: bytearray, operation: Operation) -> None:
    if operation.kind is Kind.TRUNCATE:
        del content[operation.offset :]
        content.extend(bytes(operation.offset - len(content)))
        return
    if len(content) < operation.offset:
        content.extend(bytes(operation.offset - len(content)))
    content[operation.offset : operation.offset + len(operation.data)] = operation.data


def _tear(content: bytearray, operation: Operation, sector: int, choose: random.Random) -> None:
    start, end = operation.offset, operation.offset + len(operation.data)
    position = start
    while position < end:
        stop = min(end, (position // sector + 1) * sector)
        if choose.random() < 0.5:
            part = operation.data[position - start : stop - start]
            _apply(content, Operation(Kind.WRITE, False, 0, position, "", "", part))
        position = stop


class Disk:
    """The folder while the recording is replayed."""

    def __init__(self) -> None:
        self._files: dict[int, File] = {}
        self._durable: dict[str, File] = {}
        self._current: dict[str, File] = {}
        self._names: list[tuple[str, dict[str, File | None]]] = []
        """Changes of names that are not durable: the folder, and what each name leads to from then on."""
        self.marks: list[bytes] = []

    @staticmethod
    def of(folder: Path) -> Disk:
        """A folder as it is found: all of it is durable."""
        disk = Disk()
        for path in folder.iterdir():
            file = File(bytearray(path.read_bytes()))
            disk._files[path.stat().st_ino] = disk._durable[path.name] = disk._current[path.name] = file
        return disk

    def do(self, operation: Operation) -> None:
        """What an operation does once it has returned."""
        kind, name, other = operation.kind, operation.name, operation.other
        if kind is Kind.CREATE:
            self._files[operation.inode] = File()
            self._change({name: self._files[operation.inode]})
        elif kind in (Kind.WRITE, Kind.TRUNCATE):
            self._files[operation.inode].do(operation)
        elif kind is Kind.SYNC:
            self._files[operation.inode].sync()
        elif kind is Kind.RENAME:
            self._change({name: None, other: self._current[name]})
        elif kind is Kind.LINK:
            self._change({other: self._current[name]})
        elif kind is Kind.UNLINK:
            self._change({name: None})
        elif kind is Kind.SYNC_FOLDER:
            self._sync_folder(name)
        elif kind is Kind.MARK:
            self.marks.append(operation.data)

    def _change(self, change: dict[str, File | None]) -> None:
        folder = next(iter(change)).rpartition("/")[0]
        self._names.append((folder, change))
        _lead(self._current, change)

    def _sync_folder(self, folder: str) -> None:
        for changed, change in self._names:
            if changed == folder:
                _lead(self._durable, change)
        self._names = [(changed, change) for changed, change in self._names if changed != folder]

    def during(self, operation: Operation) -> Disk:
        """The disk while an operation is under way: nothing of it is durable."""
        disk = Disk()
        disk._files, disk._durable = self._files, self._durable
        disk._current, disk._names, disk.marks = dict(self._current), list(self._names), self.marks
        if operation.kind in (Kind.WRITE, Kind.TRUNCATE):
            under_way = Operation(operation.kind, False, 0, operation.offset, "", "", operation.data)
            file = self._files[operation.inode]
            halfway = File(file.durable, [*file.pending, under_way])
            disk._durable = {name: halfway if found is file else found for name, found in self._durable.items()}
            disk._names = [
                (folder, {name: halfway if found is file else found for name, found in change.items()})
                for folder, change in self._names
            ]
        elif operation.kind in (Kind.RENAME, Kind.LINK, Kind.UNLINK):
            disk.do(operation)
        elif operation.kind is Kind.CREATE:
            disk._names.append((operation.name.rpartition("/")[0], {operation.name: File()}))
        return disk

    def lose_power(self, folder: Path, choose: random.Random, way: str) -> None:
        """Write to a folder what may be there afterwards."""
        names = dict(self._durable)
        there = {DROPPED: 0, KEPT: len(self._names), MIXED: choose.randint(0, len(self._names))}[way]
        for _, change in self._names[:there]:
            _lead(names, change)
        contents: dict[int, bytearray] = {}
        for name, file in names.items():
            if id(file) not in contents:
                contents[id(file)] = file.after_loss(choose, way)
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents[id(file)])


def _lead(names: dict[str, File], change: dict[str, File | None]) -> None:
    for name, file in change.items():
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file
