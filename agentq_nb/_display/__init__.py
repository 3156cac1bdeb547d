"""What is shown of each kind of object: its sheet, which notebooks and terminals draw."""

from agentq_nb._display import agents, hosts, messages
from agentq_nb._display.document import document_of, kinds

__all__ = ["agents", "document_of", "hosts", "kinds", "messages"]
