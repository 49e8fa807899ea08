"""What is configured, but for the models."""
