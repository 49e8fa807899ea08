"""Jobs and images: their records, their states and the store that keeps them."""
