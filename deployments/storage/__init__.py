"""Where image bytes go, and how images are encoded with their parameters."""
