"""A real Jupyter server for the tests: on loopback, with a home of its own, and without a word to the world outside."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

PROJECT = Path(__file__).resolve().parents[2]
"""The checkout: kernels started here import the package from it."""

_QUIET_SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    # A cell that was scrolled out of sight stays in the page, so that a test finds it.
    "notebook-extension/tracker": {"windowingMode": "none"},
}


class JupyterServer:
    """JupyterLab, Notebook 7 or a server without pages over the folder ``root``. Use it in a ``with`` statement.

    ``home`` becomes its HOME and holds everything that Jupyter writes beside the notebooks. ``launcher`` ends in
    another Python than this one, which then imports what is installed there instead of the checkout.
    """

    def __init__(
        self,
        root: Path,
        home: Path,
        application: Literal["lab", "notebook", "server"] = "lab",
        launcher: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> None:
        self.root = root
        self.application = application
        self._options = options
        self._launcher = launcher or (sys.executable,)
        self._imports = "" if launcher else os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])
        self.token = secrets.token_hex(16)
        self._home = home
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def log(self) -> Path:
        """What it printed."""
        return self._home / "server.log"

    def __enter__(self) -> JupyterServer:
        self.reset_settings()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(*self._launcher, "-m", "jupyter", self.application, "--no-browser", "--allow-root"),
                    *(f"--port={self._port}", "--ip=127.0.0.1", f"--IdentityProvider.token={self.token}"),
                    f"--ServerApp.root_dir={self.root}",
                    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
                    "--LabApp.extension_manager=readonly",
                    "--LabApp.expose_app_in_browser=True",
                    "--JupyterNotebookApp.expose_app_in_browser=True",
                    "--LanguageServerManager.autodetect=False",
                    *self._options,
                ],
                env=self._environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                self.request("GET", "/api/status")
                return self
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end()
                raise AssertionError(f"the Jupyter server did not start:\n{self.log.read_text()}")
            time.sleep(0.1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self.shut_down_kernels()
        self._end()

    @property
    def runtime(self) -> Path:
        """Where the connection files of its kernels are."""
        return self._home / "runtime"

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Ask the server's REST interface. Raises OSError, also when it refuses."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"token {self.token}"}
        asked = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def shut_down_kernels(self) -> None:
        """End every kernel, and the sessions that would start them again."""
        for session in self.request("GET", "/api/sessions"):
            self.request("DELETE", f"/api/sessions/{session['id']}")
        for kernel in self.request("GET", "/api/kernels"):
            self.request("DELETE", f"/api/kernels/{kernel['id']}")

    def reset_settings(self) -> None:
        """Forget what pages changed, such as the theme."""
        shutil.rmtree(self._home / "settings", ignore_errors=True)
        for name, settings in _QUIET_SETTINGS.items():
            file = self._home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(settings))

    def _end(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(20)

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("JUPYTER", "IPYTHON", "AGENTQ", "JPY_"))
        }
        return kept | {
            "HOME": str(self._home),
            "PATH": os.pathsep.join([str(Path(self._launcher[-1]).parent), os.environ.get("PATH", "")]),
            "PYTHONPATH": self._imports.rstrip(os.pathsep),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "JUPYTER_CONFIG_DIR": str(self._home / "config"),
            "JUPYTER_DATA_DIR": str(self._home / "data"),
            "JUPYTER_RUNTIME_DIR": str(self._home / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(self._home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self._home / "workspaces"),
        }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
