"""Who keeps the queues: the seam (``protocol``) and the keeper that lives in this process (``local``)."""
