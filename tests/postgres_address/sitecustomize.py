"""Python imports this at its start where ``python -m tests.postgres`` has put its folder into ``PYTHONPATH``.

Every host that names a file, also of kernels and other processes that tests start, then has its queues on the server of
that run, in a schema that belongs to the file; so the address is all that differs. Only the standard library is imported
here, and agentq_nb itself only where it is imported anyway.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

SERVER = "AGENTQ_TESTS_STORE"
"""The environment variable with the address of the server."""

_MODULE = "agentq_nb._core.paths"


def schema_of(store: Path) -> str:
    """The schema of a file's queues. Its name is in a file beside it, which tests copy with the others of a dead host."""
    name = store.with_name(f"{store.name}.schema")
    if not name.exists():
        if not store.parent.is_dir():
            return f"file_{uuid.uuid5(uuid.NAMESPACE_URL, str(store)).hex}"
        name.write_text(f"file_{uuid.uuid4().hex}")
    return name.read_text()


class _Addresses:
    """Gives files an address."""

    def __init__(self, server: str) -> None:
        self._server = server

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Called for every import: the module of the paths is found as always, and changed when it has run."""
        if name != _MODULE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_change(module: ModuleType) -> None:
                run(module)
                self._change(module)

            spec.loader.exec_module = run_and_change  # type: ignore[method-assign]
        return spec

    def _change(self, paths: Any) -> None:
        address_that_is_given = paths.queues_address

        def queues_address(explicit: Any, environ: Mapping[str, str]) -> str:
            if (given := address_that_is_given(explicit, environ)) is not None:
                return str(given)
            notebook = paths.notebook_path(environ, vars(sys.modules["__main__"]))
            store, _ = paths.store_path(explicit, environ, notebook)
            return f"{self._server}?schema={schema_of(Path(os.path.realpath(store)))}"

        paths.queues_address = queues_address


if SERVER in os.environ:
    sys.meta_path.insert(0, _Addresses(os.environ[SERVER]))  # type: ignore[arg-type]
