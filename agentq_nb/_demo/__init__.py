"""A code reviewer that needs no model and no network: the agent of the offline notebooks.

It reads a file as bytes and reports findings: for Python, size, complexity and suspicious constructs; for other files,
problems of plain text and of the data format. Pure functions over bytes; nothing here knows of queues or actors.
"""

from agentq_nb._demo.report import FileReview, Finding, Function
from agentq_nb._demo.review import LARGEST, review_source, source_files

__all__ = ["LARGEST", "FileReview", "Finding", "Function", "review_source", "source_files"]
