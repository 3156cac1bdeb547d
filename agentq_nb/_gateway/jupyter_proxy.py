"""Under JupyterHub, on Binder and behind any Jupyter server: the way to a port through jupyter-server-proxy.

That proxy passes requests on as they are, with the public name as Host, and adds the header below.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir

from agentq_nb._gateway.request import Request

_PREFIX, _PUBLIC_URL, _SERVER = "JUPYTERHUB_SERVICE_PREFIX", "JUPYTERHUB_PUBLIC_URL", "JPY_PARENT_PID"
_ADDED_HEADER = "x-proxycontextpath"


def proxy_url(port: int, environment: Mapping[str, str]) -> str | None:
    """Return the URL of a port through the Jupyter server of this kernel, only its path where the rest is not known.

    ``https://hub.example.org/user/ann/proxy/6420``, ``/user/ann/proxy/6420``; None outside Jupyter.
    """
    base = environment.get(_PUBLIC_URL) or environment.get(_PREFIX) or _server_url(environment.get(_SERVER))
    return None if base is None else f"{base.rstrip('/')}/proxy/{port}"


def is_proxied(request: Request) -> bool:
    """Whether the request came through jupyter-server-proxy, as far as it says so."""
    return request.header(_ADDED_HEADER) is not None


def _server_url(pid: str | None) -> str | None:
    """Return the URL of the server that started this kernel: its file among those that servers write has it."""
    if pid is None or not pid.isdigit():
        return None
    with suppress(OSError, ValueError, KeyError):
        return str(json.loads(Path(jupyter_runtime_dir(), f"jpserver-{pid}.json").read_text(encoding="utf-8"))["url"])
    return None
