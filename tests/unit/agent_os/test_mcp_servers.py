"""What is secret in the MCP servers that users give to a session."""

from __future__ import annotations

from agentq_nb.agent_os.validation import checked_servers, in_variables, secrets_of

FAR = {"name": "far", "url": "https://me:pass%20word@far.org/mcp?key=a%2Fb&plain", "headers": {"A": "Bearer token"}}
NEAR = {"name": "near", "command": "serve", "args": ["--all"], "env": {"KEY": "value", "EMPTY": ""}}


def test_servers_without_their_secrets_hold_names_of_variables() -> None:
    (far, near), variables = in_variables(checked_servers([FAR, NEAR]))
    assert far == {
        "name": "far",
        "type": "http",
        "url": "${AGENTQ_MCP_2}",
        "headers": [{"name": "A", "value": "${AGENTQ_MCP_1}"}],
    }
    assert near == {
        "name": "near",
        "command": "serve",
        "args": ["--all"],
        "env": [{"name": "KEY", "value": "${AGENTQ_MCP_3}"}, {"name": "EMPTY", "value": "${AGENTQ_MCP_4}"}],
    }
    assert list(variables.values()) == ["Bearer token", FAR["url"], "value", ""]


def test_the_parameters_and_the_password_of_a_url_are_secrets() -> None:
    (far,) = checked_servers([FAR])
    assert {"pass%20word", "a%2Fb", "a/b", "token", "Bearer token"} <= set(secrets_of(far).values())
