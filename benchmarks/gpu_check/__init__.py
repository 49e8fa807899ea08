"""What the service does on this machine's accelerator, checked and measured in five minutes without a download."""
