"""Clients, actor handles and receipts, and the transport protocol that connects them to a host."""
