"""The embedded brain: an MCP server over WebSocket on a property graph with search by meaning."""
