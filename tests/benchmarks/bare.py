"""What the machine gives: one fdatasync, and one plain durable DuckDB commit."""

from __future__ import annotations

import os
import time
from pathlib import Path

import duckdb

BODY = '{"prompt":"%s"}' % ("x" * 187)  # a body of 200 bytes


def fdatasync_seconds(folder: Path, times: int = 200) -> list[float]:
    """Seconds of each append of a body and fdatasync, to a file that grows."""
    body = BODY.encode()
    taken: list[float] = []
    descriptor = os.open(folder / "bare", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        for _ in range(times):
            begun = time.perf_counter()
            os.write(descriptor, body)
            os.fdatasync(descriptor)
            taken.append(time.perf_counter() - begun)
    finally:
        os.close(descriptor)
    return taken


def insert_seconds(folder: Path, times: int = 200) -> list[float]:
    """Seconds of each autocommitted insert of one row, as anybody would write it."""
    taken: list[float] = []
    path = folder / f"bare-{time.time_ns()}.duckdb"
    connection = duckdb.connect(str(path))
    connection.execute("create table plain (id bigint, time timestamp, body varchar)")
    for number in range(times):
        begun = time.perf_counter()
        connection.execute("insert into plain values (?, now()::timestamp, ?)", [number, BODY])
        taken.append(time.perf_counter() - begun)
    connection.close()
    path.unlink()
    return taken
