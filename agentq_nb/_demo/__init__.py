"""A reviewer that needs no model and no network: what the offline notebooks use as their agent.

It reads a file as bytes and says what it found: for Python size, complexity and suspicious constructs, for everything
else what plain text and the format itself tell. Pure functions over bytes; nothing here knows of queues or actors.
"""

from agentq_nb._demo.files import source_files
from agentq_nb._demo.report import FileReview, Finding, Function
from agentq_nb._demo.review import LARGEST, review_source

__all__ = ["LARGEST", "FileReview", "Finding", "Function", "review_source", "source_files"]
