from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.requirements import missing


@pytest.mark.timeout(400)
@pytest.mark.parametrize("how", ["disk", "limit"])
def test_a_log_that_finds_no_room_says_how_much_it_needs_and_opens_with_as_much(tmp_path: Path, how: str) -> None:
    command = [sys.executable, "-m", "tests.unit.store.full_disk", str(tmp_path), how]
    if how == "disk":
        alone = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--mount", "--map-root-user"]
        mount = [*alone, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            missing("A small disk needs the right to mount: run as root, or allow user namespaces.")
        command = [*alone, *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
