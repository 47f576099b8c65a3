"""The brain: what the platform knows of its tasks, by MCP over a WebSocket and by REST."""
