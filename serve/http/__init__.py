"""What every HTTP route shares: the gate, errors, deadlines, event streams."""
