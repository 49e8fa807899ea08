"""The Model Context Protocol (https://modelcontextprotocol.io) over the same queue."""

from serve.api.mcp.protocol import router as router
