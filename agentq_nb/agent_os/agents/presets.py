"""Coding agents known by name: which npm packages they are, and the settings they need to run unattended."""

from __future__ import annotations

from agentq_nb.agent_os.agents.acp_agent import AcpAgent
from agentq_nb.agent_os.agents.pi_sessions import error_of_last_turn

pi = AcpAgent(
    "pi",
    ("pi-acp",),
    helpers=("pi",),
    environment={"PI_OFFLINE": "1", "PI_SKIP_VERSION_CHECK": "1", "PI_TELEMETRY": "0", "NO_COLOR": "1"},
    packages=("pi-acp@0.0.34", "@earendil-works/pi-coding-agent@0.87.1"),
    hint="Check its key (ANTHROPIC_API_KEY in env) and the model in .pi/agent/settings.json of the VM's folder.",
    hidden_error=error_of_last_turn,
)
"""Pi. It never asks for permission."""

claude = AcpAgent(
    "claude",
    ("claude-agent-acp",),
    mode="default",
    environment={
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_TELEMETRY": "1",
        "IS_SANDBOX": "1",
        "NO_COLOR": "1",
    },
    packages=("@agentclientprotocol/claude-agent-acp@0.101.0",),
    hint="Check its key (ANTHROPIC_API_KEY in env).",
)
"""Claude Code. It asks before it edits or runs something."""

codex = AcpAgent(
    "codex",
    ("codex-acp",),
    isolated=("-c", 'sandbox_mode="danger-full-access"'),
    alone=("-c", 'sandbox_mode="workspace-write"'),
    environment={"NO_COLOR": "1"},
    packages=("@zed-industries/codex-acp@0.16.0",),
    hint="Check its key (OPENAI_API_KEY in env) and .codex/config.toml of the VM's folder.",
)
"""Codex."""

PRESETS = {agent.name: agent for agent in (pi, claude, codex)}
