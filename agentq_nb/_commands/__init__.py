"""The commands of ``%agentq`` in a notebook and ``agentq`` in a shell, with one table and one parser for both."""
