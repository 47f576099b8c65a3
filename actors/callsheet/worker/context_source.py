"""What the brain knows that bears on a task, asked for under a small budget of time.

What comes is data for a handler and never more than that: bounded here in number and length, told
apart from the input all the way, and left out wherever it is late. An attempt goes on without it.
"""

import asyncio
import math
import struct
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar, cast

import structlog
from google.protobuf.message import Message

from callsheet.brain.errors import BrainError
from callsheet.brain.records import KnowledgeItem, TaskMemory
from callsheet.ledger.about import words_of
from callsheet.ledger.model import Knowledge, SimilarTask, Task, TaskContext
from callsheet.v1.task_spec_pb2 import TaskSpec

if TYPE_CHECKING:  # its libraries take a second to import, and a worker without a brain needs none
    from callsheet.brain.brain import Brain

#: The most of each kind, as the contract says.
MOST: Final = 8
#: Characters of one text, and of all of them: they are kept with the task, twice.
LONGEST_TEXT: Final = 1024
LONGEST_TEXTS: Final = 8192
#: Characters of a source, a task's id, its type.
LONGEST_NAME: Final = 256
#: How a task that has ended is called by the brain.
_ENDED: Final = frozenset({"completed", "failed"})

_FLOAT: Final = struct.Struct("<f")

Answer = TypeVar("Answer")

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


class ContextSource:
    """Asks a brain about tasks; on the worker's loop."""

    def __init__(self, brain: "Brain", *, budget: timedelta) -> None:
        """*budget* is what both questions together may take, from the call."""
        self._brain = brain
        self.budget = budget

    async def about(self, task: Task) -> TaskContext | None:
        """Return what is known that bears on the task; None: nothing, or nothing in time."""
        words = _words(task)
        if not words or not self._brain.connection.is_connected:
            return None
        project = task.submission.project
        # The client's own limit, so that a brain that is always late is left alone by its breaker.
        knowledge, similar = await asyncio.gather(
            self._answer(
                self._brain.query_knowledge(project, words, limit=MOST, time_limit=self.budget)
            ),
            self._answer(
                self._brain.search_similar_tasks(
                    project, words, limit=2 * MOST, time_limit=self.budget
                )
            ),
        )
        context = _bounded(task, knowledge, similar)
        return context if context.knowledge or context.similar_tasks else None

    async def _answer(self, asking: Coroutine[object, object, Sequence[Answer]]) -> list[Answer]:
        try:
            return list(await asking)
        except BrainError as error:
            _log.info("context_not_retrieved", reason=str(error))
        except Exception:  # noqa: BLE001  # whatever the brain answers, the attempt goes on
            _log.exception("context_not_retrieved")
        return []


def _words(task: Task) -> str:
    spec = TaskSpec.FromString(task.submission.spec)
    return words_of(cast("Message", getattr(spec, task.submission.task_type)))


def _bounded(
    task: Task, knowledge: Sequence[KnowledgeItem], similar: Sequence[TaskMemory]
) -> TaskContext:
    """Return what fits; what is nearest in meaning comes first, and so is the last to go."""
    room = LONGEST_TEXTS
    known: list[Knowledge] = []
    for item in knowledge[:MOST]:
        text = _plain(item.text, min(LONGEST_TEXT, room))
        if text:
            known.append(Knowledge(_plain(item.source, LONGEST_NAME), text, _score(item.score)))
            room -= len(text)
    ended = [each for each in similar if each.status in _ENDED and each.task_id != task.id]
    resembling: list[SimilarTask] = []
    for memory in ended[:MOST]:
        text = _plain(memory.text, min(LONGEST_TEXT, room))
        if text:
            resembling.append(_similar(memory, text))
            room -= len(text)
    return TaskContext(tuple(known), tuple(resembling))


def _similar(memory: TaskMemory, text: str) -> SimilarTask:
    return SimilarTask(
        _plain(memory.task_id, LONGEST_NAME),
        _plain(memory.task_type, LONGEST_NAME),
        memory.status,
        text,
        _score(memory.score or 0.0),
    )


def _plain(text: str, most: int) -> str:
    """Return the text, no longer than that, as protobuf takes it: half a character has no bytes."""
    return text[:most].encode(errors="replace").decode()


def _score(score: float) -> float:
    """Return the score within its bounds, and as exact as it is kept."""
    bounded = max(-1.0, min(1.0, score)) if math.isfinite(score) else 0.0
    return _FLOAT.unpack(_FLOAT.pack(bounded))[0]
