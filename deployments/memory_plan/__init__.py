"""How much memory a model needs, counted from its config files, and where its weights can be so that it fits."""
