"""Known coding agents: their npm packages, and the settings they need to run unattended."""

from __future__ import annotations

import json
from pathlib import Path

from agentq_nb.agent_os.agents.acp.agent import AcpAgent
from agentq_nb.agent_os.agents.model_settings import for_codex, for_opencode, for_pi
from agentq_nb.agent_os.agents.pi import error_of_last_turn, greeting, offer_tools

_GEMINI_SETTINGS = str(Path(__file__).with_name("gemini_settings.json"))
"""Default settings, which the user's own override."""
_ANTHROPIC = ("api.anthropic.com", "claude.ai", "console.anthropic.com", "platform.claude.com")
_GOOGLE = (
    "accounts.google.com",
    "cloudcode-pa.googleapis.com",
    "generativelanguage.googleapis.com",
    "oauth2.googleapis.com",
)
_OPENAI = ("api.openai.com", "auth.openai.com", "chatgpt.com")
_MANY = (
    *_ANTHROPIC,
    *_GOOGLE,
    *_OPENAI,
    "api.cerebras.ai",
    "api.deepseek.com",
    "api.groq.com",
    "api.mistral.ai",
    "api.x.ai",
    "openrouter.ai",
)

pi = AcpAgent(
    "pi",
    ("pi-acp",),
    helpers=("pi",),
    in_front=str(Path(__file__).with_name("pi_command")),
    hosts=_MANY,
    environment={"PI_OFFLINE": "1", "PI_SKIP_VERSION_CHECK": "1", "PI_TELEMETRY": "0", "NO_COLOR": "1"},
    from_npm=True,
    takes_servers=False,
    hint="Check its key (ANTHROPIC_API_KEY in env) and the model in .pi/agent/settings.json of the VM's folder.",
    metered=for_pi,
    bridge=offer_tools,
    greeting=greeting,
    hidden_error=error_of_last_turn,
)
"""Pi. It never asks for permission."""

claude = AcpAgent(
    "claude",
    ("claude-agent-acp",),
    hosts=_ANTHROPIC,
    mode="default",
    environment={
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        # With it, each prompt costs another request, for a suggested next prompt that is shown to no one.
        "CLAUDE_CODE_ENABLE_PROMPT_SUGGESTION": "false",
        # Its queue waits for the end of a limit; by itself it would ask eleven times.
        "CLAUDE_CODE_MAX_RETRIES": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_TELEMETRY": "1",
        "IS_SANDBOX": "1",
        "NO_COLOR": "1",
    },
    from_npm=True,
    servers_in_argv=True,
    opening={"_meta": {"claudeCode": {"emitRawSDKMessages": [{"type": "system", "subtype": "api_retry"}]}}},
    usage_covers="turn",
    hint="Check its key (ANTHROPIC_API_KEY in env).",
)
"""Claude Code. It asks before it edits or runs something."""

codex = AcpAgent(
    "codex",
    # Its shell snapshots are files with all variables, keys too, which other sessions can read.
    (
        "codex-acp",
        *("-c", "features.shell_snapshot=false"),
        *("-c", "check_for_update_on_startup=false"),
        *("-c", "analytics.enabled=false"),
    ),
    hosts=_OPENAI,
    isolated=("-c", 'sandbox_mode="danger-full-access"'),
    alone=("-c", 'sandbox_mode="workspace-write"'),
    environment={"NO_COLOR": "1"},
    from_npm=True,
    metered=for_codex,
    hint="Check its key (OPENAI_API_KEY in env) and .codex/config.toml of the VM's folder.",
)
"""Codex. Its modes are sandboxes, which cannot work inside ours: it has them only where we have none."""

opencode = AcpAgent(
    "opencode",
    ("opencode", "acp"),
    hosts=("opencode.ai", *_MANY),
    environment={
        "NO_COLOR": "1",
        "OPENCODE_CONFIG_CONTENT": json.dumps({"agent": {"build": {"permission": {"bash": "ask", "edit": "ask"}}}}),
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
    },
    from_npm=True,
    usage_covers="last call",
    metered=for_opencode,
    hint="Check its key (such as ANTHROPIC_API_KEY in env) and .config/opencode/opencode.json of the VM's folder.",
)
"""OpenCode. It asks before it edits or runs something."""

gemini = AcpAgent(
    "gemini",
    ("gemini", "--acp"),
    hosts=_GOOGLE,
    environment={
        "GEMINI_CLI_SYSTEM_DEFAULTS_PATH": _GEMINI_SETTINGS,
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
        "NO_COLOR": "1",
    },
    readable=(_GEMINI_SETTINGS,),
    from_npm=True,
    hint="Check its key (GEMINI_API_KEY in env) and .gemini/settings.json of the VM's folder.",
)
"""Gemini CLI. It asks before it edits or runs something."""

PRESETS = {agent.name: agent for agent in (pi, claude, codex, opencode, gemini)}
"""All of these by name."""
