"""Restrict what the processes of a VM reach: a proxy in this process is their only way out.

``policy`` decides and does nothing else; ``proxy`` and ``relay`` carry the allowed traffic; ``dialer`` connects on the
processes' behalf. They are kept from all else by a network namespace (with sockets from ``namespace``) or by Landlock's
rules for ports, both in ``isolated_networks``; ``availability`` finds out which works. ``vm_network`` combines them for
one VM.
"""
