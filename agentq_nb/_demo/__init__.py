"""A code reviewer that needs no model and no network: the agent of the offline notebooks. It knows nothing of queues."""

from agentq_nb._demo.review import FileReview, review_source, source_files

__all__ = ["FileReview", "review_source", "source_files"]
