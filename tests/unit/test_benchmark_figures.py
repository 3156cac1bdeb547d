"""The benchmarks' table says what was measured, and which targets were missed."""

from __future__ import annotations

import importlib.util
import sqlite3
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks import batches, peers
from tests.benchmarks.figures import Samples, Table, median, percentile


@pytest.mark.parametrize(
    ("ratio", "limits", "reached"),
    [
        (2.0, {"at_least": 2}, True),
        (1.99, {"at_least": 2}, False),
        (2.0, {"at_most": 2}, True),
        (2.01, {"at_most": 2}, False),
        (2.0, {}, None),
    ],
)
def test_a_target_is_reached_at_its_limit_and_missed_beyond_it(
    ratio: float, limits: dict[str, float], reached: bool | None
) -> None:
    table = Table()
    row = table.add("sends", 100, "/s")
    table.aim(row, ratio, "x others", **limits)
    assert row.reached is reached
    assert row.ratio == f"{ratio:.2f} x others"
    assert {True: "reached", False: "SHORT", None: "others"}[reached] in table.render().splitlines()[-1]


def test_a_figure_with_two_targets_has_a_row_for_each() -> None:
    table = Table()
    row = table.add("sends", 12_345.6, "/s")
    table.aim(row, 3, "x one", at_least=2)
    table.aim(table.again(row), 1, "x other", at_least=2)
    assert [figure.reached for figure in table.figures] == [True, False]
    lines = table.render().splitlines()
    assert len(lines) == 4
    assert lines[2].split() == ["sends", "12,346", "/s", "3.00", "x", "one", "≥", "2", "reached"]
    assert lines[3].split() == ["sends", "12,346", "/s", "1.00", "x", "other", "≥", "2", "SHORT"]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    table = Table()
    table.add("a", 1, "ms")
    table.add("a much longer name", 0.12345, "ms")
    header, rule, first, second = table.render().splitlines()
    assert header.index("median") == first.index("1 ms") == second.index("0.123 ms") == len("a much longer name") + 2
    assert rule.startswith("-" * len("a much longer name") + "  ")


def test_samples_are_gathered_over_rounds() -> None:
    samples = Samples()
    samples.add("delay", 1.0, 2.0)
    samples.add("delay", 9.0)
    samples.add("rate", 5.0)
    assert samples.median("delay") == 2.0
    assert samples.highest("delay") == 9.0
    assert samples.percentile("delay", 99) == 9.0
    assert samples.median("rate") == 5.0
    with pytest.raises(KeyError):
        samples.median("never measured")


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 0), percentile(values, 50), percentile(values, 99), percentile(values, 100)) == (
        1.0,
        51.0,
        100.0,
        100.0,
    )
    assert percentile([7.0], 99) == 7.0
    assert median([3.0, 1.0, 2.0]) == 2.0


def test_a_peer_that_is_not_installed_is_named_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return (
            None
            if name in ("persistqueue", "litequeue")
            else ModuleSpec("huey", None)
            if name == "huey"
            else find(name)
        )

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(peers.MissingPeers, match=r"^persist-queue, litequeue cannot be imported.*\[benchmark\]"):
        benchmarks.queue_figures(Table(1), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_rates_are_of_messages_that_were_put_taken_and_settled(tmp_path: Path) -> None:
    put, cycle = peers.SQLITE.rates(tmp_path, times=20)
    assert put > cycle > 0
    (folder,) = tmp_path.iterdir()
    with sqlite3.connect(folder / "by-hand.db") as connection:
        assert connection.execute("select count(*) from queue").fetchall() == [(0,)]
        assert connection.execute("pragma journal_mode").fetchall() == [("wal",)]


def test_every_target_of_the_queues_has_its_row_and_says_whether_it_was_reached() -> None:
    samples = Samples()
    for peer in peers.PEERS:
        samples.add(f"put, {peer.name}", 1000)
        samples.add(f"cycle, {peer.name}", 500)
    for name in (
        "sync",
        "insert",
        "reply",
        "start",
        "beside",
        *(f"stall {busy}" for busy in benchmarks.BUSY_MILLISECONDS),
    ):
        samples.add(name, 0.001)
    for name, value in (("sequential", 1000), ("concurrent", 4999), ("plain", 6000), ("completing", 1)):
        samples.add(name, value)
    table = Table()
    benchmarks.add_rates(table, samples)
    benchmarks.add_delays(table, samples)
    reached = [(figure.ratio, figure.limit, figure.reached) for figure in table.figures if figure.reached is not None]
    assert reached == [
        ("1.00 x persist-queue's put", "≥ 1", True),
        ("1.00 x append + fdatasync", "≥ 0.5", True),
        ("5.00 x persist-queue's put", "≥ 5", False),
        ("12.00 x persist-queue's", "≥ 12", True),
        ("12.00 x litequeue's", "≥ 4", True),
        ("1.00 x append + fdatasync", "≤ 6", True),
        ("1.00 x append + fdatasync", "≤ 5", True),
        ("1.00 ms", "≤ 20", True),
        ("1.00 ms", "≤ 20", True),
        ("1.00 ms", "≤ 20", True),
    ]


@pytest.mark.anyio
async def test_a_batch_and_one_append_of_its_rows_are_measured_over_the_same_rows(tmp_path: Path) -> None:
    seconds, rows = await batches.send_seconds(tmp_path, rows=30)
    assert seconds > 0
    assert [row.partition("\t")[0] for row in rows] == ["batch.sent", *["message.queued"] * 30]
    assert await batches.append_seconds(tmp_path, rows) > 0
    assert 200 < await batches.bytes_per_row(tmp_path, rows=200) < 100_000


def test_the_targets_of_batches_have_their_rows() -> None:
    samples, table = Samples(), Table()
    for name, value in (("append", 0.1), ("send", 0.31), ("memory", 2000)):
        samples.add(name, value)
    batches.add(table, samples)
    assert [(figure.ratio, figure.limit, figure.reached) for figure in table.figures[1:]] == [
        ("3.10 x the append", "≤ 3", False),
        ("2.00 kB", "≤ 2", True),
    ]


def test_parts_and_rounds_are_chosen_by_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmarks.arguments([]).rounds == 3
    given = benchmarks.arguments(["queues", "--rounds", "7"])
    assert (given.parts, given.rounds) == (["queues"], 7)
    for wrong in (["quues"], ["--rounds", "0"], ["--rounds", "x"]):
        with pytest.raises(SystemExit):
            benchmarks.arguments(wrong)
    assert "there is no part quues; there are queues" in capsys.readouterr().err
