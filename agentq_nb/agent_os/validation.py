"""Validate commands, environments, prompts and MCP servers that users give, before anything is started."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import EllipsisType
from typing import Any, cast
from urllib.parse import unquote_plus, urlsplit

from agentq_nb._core.number_options import seconds
from agentq_nb.agent_os.values import McpServer
from agentq_nb.errors import ValidationFailed


def checked_command(command: str | Sequence[str]) -> list[str]:
    """Return the words to run: a str is a shell command, a sequence a program with its arguments."""
    if isinstance(command, str):
        words = ["/bin/sh", "-c", command]
    else:
        # Through the shell, so that a missing program gives exit code 127 under any isolation.
        words = ["/bin/sh", "-c", 'exec "$@"', "sh", *command]
        if not command or not command[0]:
            raise ValidationFailed(
                "A command given as a list must name a program first, as in ['ls', '-l']; nothing was run."
            )
    for word in words:
        if not _plain(word):
            raise ValidationFailed(
                "A command must be a str or a list of str without NUL characters and lone surrogates; nothing was "
                f"run. Not so: {word!r:.100}"
            )
    return words


def checked_environment(env: Mapping[str, str] | EllipsisType | None) -> dict[str, str]:
    """Return a copy of ``env``. Error messages do not contain its values."""
    if env is None or env is ...:
        return {}
    for name, value in env.items():
        if not _plain(name) or not name or "=" in name:
            raise ValidationFailed(f"env has a name that no environment variable can have: {name!r:.100}.")
        if not _plain(value):
            raise ValidationFailed(f"env[{name!r}] must be a str without NUL characters, as in every environment.")
    return dict(env)


def checked_prompt(text: str) -> str:
    """Return the prompt. A lone surrogate is refused: it cannot be stored, and some agents never answer it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValidationFailed(
            f"The prompt has a lone surrogate (half a character) at position {error.start}: nothing was sent. Text that "
            f"was decoded with errors='surrogateescape' has them. Replace it: text.encode('utf-8', 'replace').decode()"
        ) from None
    return text


def checked_public(public_env: Collection[str]) -> Collection[str]:
    """Return the names in ``public_env``. A single str is refused: any substring of it would count as public."""
    if isinstance(public_env, (str, bytes)):
        raise ValidationFailed(f"public_env must be a list of names, like [{public_env!r:.100}].")
    return public_env


def checked_timeout(timeout: float | None) -> float | None:
    """Return seconds, or None for no limit."""
    number = seconds("timeout", timeout)
    if number is not None and number <= 0:
        raise ValidationFailed(f"timeout is a number of seconds above 0, or None for no limit; not {timeout!r}.")
    return number


def _plain(text: object) -> bool:
    if not isinstance(text, str):
        return False
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


_REMOTE = {"name", "type", "url", "headers"}
_LOCAL = {"name", "type", "command", "args", "env"}


def checked_servers(servers: Sequence[McpServer] | None) -> tuple[McpServer, ...]:
    """Return the servers in the format that agents take. Error messages contain no headers or variables."""
    checked = tuple(_checked(server) for server in servers or ())
    names = [server["name"] for server in checked]
    for name in names:
        if names.count(name) > 1:
            raise ValidationFailed(f"mcp_servers has two servers with the name {name!r}.")
    return checked


def secrets_of(server: McpServer) -> dict[str, str]:
    """Return the server's secrets by name.

    These are the values of its headers and variables, what follows the scheme in a header like ``Bearer …``, and the
    password and parameters of its URL.
    """
    secrets = _in_url(server["name"], server.get("url", ""))
    for pair in (*server.get("headers", ()), *server.get("env", ())):
        name, value = f"{server['name']} {pair['name']}", pair["value"]
        secrets |= {name: value, f"{name} credentials": value.partition(" ")[2]}
    return secrets


