"""Handles to actors: who sends, calls and asks. ``local`` is for this process."""
