"""The log in DuckDB: private to the keeper of queues in this process."""

from agentq_nb.store.log import EventLog
from agentq_nb.store.reading import Table
from agentq_nb.store.writer import Done, Row

__all__ = ["Done", "EventLog", "Row", "Table"]
