"""What all tests have in common, whatever else is installed and set on the machine.

For Hypothesis, what a busy machine or the first run of a fresh checkout is slow at is no failure.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres_server import required_server

# The first run makes tables of all characters, which counts as slow data.
settings.register_profile("agentq", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("agentq")

# Set for someone who runs the tests in a terminal of JupyterLab, or has a file of their own.
for name in ("AGENTQ_DB", "JPY_PARENT_PID", "JPY_SESSION_NAME", "SERVER_SOFTWARE"):
    os.environ.pop(name, None)

# Hosts put their sockets there. Paths of pytest's own folders are too long for them.
_runtime = tempfile.mkdtemp(prefix="run-", dir="/tmp")
os.environ["XDG_RUNTIME_DIR"] = _runtime
atexit.register(shutil.rmtree, _runtime, ignore_errors=True)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Without this, anyio would run each test under trio as well where that is installed."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of a server that runs as long as the tests do."""
    with required_server() as server:
        yield server.url
