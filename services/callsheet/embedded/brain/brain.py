"""The brain: what its tools do, on the graph and the model."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from callsheet.embedded.brain import knowing, recalling, remembering, result_cache
from callsheet.embedded.brain.embedder import Embedder
from callsheet.embedded.brain.errors import BrainRefused, Reason
from callsheet.embedded.brain.fields import microseconds
from callsheet.embedded.brain.filling import VectorFiller
from callsheet.embedded.brain.graph import Graph, Rows
from callsheet.embedded.brain.memory import OUTCOMES
from callsheet.embedded.brain.messages import (
    CachedResult,
    CacheTaskResult,
    EventsStored,
    EventStored,
    GetCachedResult,
    GetTaskHistory,
    Health,
    HealthCheck,
    KnowledgeFound,
    KnowledgeStored,
    QueryKnowledge,
    ResultCached,
    SearchSimilarTasks,
    StoreKnowledge,
    StoreTaskEvent,
    StoreTaskEvents,
    TaskEventWrite,
    TasksFound,
)

#: What the brain says of itself; the tools' contract, and what it stores, are of this version.
BRAIN_VERSION: Final = "1.0"

_TOTALS: Final = (
    "MATCH (t:Task) WHERE t.status <> '' RETURN count(*)",
    "MATCH (e:Event) RETURN count(*)",
    "MATCH (e:Epoch) RETURN count(*)",
)


class Brain:
    """Answers the tools; *now* is the clock. Raises BrainRefused for what it does not do."""

    def __init__(
        self,
        graph: Graph,
        embedder: Embedder,
        filler: VectorFiller,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._graph = graph
        self._embedder = embedder
        self._filler = filler
        self._now = now

    async def store_task_events(self, asked: StoreTaskEvents) -> EventsStored:
        """Write events of tasks, each once."""
        return await self._store(asked.events)

    async def store_task_result(self, asked: StoreTaskEvent) -> EventStored:
        """Write the event that ended a task."""
        if asked.event.event not in OUTCOMES:
            raise BrainRefused(
                Reason.INVALID_INPUT,
                f"event.event: {asked.event.event} ends no task; use store_task_context",
            )
        stored = await self._store([asked.event])
        return EventStored(written=stored.written == 1)

    async def store_task_context(self, asked: StoreTaskEvent) -> EventStored:
        """Write an event of a task that does not end it."""
        if asked.event.event in OUTCOMES:
            raise BrainRefused(
                Reason.INVALID_INPUT,
                f"event.event: {asked.event.event} ends the task; use store_task_result",
            )
        stored = await self._store([asked.event])
        return EventStored(written=stored.written == 1)

    async def get_task_history(self, asked: GetTaskHistory) -> TasksFound:
        """Return a project's newest tasks."""
        return await self._graph.read(lambda rows: recalling.history(rows, asked))

    async def search_similar_tasks(self, asked: SearchSimilarTasks) -> TasksFound:
        """Return a project's tasks by the meaning of their text."""
        vector, _ = await asyncio.gather(self._embedder.vector(asked.text), self._filler.settled())
        return await self._graph.read(lambda rows: recalling.similar(rows, asked, vector))

    async def cache_task_result(self, asked: CacheTaskResult) -> ResultCached:
        """Keep a result for a time."""
        now = microseconds(self._now())
        return await self._graph.write(lambda rows: result_cache.put(rows, asked, now=now))

    async def get_cached_result(self, asked: GetCachedResult) -> CachedResult:
        """Return a result that is kept."""
        now = microseconds(self._now())
        return await self._graph.read(lambda rows: result_cache.get(rows, asked, now=now))

    async def query_knowledge(self, asked: QueryKnowledge) -> KnowledgeFound:
        """Return what a project knows by the meaning of a text."""
        vector = await self._embedder.vector(asked.text)
        return await self._graph.read(
            lambda rows: recalling.knowledge(
                rows, project=asked.project, vector=vector, limit=asked.limit
            )
        )

    async def store_knowledge(self, asked: StoreKnowledge) -> KnowledgeStored:
        """Keep a passage of what a project knows."""
        vector = await self._embedder.vector(asked.text)
        return await self._graph.write(lambda rows: knowing.store_knowledge(rows, asked, vector))

    async def health_check(self, asked: HealthCheck) -> Health:
        """Return how much there is; that it answers is the health."""
        tasks, events, epochs = await self._graph.read(_totals)
        return Health(
            status="ok", tasks=tasks, events=events, epoch_count=epochs, version=BRAIN_VERSION
        )

    async def _store(self, events: Sequence[TaskEventWrite]) -> EventsStored:
        stored = await self._graph.write(lambda rows: remembering.store_events(rows, events))
        if stored.written:
            self._filler.wake()
        return stored


def _totals(rows: Rows) -> tuple[int, int, int]:
    tasks, events, epochs = (rows(statement)[0][0] for statement in _TOTALS)
    return tasks, events, epochs
