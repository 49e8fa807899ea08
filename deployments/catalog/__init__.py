"""What is configured about models."""
