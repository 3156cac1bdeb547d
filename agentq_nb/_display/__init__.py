"""What is shown of each kind of object: its sheet, which notebooks and terminals draw."""

from agentq_nb._display import agents, hosts, messages
from agentq_nb._display.document import kinds, sheet_of

__all__ = ["agents", "hosts", "kinds", "messages", "sheet_of"]
