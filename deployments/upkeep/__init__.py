"""Keeps files and records in step, and backs up both."""
