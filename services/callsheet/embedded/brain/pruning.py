"""Forgets the oldest tasks when there are more than are kept, a few at a time.

Age decides, whatever became of the task; its attempts, events and artifacts go with it, and so do
models that no task used any more, and projects without tasks and knowledge. A later event of a
forgotten task makes it known again, as far as that event tells.
"""

import asyncio
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.embedded.brain.errors import BrainRefused
from callsheet.embedded.brain.graph import Graph, Rows

#: Tasks of one transaction, so that no write waits long.
_STEP: Final = 50
_INTERVAL: Final = timedelta(seconds=10)

_COUNT: Final = "MATCH (t:Task) RETURN count(*)"
_OLDEST: Final = "MATCH (t:Task) RETURN t.key ORDER BY t.submit_time, t.key LIMIT $limit"
_FORGET: Final = (
    "UNWIND $keys AS k MATCH (:Task {key: k})-[:ATTEMPTED]->(a:Attempt) DETACH DELETE a",
    "UNWIND $keys AS k MATCH (e:Event) WHERE e.task = k DELETE e",
)
# An artifact may have been made twice; the task that is kept keeps it.
_MADE: Final = """
UNWIND $keys AS k MATCH (:Task {key: k})-[:PRODUCED]->(a:Artifact) RETURN a.key
"""
_USED: Final = """
UNWIND $keys AS k MATCH (:Task {key: k})-[:USED]->(m:Model) RETURN m.key
"""
_FORGET_TASKS: Final = "UNWIND $keys AS k MATCH (t:Task {key: k}) DETACH DELETE t"
_FORGET_ARTIFACTS: Final = """
UNWIND $keys AS k
MATCH (a:Artifact {key: k}) WHERE NOT EXISTS { MATCH (:Task)-[:PRODUCED]->(a) } DELETE a
"""
_FORGET_MODELS: Final = """
UNWIND $keys AS k
MATCH (m:Model {key: k}) WHERE NOT EXISTS { MATCH (:Task)-[:USED]->(m) } DELETE m
"""

_FORGET_PROJECTS: Final = """
MATCH (p:Project)
WHERE NOT EXISTS { MATCH (p)-[:HAS]->(:Task) } AND NOT EXISTS { MATCH (p)-[:KNOWS]->(:Knowledge) }
DELETE p
"""

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class TaskPruner:
    """Keeps the graph to *kept* tasks, as near as a look every ten seconds does."""

    def __init__(self, graph: Graph, *, kept: int) -> None:
        self._graph = graph
        self._kept = kept

    async def run(self) -> None:
        """Prune until cancelled."""
        while True:
            try:
                if forgotten := await self.prune():
                    _log.info("tasks_forgotten", tasks=forgotten)
            except (BrainRefused, RuntimeError) as error:
                _log.warning("pruning_put_off", reason=str(error))
            await asyncio.sleep(_INTERVAL.total_seconds())

    async def prune(self) -> int:
        """Forget what is too much, step by step; return how many tasks that were."""
        forgotten = 0
        count = await self._graph.read(lambda rows: cast("int", rows(_COUNT)[0][0]))
        while count - forgotten > self._kept:
            most = min(_STEP, count - forgotten - self._kept)
            step = await self._graph.write(lambda rows, most=most: _forget(rows, most))
            if not step:
                break
            forgotten += step
        if forgotten:
            await self._graph.write(forget_empty_projects)
        return forgotten


def forget_empty_projects(rows: Rows) -> None:
    """Forget the projects that have no tasks and know nothing."""
    rows(_FORGET_PROJECTS)


def _forget(rows: Rows, most: int) -> int:
    keys = [key for (key,) in rows(_OLDEST, limit=most)]
    if not keys:
        return 0
    made = sorted({key for (key,) in rows(_MADE, keys=keys)})
    used = sorted({key for (key,) in rows(_USED, keys=keys)})
    for statement in (*_FORGET, _FORGET_TASKS):
        rows(statement, keys=keys)
    if made:
        rows(_FORGET_ARTIFACTS, keys=made)
    if used:
        rows(_FORGET_MODELS, keys=used)
    return len(keys)
