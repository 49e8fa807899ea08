"""The Model Context Protocol (https://modelcontextprotocol.io) over the same queue."""
