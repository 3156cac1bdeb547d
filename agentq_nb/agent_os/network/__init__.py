"""What the processes of a VM reach: a network namespace of their own, and a proxy in this process that is its only way out.

``policy`` decides and does nothing else; ``namespace`` gives sockets inside; ``proxy`` and ``relay`` carry what is
allowed; ``dialing`` connects on their behalf; ``vm_network`` puts them together for one VM.
"""
