"""The commands of ``%agentq`` in a notebook and of ``agentq`` in a shell: one table, one parser for both."""
