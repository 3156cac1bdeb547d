"""Several hosts on one PostgreSQL under seeded faults: does every promise hold that is made to senders?

``python -m tests.distributed --seeds 30`` runs thirty seeds, ``--seed N`` one of them again.
"""
