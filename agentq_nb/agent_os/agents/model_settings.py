"""Settings with which coding agents use the proxy before their language models, where variables are not enough."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentq_nb.agent_os.meter.access import ModelAccess
from agentq_nb.agent_os.sandbox.workspace import Workspace

_PI_EXTENSION = Path(__file__).with_name("pi_models.js")


@dataclass(frozen=True)
class ModelSettings:
    """Variables and arguments for an agent's process."""

    variables: Mapping[str, str]
    arguments: tuple[str, ...] = field(default=())


def by_variables(workspace: Workspace, access: ModelAccess, environment: Mapping[str, str]) -> ModelSettings:
    """Return settings for a program that looks for the usual variables."""
    return ModelSettings(access.variables())


def for_pi(workspace: Workspace, access: ModelAccess, environment: Mapping[str, str]) -> ModelSettings:
    """Write an extension to where Pi finds it. Blocks."""
    workspace.write(".pi/agent/extensions/agentq-models.js", _PI_EXTENSION.read_bytes())
    return ModelSettings({**access.variables(), "AGENTQ_METERED": "1"})


def for_codex(workspace: Workspace, access: ModelAccess, environment: Mapping[str, str]) -> ModelSettings:
    """Give Codex a provider of its own: its built-in one uses WebSockets. No secret is part of a command line."""
    if "openai" not in access.urls:
        return ModelSettings(access.variables())
    provider = {
        "name": "agentq",
        "base_url": access.urls["openai"],
        "env_key": "OPENAI_API_KEY",
        "wire_api": "responses",
        "supports_websockets": False,
        # Its queue waits for the end of a limit.
        "request_max_retries": 1,
    }
    given = {f"model_providers.agentq.{name}": value for name, value in provider.items()}
    given["model_provider"] = "agentq"
    # JSON's texts, numbers and booleans are TOML's too.
    words = [word for name, value in given.items() for word in ("-c", f"{name}={json.dumps(value)}")]
    return ModelSettings(access.variables(), tuple(words))


def for_opencode(workspace: Workspace, access: ModelAccess, environment: Mapping[str, str]) -> ModelSettings:
    """Add the base URLs to OpenCode's configuration, which comes in a variable."""
    config: dict[str, Any] = json.loads(environment.get("OPENCODE_CONFIG_CONTENT", "{}"))
    names = {"anthropic": ("anthropic", "/v1"), "openai": ("openai", ""), "gemini": ("google", "/v1beta")}
    config["provider"] = {
        names[kind][0]: {"options": {"baseURL": f"{url}{names[kind][1]}"}} for kind, url in access.urls.items()
    }
    variables = access.variables()
    if (key := variables.get("GEMINI_API_KEY")) is not None:
        variables["GOOGLE_GENERATIVE_AI_API_KEY"] = key
    return ModelSettings({**variables, "OPENCODE_CONFIG_CONTENT": json.dumps(config)})
