"""Environment variables that point programs to the proxy, and those in which the user names hosts."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from agentq_nb.agent_os.network.policy import Named

# Base URLs of language models, and the indexes of pip, uv, npm and yarn.
_NAMES_HOSTS = re.compile(
    r"BASE_?UR[LI]$|_API_(BASE|HOST|URL)$|ENDPOINT(_URL)?$|^OLLAMA_HOST$"
    r"|^(PIP|UV)_.*(INDEX|LINKS)|^npm_config_.*registry|^YARN_.*REGISTRY|^GIT_CONFIG_(KEY|VALUE)_",
    re.IGNORECASE,
)
_URL = re.compile(r"https?://[^\s'\",]+", re.IGNORECASE)
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+")
_SETTING_OF_A_FILE = re.compile(
    r"^\s*[\w@:/.\"\[\] -]*(index|registry|find-links|insteadof|^\s*\[url\s)", re.IGNORECASE
)

SYSTEM_FILES = ("/etc/pip.conf", "/etc/xdg/pip/pip.conf", "/etc/npmrc", "/usr/etc/npmrc", "/etc/gitconfig")
"""Settings of pip, npm and git that also apply inside."""

_CERTIFICATES = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
)


def for_proxy(url: str, named: Collection[Named] = ()) -> dict[str, str]:
    """Return the variables that point programs to the proxy at ``url``, in all spellings; loopback stays direct."""
    loopback = {"localhost": None, "127.0.0.1": None, "::1": None}
    loopback |= {name.host: None for name in named if name.on_loopback}
    direct = ",".join(loopback)
    variables = {"npm_config_proxy": url, "npm_config_https_proxy": url, "npm_config_noproxy": direct}
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        variables |= {name: url, name.lower(): url}
    # Node's own fetch and http ignore the proxy variables without this.
    return variables | {"NO_PROXY": direct, "no_proxy": direct, "NODE_USE_ENV_PROXY": "1"}


def certificates(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for certificates that this process trusts, which the host's own proxy may need."""
    return {name: path for name in _CERTIFICATES if (path := environment.get(name)) and os.path.exists(path)}


def named_in(environment: Mapping[str, str]) -> Iterator[Named]:
    """Yield the hosts that variables name: base URLs of language models, package indexes, git's mirrors."""
    for name, value in environment.items():
        if _NAMES_HOSTS.search(name):
            yield from _named(value)


def named_in_files(files: Collection[str] = SYSTEM_FILES) -> Iterator[Named]:
    """Yield the hosts that the machine's settings of pip, npm and git name. Blocks."""
    for file in files:
        with suppress(OSError):
            for line in Path(file).read_text(errors="replace").splitlines():
                if _SETTING_OF_A_FILE.search(line):
                    yield from _named(line)


def named_by(urls: Iterable[str]) -> Iterator[Named]:
    """Yield the hosts of these URLs; a text that is not a URL names none."""
    for url in urls:
        with suppress(ValueError):
            yield Named.parse(url)


def _named(value: str) -> Iterator[Named]:
    found = _URL.findall(value)
    yield from named_by([value] if not found and _HOST_AND_PORT.fullmatch(value) else found)
