"""``map``: call a function, or send a prompt, for each of many items, durably."""
