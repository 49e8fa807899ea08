"""The model catalog: its file, and the records of models."""
