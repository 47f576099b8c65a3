"""Puts the embedded brain together from the settings, and runs it."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

import structlog

from callsheet.embedded.brain.embedder import Embedder
from callsheet.embedded.brain.errors import GraphUnavailable, ModelMissing
from callsheet.embedded.brain.filling import VectorFiller
from callsheet.embedded.brain.graph import Graph
from callsheet.embedded.brain.pruning import TaskPruner
from callsheet.embedded.brain_token import brain_token
from callsheet.embedded.endpoints import split_address
from callsheet.runtime.lifecycle import announce_ready, run_until_signalled
from callsheet.runtime.logs import configure_logging
from callsheet.runtime.secrets import SecretUnusable
from callsheet.runtime.settings import Settings, load_settings_or_exit

if TYPE_CHECKING:
    from callsheet.embedded.brain.front import Front

#: The graph's folder in the state folder.
GRAPH_FOLDER: Final = "brain"

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


def main() -> int:
    """Run the brain until SIGTERM; return the exit code."""
    settings = load_settings_or_exit()
    configure_logging(settings, process="brain")
    return run_until_signalled(
        lambda stop: _work(settings, stop), drain_timeout=settings.drain_timeout
    )


async def _work(settings: Settings, stop: asyncio.Event) -> None:
    try:
        await _serve(settings, stop)
    except (GraphUnavailable, SecretUnusable, OSError) as error:
        raise SystemExit(str(error)) from error


async def _serve(settings: Settings, stop: asyncio.Event) -> None:
    token = brain_token(settings)
    async with AsyncExitStack() as stack:
        graph = Graph(settings.state_dir / GRAPH_FOLDER)
        stack.push_async_callback(graph.close)
        embedder = Embedder()
        stack.push_async_callback(embedder.close)
        filler = VectorFiller(graph, embedder)
        # A thread replays the log while this one imports the protocol, which takes a second.
        opening = asyncio.create_task(graph.open())
        await asyncio.sleep(0)
        front = _front(graph, embedder, filler, token=token)
        await opening
        host, port = split_address(settings.brain_address)
        listener = await stack.enter_async_context(front.listening(host, port))
        chosen = listener.sockets[0].getsockname()[1]
        _log.info("brain_listening", host=host, port=chosen)
        announce_ready()
        await _until_stopped(stop, graph, embedder, filler, settings)


def _front(graph: Graph, embedder: Embedder, filler: VectorFiller, *, token: str) -> "Front":
    from callsheet.embedded.brain.brain import Brain  # noqa: PLC0415  # see above
    from callsheet.embedded.brain.front import Front  # noqa: PLC0415  # see above
    from callsheet.embedded.brain.mcp_server import mcp_server  # noqa: PLC0415  # see above
    from callsheet.embedded.brain.tools import Toolbox  # noqa: PLC0415  # see above

    toolbox = Toolbox(Brain(graph, embedder, filler, now=_now))
    return Front(mcp_server(toolbox), toolbox, token=token)


async def _until_stopped(
    stop: asyncio.Event,
    graph: Graph,
    embedder: Embedder,
    filler: VectorFiller,
    settings: Settings,
) -> None:
    stopping = asyncio.create_task(stop.wait())
    broken = asyncio.create_task(graph.broken())
    chores = [
        asyncio.create_task(_warm_up(embedder)),
        asyncio.create_task(filler.run()),
        asyncio.create_task(TaskPruner(graph, kept=settings.brain_tasks_kept).run()),
    ]
    ends = {stopping, broken, *chores[1:]}
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if broken.done():
            raise SystemExit("the graph can no longer be written")
        for chore in chores[1:]:
            if chore.done():
                chore.result()
    finally:
        for task in (stopping, broken, *chores):
            task.cancel()
        await asyncio.wait({stopping, broken, *chores})


async def _warm_up(embedder: Embedder) -> None:
    try:
        await embedder.warm_up()
    except (ModelMissing, OSError) as error:
        _log.error("model_missing", reason=str(error))


def _now() -> datetime:
    return datetime.now(UTC)
