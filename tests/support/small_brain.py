"""A small brain in a process of its own: a real MCP server on a WebSocket that remembers in a file.

`python -m tests.support.small_brain FOLDER` listens where the file `port` says, or writes it. The
file `mood.json` says what it does wrong from the next call on.
"""

import asyncio
import json
import os
import ssl
import sys
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, cast

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from callsheet.brain.streams import MESSAGE_BYTES, SUBPROTOCOL, Reading, Writing

FAR_FUTURE: Final = "2100-01-01T00:00:00.000000Z"
ALL_TOOLS: Final = (
    "store_task_events",
    "store_task_result",
    "store_task_context",
    "get_task_history",
    "search_similar_tasks",
    "cache_task_result",
    "get_cached_result",
    "query_knowledge",
    "store_knowledge",
    "health_check",
)

Json = dict[str, Any]


class RefusedError(Exception):
    """The brain says no."""


class SmallBrain:
    """Keeps facts by (epoch, task id, sequence) in a file, one line each.

    With another generation in its mood it forgets all it knew.
    """

    def __init__(self, folder: Path) -> None:
        self._mood = folder / "mood.json"
        self._facts = folder / "facts.jsonl"
        self._calls = folder / "calls.jsonl"
        self._kept: dict[tuple[str, str, int], Json] = {}
        if self._facts.exists():
            for line in self._facts.read_text().splitlines():
                fact = json.loads(line)
                self._kept[fact["epoch"], fact["task_id"], fact["sequence"]] = fact
        self._cache: dict[tuple[str, str], Json] = {}
        self._knowledge: list[Json] = []
        self._generation = self.mood.get("generation", 0)

    @property
    def mood(self) -> Json:
        """What goes wrong: hang, error (a code), kill, fail, reason, refuse (a word), malformed.

        any_project too, and hang_tool, the name of one that never answers.

        And what it is like: text, tools, names.
        """
        return json.loads(self._mood.read_text()) if self._mood.exists() else {}

    async def list_tools(
        self, context: ServerRequestContext[Any], asked: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        """Answer two pages: the first tool, and the rest."""
        names = list(self.mood.get("tools", ALL_TOOLS))
        is_first = asked is None or asked.cursor is None
        tools = [
            types.Tool(name=name, input_schema={"type": "object"})
            for name in (names[:1] if is_first else names[1:])
        ]
        return types.ListToolsResult(tools=tools, next_cursor="rest" if is_first else None)

    async def call_tool(
        self, context: ServerRequestContext[Any], asked: types.CallToolRequestParams
    ) -> types.CallToolResult:
        """Do what the tool does, unless the mood is bad."""
        mood, arguments = self.mood, asked.arguments or {}
        if mood.get("generation", 0) != self._generation:
            self._generation = mood.get("generation", 0)
            self._kept.clear()
            self._cache.clear()
            self._knowledge.clear()
        with self._calls.open("a") as calls:
            calls.write(json.dumps([asked.name, len(arguments.get("events", ()))]) + "\n")
        if mood.get("hang") or mood.get("hang_tool") == asked.name:
            await asyncio.Event().wait()
        if "error" in mood:
            raise MCPError(code=mood["error"], message="as JSON-RPC says it")
        if mood.get("kill", "\0") in json.dumps(arguments):
            os._exit(9)
        try:
            answer = self._answer(asked.name, arguments, mood)
        except RefusedError as error:
            words = types.TextContent(type="text", text=str(error))
            reason = {"reason": mood["reason"]} if "reason" in mood else None
            return types.CallToolResult(content=[words], structured_content=reason, is_error=True)
        if mood.get("malformed"):
            answer = {"written": "many"}
        if mood.get("text"):
            words = types.TextContent(type="text", text=json.dumps(answer))
            return types.CallToolResult(content=[words])
        return types.CallToolResult(content=[], structured_content=answer)

    def _answer(self, name: str, asked: Json, mood: Mapping[str, Any]) -> Json:
        if mood.get("fail"):
            raise RefusedError("the graph is broken")
        # Asked by another name, it knows itself by ours.
        match cast("str", mood.get("names", {}).get(name, name)):
            case "store_task_events":
                new = self._store(asked["events"], mood)
                return {"written": new, "repeated": len(asked["events"]) - new}
            case "store_task_result" | "store_task_context":
                return {"written": self._store([asked["event"]], mood) == 1}
            case "get_task_history" | "search_similar_tasks":
                return {"tasks": self._tasks(asked, anyone=mood.get("any_project", False))}
            case "cache_task_result":
                self._cache[asked["project"], asked["key"]] = asked
                return {"expire_time": FAR_FUTURE}
            case "get_cached_result":
                return self._cached(asked)
            case "store_knowledge":
                self._knowledge.append(asked)
                return {"stored": True}
            case "query_knowledge":
                return {"items": [self._known(each) for each in self._knowledge]}
            case "health_check":
                return {"status": "ok", "events": len(self._kept), "version": "small"}
            case _:
                raise RefusedError(f"no tool {name}")

    def _store(self, facts: list[Json], mood: Mapping[str, Any]) -> int:
        if any(mood.get("refuse", "\0") in json.dumps(fact) for fact in facts):
            raise RefusedError("it is poison")
        new: list[Json] = []
        for fact in facts:
            key = (fact["epoch"], fact["task_id"], fact["sequence"])
            if key not in self._kept:
                self._kept[key] = fact
                new.append(fact)
        with self._facts.open("a") as file:
            file.writelines(json.dumps(fact) + "\n" for fact in new)
        return len(new)

    def _tasks(self, asked: Json, *, anyone: bool) -> list[Json]:
        tasks: list[Json] = [
            {
                "task_id": fact["task_id"],
                "project": fact["project"],
                "task_type": fact["task_type"],
                "status": fact["status"],
                "text": fact.get("text", ""),
                "submit_time": fact["time"],
                "end_time": None,
                "artifacts": [],
                "score": 0.5,
                "new_field": "of a later version",
            }
            for fact in self._kept.values()
            if fact["event"] == "submitted" and (anyone or fact["project"] == asked["project"])
        ]
        return tasks[: asked["limit"]]

    def _cached(self, asked: Json) -> Json:
        found = self._cache.get((asked["project"], asked["key"]))
        if found is None:
            return {"found": False}
        result, task_id = found["result"], found["task_id"]
        return {"found": True, "task_id": task_id, "result": result, "expire_time": FAR_FUTURE}

    def _known(self, stored: Json) -> Json:
        return {"source": stored["source"], "text": stored["text"], "score": 0.9}


async def run(folder: Path) -> None:
    """Serve until killed."""
    brain = SmallBrain(folder)
    server: Server[Any] = Server(
        "small-brain", version="1", on_list_tools=brain.list_tools, on_call_tool=brain.call_tool
    )
    token = os.environ.get("SMALL_BRAIN_TOKEN", "")
    certificate = folder / "certificate.pem"
    tls = None
    if certificate.exists():
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)

    def admit(connection: ServerConnection, request: Request) -> Response | None:
        if token and request.headers.get("Authorization") != f"Bearer {token}":
            return connection.respond(HTTPStatus.UNAUTHORIZED, "who are you?\n")
        return None

    async def serve_one(socket: ServerConnection) -> None:
        options = server.create_initialization_options()
        await server.run(Reading(socket), Writing(socket), options)

    port = folder / "port"
    async with serve(
        serve_one,
        "127.0.0.1",
        int(port.read_text()) if port.exists() else 0,
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        compression=None,
        max_size=MESSAGE_BYTES,
        process_request=admit,
        ssl=tls,
    ) as listener:
        made = folder / "port.new"
        made.write_text(str(next(iter(listener.sockets)).getsockname()[1]))
        made.rename(port)
        (folder / "ready").touch()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1])))
