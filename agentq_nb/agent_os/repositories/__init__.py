"""Workspaces that are clones of a git repository, or an existing folder."""
