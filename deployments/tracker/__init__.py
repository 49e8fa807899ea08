"""The job tracker: the jobs of all models, their watchers, and what becomes of them."""
