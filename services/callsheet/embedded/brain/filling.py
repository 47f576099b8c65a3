"""Gives tasks their vectors after they were written: a write never waits for the model.

Which tasks lack one stands in the graph itself, so a kill loses nothing; the newest come first.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.embedded.brain.embedder import Embedder, Vector
from callsheet.embedded.brain.errors import BrainRefused, ModelMissing
from callsheet.embedded.brain.graph import Graph, Rows
from callsheet.embedded.brain.schema import DIMENSIONS

#: Tasks of one look into the graph, and of one write.
_LOOK: Final = 64
_WRITE: Final = 16
#: How long a search waits for tasks that were just written: less than attempts wait for a search.
_PATIENCE: Final = timedelta(milliseconds=100)
_PAUSE_AFTER_FAILURE: Final = timedelta(seconds=5)

_PENDING: Final = """
MATCH (t:Task) WHERE t.vector IS NULL AND t.text <> ''
RETURN t.key, t.text ORDER BY t.submit_time DESC LIMIT $limit
"""
# Unless the text has become another one meanwhile.
_SET: Final = f"""
UNWIND $rows AS r
MATCH (t:Task {{key: r.key}}) WHERE t.text = r.text
SET t.vector = CAST(r.vector AS FLOAT[{DIMENSIONS}])
"""

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class VectorFiller:
    """Keeps up with the texts of tasks; *wake* tells it that there are new ones."""

    def __init__(self, graph: Graph, embedder: Embedder) -> None:
        self._graph = graph
        self._embedder = embedder
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._settled = asyncio.Event()
        self._far_behind = False

    def wake(self) -> None:
        """Look for texts without a vector soon."""
        self._settled.clear()
        self._wanted.set()

    async def settled(self) -> None:
        """Return when all tasks have their vectors, or it is not worth the wait."""
        if self._far_behind:
            return
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                await self._settled.wait()
        except TimeoutError:
            return

    async def run(self) -> None:
        """Fill until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                if await self._fill():
                    self._wanted.set()
            except (BrainRefused, ModelMissing, RuntimeError) as error:
                _log.warning("vectors_put_off", reason=str(error))
                await asyncio.sleep(_PAUSE_AFTER_FAILURE.total_seconds())
                self._wanted.set()

    async def _fill(self) -> bool:
        """Fill some; return whether there may be more."""
        pending = cast(
            "list[tuple[str, str]]",
            await self._graph.read(lambda rows: rows(_PENDING, limit=_LOOK)),
        )
        self._far_behind = len(pending) == _LOOK
        if not pending:
            if not self._wanted.is_set():
                self._settled.set()
            return False
        for start in range(0, len(pending), _WRITE):
            some = pending[start : start + _WRITE]
            vectors = await asyncio.gather(*(self._embedder.vector(text) for _, text in some))
            await self._graph.write(lambda rows, s=some, v=vectors: _write(rows, s, v))
        return True


def _write(rows: Rows, tasks: Sequence[tuple[str, str]], vectors: Sequence[Vector]) -> None:
    rows(
        _SET,
        rows=[
            {"key": key, "text": text, "vector": vector}
            for (key, text), vector in zip(tasks, vectors, strict=True)
        ],
    )
