"""Who asks, what is theirs, and how often they may ask."""
