"""Agent OS: VMs as actors, each with a folder, sandboxed processes, and sessions with agents."""

from agentq_nb.agent_os import agents
from agentq_nb.agent_os.meter.llm import LLM
from agentq_nb.agent_os.repositories.changes import BroughtBack, Commit, Diff, Discarded, Updated
from agentq_nb.agent_os.repositories.folder import Folder
from agentq_nb.agent_os.repositories.repository import Repository
from agentq_nb.agent_os.sessions.transcript_view import TranscriptView
from agentq_nb.agent_os.values import (
    AgentCheck,
    ExecResult,
    FileChange,
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
    "LLM",
    "VM",
    "AgentCheck",
    "BroughtBack",
    "Commit",
    "Diff",
    "Discarded",
    "ExecResult",
    "FileChange",
    "FileInfo",
    "Folder",
    "Forward",
    "Isolation",
    "OutputSoFar",
    "PermissionRequest",
    "ProcessInfo",
    "ProcessOutput",
    "PromptResult",
    "Repository",
    "SessionEvent",
    "SessionInfo",
    "TranscriptView",
    "Updated",
    "agent_os",
    "agents",
]
