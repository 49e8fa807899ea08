"""What operators are told: log lines, metrics and traces."""
