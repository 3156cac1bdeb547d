"""The log in DuckDB: private to the keeper of queues in this process."""

from agentq_nb.store.group_commit import Done
from agentq_nb.store.log import EventLog
from agentq_nb.store.row import Row, row
from agentq_nb.store.writer import Connection
from agentq_nb.tables import Table

__all__ = ["Connection", "Done", "EventLog", "Row", "Table", "row"]
