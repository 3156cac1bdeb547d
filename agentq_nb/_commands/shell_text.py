"""What a command prints in a shell."""

from __future__ import annotations

from agentq_nb._commands.catalog import offered
from agentq_nb._commands.command_context import Command
from agentq_nb._commands.doctor import Doctor
from agentq_nb._commands.help import Help, as_typed_here
from agentq_nb._commands.host import Status
from agentq_nb._commands.messages import Cancel, Retry, Send
from agentq_nb._commands.queues import Limits, Pause, Purge, Resume
from agentq_nb._commands.vms import Vms
from agentq_nb._display import document_of
from agentq_nb._display.document import as_text

_OUR_WORDS = (Help, Doctor, Status, Send, Retry, Cancel, Pause, Resume, Limits, Purge, Vms)
"""Commands whose text is ours. What others print may quote what users wrote, which stays as it is."""

_WITH_RECEIPT = (Send, Retry, Cancel)
"""Commands that give a receipt, whose methods a shell has no use for."""


def printed_text(command: Command, value: object) -> str:
    """Return what a command's value looks like in a terminal, with other commands as they are typed there."""
    document = document_of(value)
    text = as_text(document) if document is not None else str(value)
    if isinstance(command, _WITH_RECEIPT):
        text = text.replace("Its result: await receipt.result(). ", "")
    return as_typed_here(text, offered("shell")) if isinstance(command, _OUR_WORDS) else text


def error_text(message: str) -> str:
    """Return an error's message on one line, with commands as they are typed in a shell."""
    return as_typed_here(" ".join(message.split()), offered("shell"))
