"""Agent OS: VMs as actors, each with a folder, sandboxed processes, and sessions with agents."""

from agentq_nb.agent_os import agents
from agentq_nb.agent_os.sessions.transcript_view import TranscriptView
from agentq_nb.agent_os.values import (
    AgentCheck,
    ExecResult,
    FileInfo,
    Forward,
    Isolation,
    OutputSoFar,
    PermissionRequest,
    ProcessInfo,
    ProcessOutput,
    PromptResult,
    SessionEvent,
    SessionInfo,
)
from agentq_nb.agent_os.vm import VM, agent_os

__all__ = [
    "VM",
    "AgentCheck",
    "ExecResult",
    "FileInfo",
    "Forward",
    "Isolation",
    "OutputSoFar",
    "PermissionRequest",
    "ProcessInfo",
    "ProcessOutput",
    "PromptResult",
    "SessionEvent",
    "SessionInfo",
    "TranscriptView",
    "agent_os",
    "agents",
]
