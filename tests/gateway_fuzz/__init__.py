"""Throw bytes at the gateway: at its decoders, at a real server's HTTP, and at its WebSockets, frame by frame.

Nothing may be answered with 500, hang, be logged as an error, or make memory grow.
"""
