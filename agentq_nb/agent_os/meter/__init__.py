"""The meter: a proxy before language models that keeps the key, and counts the tokens and the money of each request.

``llm`` is what users write; ``server`` answers the agents' requests in the network's thread, and ``forwarding`` passes one
on. ``usage`` reads the tokens in responses, ``prices`` knows what they cost, and ``account`` keeps what was spent, and
holds requests back. ``metered`` joins them to one VM's sessions.
"""
