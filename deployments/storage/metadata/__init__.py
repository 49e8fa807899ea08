"""What image files carry beside their pixels, written and read."""
