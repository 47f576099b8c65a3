"""The tools as an MCP server: what it lists, and how calls are answered."""

from typing import Any

import mcp_types as types
from mcp.server import Server
from mcp.server.context import ServerRequestContext

from callsheet.embedded.brain.brain import BRAIN_VERSION
from callsheet.embedded.brain.errors import BrainRefused
from callsheet.embedded.brain.tools import Tool, Toolbox

Context = ServerRequestContext[Any]


def mcp_server(toolbox: Toolbox) -> "Server[Any]":
    """Return the server; it keeps nothing of a connection, so one is enough for all."""
    listed = types.ListToolsResult(tools=[_described(tool) for tool in toolbox.tools.values()])

    async def list_tools(
        _context: Context, _parameters: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return listed

    async def call_tool(
        _context: Context, parameters: types.CallToolRequestParams
    ) -> types.CallToolResult:
        try:
            answer = await toolbox.call(parameters.name, parameters.arguments or {})
        except BrainRefused as refused:
            return _answered(
                refused.message,
                {"reason": refused.reason.value, "message": refused.message},
                is_error=True,
            )
        text = answer.model_dump_json(exclude_none=True)
        return _answered(text, answer.model_dump(mode="json", exclude_none=True), is_error=False)

    return Server(
        "callsheet-brain",
        version=BRAIN_VERSION,
        instructions="Every tool but health_check is about one project, which it is given.",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _described(tool: "Tool[Any]") -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.summary,
        input_schema=tool.asked.model_json_schema(),
        output_schema=tool.answer.model_json_schema(),
    )


def _answered(text: str, structured: dict[str, Any], *, is_error: bool) -> types.CallToolResult:
    # The text is for clients that know no structured content.
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)],
        structured_content=structured,
        is_error=is_error,
    )