def _in_url(server: str, url: str) -> dict[str, str]:
    """Return the URL's password and the values of its parameters, both encoded and decoded."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return {}
    secrets = {f"{server} password": parts.password or ""}
    for pair in parts.query.split("&"):
        name, _, value = pair.partition("=")
        secrets |= {f"{server} {name}": value, f"{server} {name} decoded": unquote_plus(value)}
    return secrets


def in_variables(servers: Sequence[McpServer]) -> tuple[list[McpServer], dict[str, str]]:
    """Return the servers with ``${NAME}`` for each secret (headers, variables, URLs), and the values by these names.

    For agents that put their servers into command lines, which every user of the machine can read.
    """
    values: dict[str, str] = {}

    def named(value: str) -> str:
        name = f"AGENTQ_MCP_{len(values) + 1}"
        values[name] = value
        return f"${{{name}}}"

    def pairs(given: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        return [{"name": pair["name"], "value": named(pair["value"])} for pair in given]

    named_servers: list[McpServer] = []
    for server in servers:
        hidden = {what: pairs(server[what]) for what in ("headers", "env") if what in server}
        named_servers.append({**server, **hidden, **({"url": named(server["url"])} if "url" in server else {})})
    return named_servers, values


def _checked(server: McpServer) -> McpServer:
    name = server.get("name")
    if not isinstance(name, str) or not name:
        raise ValidationFailed("Each of mcp_servers needs a name.")
    if ("url" in server) == ("command" in server):
        raise ValidationFailed(f"The MCP server {name!r} needs either a url or a command.")
    allowed = _REMOTE if "url" in server else _LOCAL
    if unknown := sorted(map(str, server.keys() - allowed)):
        raise ValidationFailed(
            f"The MCP server {name!r} has {', '.join(unknown)}, but may have only: {', '.join(sorted(allowed))}."
        )
    return _remote(name, server) if "url" in server else _local(name, server)


def _remote(name: str, server: McpServer) -> McpServer:
    kind = server.get("type", "http")
    if kind not in ("http", "sse"):
        raise ValidationFailed(f"The MCP server {name!r} has a url, so its type is 'http' or 'sse', not {kind!r:.100}.")
    headers = list(_pairs(name, "headers", server.get("headers")))
    return {"type": kind, "name": name, "url": _text(name, "url", server["url"]), "headers": headers}


def _local(name: str, server: McpServer) -> McpServer:
    if server.get("type", "stdio") != "stdio":
        raise ValidationFailed(f"The MCP server {name!r} has a command, so its type can only be 'stdio'.")
    arguments = server.get("args", ())
    if isinstance(arguments, str) or not isinstance(arguments, Sequence):
        raise ValidationFailed(f"The MCP server {name!r} needs its args as a list of str.")
    words = [_text(name, "args", word) for word in cast(Sequence[Any], arguments)]
    env = list(_pairs(name, "env", server.get("env")))
    return {"name": name, "command": _text(name, "command", server["command"]), "args": words, "env": env}


def _pairs(server: str, what: str, given: Any) -> Iterator[dict[str, str]]:
    """Yield the pairs of a mapping, or of ACP's list of ``{"name": …, "value": …}``."""
    if isinstance(given, Mapping):
        given = [{"name": name, "value": value} for name, value in cast(Mapping[Any, Any], given).items()]
    if given is None:
        return
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
        raise ValidationFailed(
            f"The MCP server {server!r} needs its {what} as a dict, or as a list of names and values."
        )
    for pair in cast(Sequence[Any], given):
        if not isinstance(pair, Mapping) or cast(Mapping[Any, Any], pair).keys() ^ {"name", "value"}:
            raise ValidationFailed(f"The MCP server {server!r} has {what} that are no pairs of name and value.")
        named = cast(Mapping[str, Any], pair)
        yield {"name": _text(server, what, named["name"]), "value": _text(server, what, named["value"])}


def _text(server: str, what: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValidationFailed(f"The MCP server {server!r} needs its {what} as str.")
    return value
