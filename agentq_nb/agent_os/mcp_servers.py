"""MCP servers that users give to a session: checked, in the words of ACP, and what is secret in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast
from urllib.parse import unquote_plus, urlsplit

from agentq_nb.agent_os.values import McpServer
from agentq_nb.errors import ValidationFailed

_REMOTE = {"name", "type", "url", "headers"}
_LOCAL = {"name", "type", "command", "args", "env"}


def checked_servers(servers: Sequence[McpServer] | None) -> tuple[McpServer, ...]:
    """The servers as agents take them. What is wrong with one is told without its headers and variables."""
    checked = tuple(_checked(server) for server in servers or ())
    names = [server["name"] for server in checked]
    for name in names:
        if names.count(name) > 1:
            raise ValidationFailed(f"mcp_servers has two servers with the name {name!r}.")
    return checked


def secrets_of(server: McpServer) -> dict[str, str]:
    """The values of its headers and variables by name, what follows the scheme in a header like ``Bearer …``, and the
    password and parameters of its URL."""
    secrets = _in_url(server["name"], server.get("url", ""))
    for pair in (*server.get("headers", ()), *server.get("env", ())):
        name, value = f"{server['name']} {pair['name']}", pair["value"]
        secrets |= {name: value, f"{name} credentials": value.partition(" ")[2]}
    return secrets


def _in_url(server: str, url: str) -> dict[str, str]:
    """Its password and the values of its parameters, as they are written and as they are meant."""
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
    """The servers with ``${NAME}`` wherever a secret may be (headers, variables, URLs), and the values by these names.

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
    """A mapping, or ACP's list of ``{"name": …, "value": …}``."""
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
