"""What can be wrong with a machine and its configuration, each in a check of its own: ``cyberimage doctor``."""
