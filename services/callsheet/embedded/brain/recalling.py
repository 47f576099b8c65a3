"""Reads what the graph remembers; nothing of another project ever comes back."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from callsheet.embedded.brain.fields import instant
from callsheet.embedded.brain.graph import Rows
from callsheet.embedded.brain.memory import Memory, decode
from callsheet.embedded.brain.messages import (
    GetTaskHistory,
    KnowledgeFound,
    KnowledgeItem,
    SearchSimilarTasks,
    TaskMemory,
    TasksFound,
)
from callsheet.embedded.brain.schema import DIMENSIONS

#: What an answer tells of one task, so that a hundred of them fit into a message.
_LONGEST_TEXT: Final = 2_000
_MOST_ARTIFACTS: Final = 20

# An empty filter lets everything through, so that there is one statement and not four. A Task
# without a status is only known as what another came from.
_FILTERS: Final = """
t.project = $project AND t.status <> '' AND ($task_type = '' OR t.task_type = $task_type)
"""
_NEWEST: Final = f"""
MATCH (t:Task) WHERE {_FILTERS}
RETURN t.key, t.submit_time ORDER BY t.submit_time DESC, t.key LIMIT $limit
"""
_NEAREST: Final = f"""
MATCH (t:Task)
WHERE {_FILTERS} AND ($status = '' OR t.status = $status) AND t.vector IS NOT NULL
RETURN t.key, array_cosine_similarity(t.vector, CAST($vector AS FLOAT[{DIMENSIONS}])) AS score
ORDER BY score DESC, t.submit_time DESC, t.key LIMIT $limit
"""
# A second question, because sorting would drag every task's memory along.
_MEMORIES: Final = "UNWIND $keys AS k MATCH (t:Task {key: k}) RETURN k, t.task_id, t.memory"
_KNOWN: Final = f"""
MATCH (k:Knowledge) WHERE k.project = $project
RETURN k.source, k.text, array_cosine_similarity(k.vector, CAST($vector AS FLOAT[{DIMENSIONS}]))
  AS score
ORDER BY score DESC, k.source LIMIT $limit
"""


def history(rows: Rows, asked: GetTaskHistory) -> TasksFound:
    """Return the project's newest tasks, newest first."""
    found = rows(
        _NEWEST,
        project=asked.project,
        task_type=asked.task_type or "",
        limit=asked.limit,
    )
    return _remembered(rows, asked.project, dict.fromkeys((key for key, _ in found), None))


def similar(rows: Rows, asked: SearchSimilarTasks, vector: Sequence[float]) -> TasksFound:
    """Return the project's tasks whose text means nearly what the vector does, nearest first."""
    found = rows(
        _NEAREST,
        project=asked.project,
        task_type=asked.task_type or "",
        status=asked.status or "",
        vector=vector,
        limit=asked.limit,
    )
    return _remembered(rows, asked.project, cast("dict[str, float | None]", dict(found)))


def knowledge(rows: Rows, *, project: str, vector: Sequence[float], limit: int) -> KnowledgeFound:
    """Return the project's passages that mean nearly what the vector does, nearest first."""
    found = rows(_KNOWN, project=project, vector=vector, limit=limit)
    return KnowledgeFound(
        items=[
            KnowledgeItem(source=source, text=text, score=score) for source, text, score in found
        ]
    )


def _remembered(rows: Rows, project: str, scores: dict[str, float | None]) -> TasksFound:
    """Return the tasks of the keys, in the order of the keys."""
    memories = {
        key: decode(text, project=project, task_id=task_id)
        for key, task_id, text in rows(_MEMORIES, keys=list(scores))
    }
    # A task may have been pruned between the two questions.
    kept = ((memories[key], score) for key, score in scores.items() if key in memories)
    return TasksFound(tasks=[_told(memory, score) for memory, score in kept])


def _told(memory: Memory, score: float | None) -> TaskMemory:
    end_time = memory.get("end_time")
    return TaskMemory(
        task_id=memory.task_id,
        project=memory.project,
        task_type=memory.get("task_type") or "",
        status=memory.get("status"),
        text=(memory.get("text") or "")[:_LONGEST_TEXT],
        submit_time=instant(memory.submit_time),
        end_time=instant(end_time) if end_time is not None else None,
        artifacts=memory.artifacts[:_MOST_ARTIFACTS],
        quality=memory.get("quality"),
        failure=_cut(memory.failure),
        score=score,
    )


def _cut(failure: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {**failure, "message": failure["message"][:_LONGEST_TEXT]} if failure else None
