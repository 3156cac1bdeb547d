"""What the loop's standing still is blamed on: code that blocks it, or a process that did not run at all."""

from __future__ import annotations

import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.compilerop import CachingCompiler

from agentq_nb._core.loop_monitor import Stall, StallWatch, Suspensions, advice

PROGRAM = """
import asyncio
from agentq_nb._core.loop_monitor import StallWatch

async def main():
    watch = StallWatch()
    watching = asyncio.create_task(watch.watch())
    await asyncio.sleep(0.6)
    print("ready", flush=True)
    while watch.last is None:
        await asyncio.sleep(0.05)
    print(watch.last.suspended, watch.last.place, flush=True)
    watch.close()
    watching.cancel()

asyncio.run(main())
"""


class Reading:
    """A clock that shows what it is set to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_process_that_a_signal_stopped_is_called_suspended() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.send_signal(signal.SIGSTOP)
        try:
            program.wait(3)
        except subprocess.TimeoutExpired:
            program.send_signal(signal.SIGCONT)
        said = program.stdout.readline()
    assert said.startswith("True the whole process was suspended")


def test_late_without_computing_is_suspended() -> None:
    clock, computed = Reading(), Reading()
    suspensions = Suspensions(clock, computed)
    clock.seconds, computed.seconds = 10.25, 0.3
    assert suspensions.since_last(0.25) == 10.0
    clock.seconds += 0.3
    assert suspensions.since_last(0.25) == 0.0


def test_late_because_another_thread_computed_under_the_lock_is_not() -> None:
    clock, computed = Reading(), Reading()
    suspensions = Suspensions(clock, computed)
    clock.seconds, computed.seconds = 10.25, 9.9
    assert suspensions.since_last(0.25) == 0.0


@pytest.mark.anyio
async def test_the_line_of_a_cell_is_named_as_ipython_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = CachingCompiler()
    monkeypatch.setattr("agentq_nb._core.programs._shell", lambda: SimpleNamespace(compile=compiler))
    name = compiler.cache("first = 1\nplace = where()\n", number=3)
    namespace: dict[str, Any] = {"where": StallWatch()._where}
    exec(compile("first = 1\nplace = where()\n", name, "exec"), namespace)
    assert namespace["place"] == "Cell In[3], line 2: place = where()"


def test_a_suspended_process_gets_no_advice_about_blocking_cells() -> None:
    assert "block" not in advice(Stall(5, 0, "", suspended=True), background=False)
    assert "--background" in advice(Stall(5, 0, "cell line 1"), background=False)
