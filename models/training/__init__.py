"""Training of the built-in model: its language, its drawings, its two training stages and its judge."""
