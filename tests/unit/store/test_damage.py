from __future__ import annotations

import asyncio
from pathlib import Path

import duckdb
import pytest

from agentq_nb._store import EventLog
from agentq_nb.errors import StoreDamaged, StoreError
from tests.unit.store import damage, sweep
from tests.unit.store.helpers import append, files, queued, write


@pytest.mark.timeout(600)
def test_no_damage_is_ever_opened_silently_and_no_report_changes_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    lines = list(damage.run(quick=True))
    with capsys.disabled():
        print("\n" + damage.table(lines))
    assert [what for line in lines for what in line.bad] == []
    assert sum(line.outcomes.total() for line in lines) > 1000
    assert all(line.outcomes[sweep.COMPLETE] == 1 for line in lines if line.kind.endswith("undamaged"))
    # One damage alone is noticed by more than a notice, but where the guard itself is what was lost.
    assert [what for line in lines for what in line.short if "two files" not in what and ".guard" not in what] == []


IN_THE_JOURNAL = sweep.SHAPES["killed, rows in the journal"]
IN_BOTH = sweep.SHAPES["killed, rows in journal and write-ahead log"]


def test_a_byte_of_the_log_flipped_is_reported_with_what_is_left_and_accepting_goes_on_from_there(path: Path) -> None:
    killed = sweep.make(IN_THE_JOURNAL).files
    of_the_first_frame = damage.journal_bytes(killed[sweep.JOURNAL])["payload"][9]
    spoilt = sweep.Damage(sweep.JOURNAL, of_the_first_frame, 0xFF).apply(killed)
    sweep.write_all(path.parent, spoilt)
    with pytest.raises(StoreDamaged) as raised:
        EventLog.open(path)
    assert (raised.value.expected, raised.value.found) == (20, 10)
    assert files(path.parent) == spoilt

    async def go_on() -> None:
        log = EventLog.open(path, accept_loss=True)
        assert "10 rows were given up" in " ".join(log.notices)
        await append(log, queued("after"))
        log.close()
        log = EventLog.open(path)
        assert log.notices == []
        assert log.fetch("select count(*) from messages") == [(11,)]
        accepted = (
            "select seq, (data->>'expected')::int, (data->>'found')::int from events where kind = 'store.loss_accepted'"
        )
        assert log.fetch(accepted) == [(21, 20, 10)]
        log.close()

    asyncio.run(go_on())
    kept = {
        name.partition("damaged-")[2][22:]: content for name, content in files(path.parent).items() if "damaged" in name
    }
    assert kept == {
        "": spoilt[sweep.NAME],
        ".wal": spoilt[sweep.WAL],
        ".journal": spoilt[sweep.JOURNAL],
        ".guard": spoilt[sweep.GUARD],
    }


def test_wherever_the_log_is_spoilt_accepting_the_loss_gives_a_log_that_works(path: Path) -> None:
    killed = sweep.make(IN_THE_JOURNAL).files
    payload = damage.journal_bytes(killed[sweep.JOURNAL])["payload"]
    for offset in payload[:: len(payload) // 5]:
        for spoiling in (sweep.Damage(sweep.JOURNAL, offset, 0xFF), sweep.Damage(sweep.JOURNAL, offset)):
            sweep.write_all(path.parent, spoiling.apply(killed))
            with pytest.raises(StoreDamaged) as raised:
                EventLog.open(path)
            write_after_loss(path)
            log = EventLog.open(path)
            assert log.notices == []
            assert log.fetch("select count(*) from messages") == [(raised.value.found + 1,)]
            log.close()


def write_after_loss(path: Path) -> None:
    async def go_on() -> None:
        log = EventLog.open(path, accept_loss=True)
        assert await append(log, queued("after")) is None
        log.close()

    asyncio.run(go_on())


def test_a_damaged_block_costs_only_the_rows_in_it(path: Path) -> None:
    write(path, queued("m"))
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "insert into events select 2 + i, now()::timestamp, 'message.queued', 'w/m', md5(i::varchar), null,"
            " json_object('queue', 'tasks', 'body', md5((i + 1)::varchar)) from range(200000) made(i)"
        )
        connection.execute("checkpoint")
        ((block,),) = connection.execute(
            "select max(block_id) from pragma_storage_info('events') where row_group_id = 1 and column_name = 'data'"
        ).fetchall()
    path.with_name(path.name + ".guard").unlink()
    content = bytearray(path.read_bytes())
    content[sweep.HEADERS + block * sweep.BLOCK + 1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreDamaged) as raised:
        EventLog.open(path)
    assert 0 < raised.value.found < raised.value.expected
    log = EventLog.open(path, accept_loss=True)
    found = log.fetch("select count(*) from events where kind = 'message.queued'")[0][0]
    assert found == raised.value.found
    log.close()
    log = EventLog.open(path)
    assert log.fetch("select count(*) from events")[0][0] == found + 1
    log.close()


def test_losing_the_whole_database_is_reported_and_can_be_accepted(path: Path) -> None:
    write(path, queued("a"), queued("b"))
    path.unlink()
    with pytest.raises(StoreDamaged) as raised:
        EventLog.open(path)
    assert (raised.value.expected, raised.value.found) == (2, 0)
    log = EventLog.open(path, accept_loss=True)
    assert log.last_seq == 3
    log.close()
    EventLog.open(path).close()


def test_a_guard_that_belongs_to_another_file_is_not_believed(path: Path, tmp_path: Path) -> None:
    write(path, queued("a"))
    other = tmp_path / "other.duckdb"
    write(other, queued("b"))
    path.write_bytes(other.read_bytes())
    with pytest.raises(StoreError, match="belongs to another file"):
        EventLog.open(path)


def test_a_write_ahead_log_is_copied_before_it_is_replayed_and_the_copy_goes_once_all_rows_were_seen(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = sweep.make(IN_BOTH).files
    sweep.write_all(path.parent, killed)
    kept = path.with_name(path.name + ".wal.kept")
    seen: list[bytes] = []
    connect = duckdb.connect

    def watching(*arguments: object, **options: object) -> duckdb.DuckDBPyConnection:
        if arguments == (str(path),):
            seen.append(kept.read_bytes())
        return connect(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(duckdb, "connect", watching)
    log = EventLog.open(path)
    assert seen == [killed[sweep.WAL]]
    assert not kept.exists()
    log.close()
