"""Documents that display our objects in notebooks and terminals."""

from agentq_nb._display import agents, batches, hosts, messages, repositories
from agentq_nb._display.document import document_of, kinds

__all__ = ["agents", "batches", "document_of", "hosts", "kinds", "messages", "repositories"]
