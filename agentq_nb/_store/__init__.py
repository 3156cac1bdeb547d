"""The event log in DuckDB: private to the in-process broker."""

from agentq_nb._core.result_table import Table
from agentq_nb._store.event_log import EventLog
from agentq_nb._store.group_commit import Done
from agentq_nb._store.schema import Row, row
from agentq_nb._store.writer import Connection

__all__ = ["Connection", "Done", "EventLog", "Row", "Table", "row"]
