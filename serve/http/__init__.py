"""What all HTTP routes share: the gate, errors, deadlines, event streams."""
