from __future__ import annotations

from pathlib import Path

from agentq_nb._commands.doctor import files
from tests.unit.store import sweep


def test_after_a_kill_the_journal_is_named_with_its_size_and_rows(tmp_path: Path) -> None:
    killed = sweep.make(sweep.Shape(region=1 << 20)).files
    store = tmp_path / "log" / sweep.NAME
    sweep.write_all(store.parent, killed)
    checks = {check.what: check for check in files.checks(store, running=False)}
    size = f"{len(killed[sweep.JOURNAL]) / 1e6:,.1f} MB"
    assert size == "2.1 MB"
    assert (checks["file"].state, checks["journal"].state) == ("ok", "ok")
    assert f"{sweep.JOURNAL} ({size}) with {sweep.ROWS} rows" in checks["journal"].found
    assert sweep.read_all(store.parent) == killed
