"""Brokers of message queues: the protocol (``base``) and its in-process implementation (``local``)."""
