"""What is shown of each kind of object: its sheet, which notebooks and terminals draw."""

from agentq_nb.commands.showing import of_agents, of_hosts, of_messages  # each adds its kinds
from agentq_nb.commands.showing.sheets_by_kind import kinds, sheet_of

__all__ = ["kinds", "of_agents", "of_hosts", "of_messages", "sheet_of"]
