"""The HTTP dialects, one router each, over one queue."""
