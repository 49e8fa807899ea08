"""The HTTP dialects: a router each, over the same queue."""
