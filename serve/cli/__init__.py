"""The `cyberimage` command and the client of the service."""
