"""What the processes of a VM reach: a proxy in this process is their only way out.

``policy`` decides and does nothing else; ``proxy`` and ``relay`` carry what is allowed; ``dialing`` connects on their
behalf. What keeps them from all else is a network namespace, in which ``namespace`` gives sockets (``own_network``), or
Landlock's rules for ports (``shared_network``); ``availability`` finds out which. ``vm_network`` puts them together for
one VM.
"""
