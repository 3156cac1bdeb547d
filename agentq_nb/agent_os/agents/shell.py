"""An agent that only runs the fenced ``sh`` blocks of a prompt."""

from __future__ import annotations

import os
import re

from agentq_nb._core.origin import is_remote
from agentq_nb._core.threads import to_its_end
from agentq_nb.agent_os.agent import AgentEvent, AgentSession, Emit
from agentq_nb.agent_os.values import AgentCheck
from agentq_nb.errors import IsolationUnavailable, PromptFailed

_SHELL = "/bin/sh"
_LINE_END = re.compile(r"\r\n|\n|\r")  # only these: what is shown as one line must not run as three
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


class ShellAgent:
    """Runs ``sh`` blocks and answers with exit code, output and changed files. A failed block ends the turn.

    It refuses to run without isolation unless ``agent_os(isolation="off")`` was written, and refuses prompts that came
    in over HTTP or a webhook, directly or through other messages and actors: being able to send there does not give the
    right to run commands here.
    """

    name = "shell"
    answers_once = True
    """It does what a prompt says, so asking it again for an answer of a type is of no use."""

    def __repr__(self) -> str:
        return "agents.shell"

    def check(self) -> AgentCheck:
        return AgentCheck(self.name, () if os.access(_SHELL, os.X_OK) else (f"There is no {_SHELL} to run.",))

    async def prompt(self, session: AgentSession, text: str, emit: Emit) -> None:
        if is_remote(session.origin):
            raise PromptFailed(
                f"agents.shell runs no prompt that came in over the network, and this one did (origin {session.origin!r}, "
                "its own or that of the message whose handling led to it): nothing was run. Use an agent that decides "
                "itself what to run, or send the prompt from the notebook."
            )
        if session.isolation_mode != "off" and (await session.isolation()).kind == "none":
            raise IsolationUnavailable(
                "agents.shell does not run without isolation, and this machine offers none: see isolation(). Write "
                'agent_os(isolation="off") if its commands may do whatever you may.'
            )
        blocks = shell_blocks(text)
        if not blocks:
            raise PromptFailed(
                "agents.shell runs only the fenced blocks of a prompt that are marked as sh (```sh … ```), and this "
                "prompt has none: nothing was run."
            )
        before = await to_its_end(session.workspace.snapshot)
        for number, block in enumerate(blocks, 1):
            if not await self._run(session, number, block, emit):
                break
        after = await to_its_end(session.workspace.snapshot)
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        await emit(AgentEvent("text", "\nchanged files: " + (", ".join(changed) or "none")))
        await emit(AgentEvent("result", data={"changed_files": changed}))

    async def _run(self, session: AgentSession, number: int, block: str, emit: Emit) -> bool:
        await emit(AgentEvent("tool_call", data={"tool": "sh", "number": number, "command": block}))
        result = await session.exec(block)
        output = "\n".join([result.stdout + result.stderr, *result.refused])
        facts = {"tool": "sh", "number": number, "exit_code": result.exit_code, "truncated": result.truncated}
        await emit(AgentEvent("tool_result", data=facts))
        await emit(AgentEvent("text", f"{output.rstrip()}\nexit code: {result.exit_code}\n".lstrip("\n")))
        return result.exit_code == 0


shell = ShellAgent()
"""Runs the ``sh`` blocks of a prompt in the VM's sandbox; use it as ``agent_os(agents=[agents.shell])``."""


def shell_blocks(prompt: str) -> list[str]:
    """Return the fenced blocks marked ``sh``, parsed as in CommonMark: one shown inside a longer fence is not one.

    Raises ``PromptFailed`` for a block that is never closed: its end may have been lost on the way.
    """
    blocks: list[str] = []
    fence, marked, lines = "", False, list[str]()
    for line in _LINE_END.split(prompt):
        found = _FENCE.fullmatch(line)
        if not fence:
            # In CommonMark, a backtick after an opening fence of backticks makes it inline code.
            if found and not (found[1][0] == "`" and "`" in found[2]):
                fence, marked, lines = found[1], found[2].split()[:1] == ["sh"], []
        elif found and found[1].startswith(fence) and not found[2].strip():
            if marked:
                blocks.append("\n".join(lines) + "\n")
            fence = ""
        else:
            lines.append(line)
    if fence and marked:
        raise PromptFailed("A block marked as sh is not closed (its last line must be ```): nothing was run.")
    return [block for block in blocks if block.strip()]
