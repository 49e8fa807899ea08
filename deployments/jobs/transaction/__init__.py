"""What every transaction that moves jobs shares."""
