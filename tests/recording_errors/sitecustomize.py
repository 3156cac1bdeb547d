"""Python imports this at its start where ``python -m tests.errors`` has put its folder into ``PYTHONPATH``.

Every error that agentq_nb makes is then appended to a file, also by kernels and other processes that tests start. Only
the standard library is imported here, and agentq_nb itself only where it is imported anyway.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType, ModuleType
from typing import Any

RECORD = "RECORDED_AGENTQ_ERRORS"
"""The environment variable that names the file."""

_MODULE = "agentq_nb.errors"
_IDS = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\S*/\S*|\b\w*\d\w*\b")


class _Recorder:
    def __init__(self, file: str) -> None:
        self._file = file
        self._seen: set[tuple[str, str]] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Called for every import: the module of the errors is found as always, and prepared when it has run."""
        if name != _MODULE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_prepare(module: ModuleType) -> None:
                run(module)
                self._prepare(module.AgentqError)

            spec.loader.exec_module = run_and_prepare  # type: ignore[method-assign]
        return spec

    def _prepare(self, base: Any) -> None:
        make = base.__init__

        def make_and_record(error: Any, *args: Any, **kwargs: Any) -> None:
            make(error, *args, **kwargs)
            self._record(error, sys._getframe(1))

        base.__init__ = make_and_record

    def _record(self, error: Any, frame: FrameType | None) -> None:
        while frame is not None and frame.f_globals.get("__name__") == _MODULE:
            frame = frame.f_back
        maker = "" if frame is None else str(frame.f_globals.get("__name__"))
        if frame is None or not maker.startswith("agentq_nb."):
            return  # a test made it, or what a test's actor does
        place = f"{maker}:{frame.f_code.co_name}"
        kind = (place, _IDS.sub("…", error.message))
        if kind in self._seen:
            return
        self._seen.add(kind)
        row = {
            "code": error.full_code,
            "class": type(error).__name__,
            "place": place,
            "text": error.message,
            "kind": kind[1],
            "test": os.environ.get("PYTEST_CURRENT_TEST", "").removesuffix(" (call)"),
        }
        with suppress(OSError):  # a test may run as another user, or let files grow no more
            written = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(written, (json.dumps(row) + "\n").encode())
            finally:
                os.close(written)


if RECORD in os.environ:
    sys.meta_path.insert(0, _Recorder(os.environ[RECORD]))  # type: ignore[arg-type]
