"""Brokers of message queues: the protocol (``base``), and its implementations in this process (``local``) and on PostgreSQL."""
