"""Several models in one replica, which take turns on its GPU."""
