"""Training of the built-in model: its language, its drawings, its three training stages and its judge."""
