"""The demo's last step: its task is found again in the brain, by words that it does not have."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from callsheet.brain.brain import Brain
from callsheet.brain.errors import BrainError
from callsheet.brain.records import TaskMemory
from callsheet.brain.transport import Dialling
from callsheet.embedded.brain_token import BRAIN_TOKEN_FILE
from callsheet.runtime.secrets import read_secret

#: What the demo's prompt means, in other words.
QUESTION: Final = "a beacon on the coast at nightfall"
#: Small tasks about other things, so that there is something to tell apart.
OTHERS: Final = (
    "two knights fight with swords on a burning bridge",
    "a chef decorates a chocolate cake",
    "the quarterly report of the catering department",
    "children build a snowman in front of a school",
)

_PATIENCE: Final = timedelta(seconds=60)
_PAUSE: Final = timedelta(milliseconds=100)
_MOST: Final = 50


@dataclass(frozen=True)
class Recollection:
    """What the brain remembers of the task: *rank* 1 means that no other task is nearer."""

    memory: TaskMemory
    rank: int
    among: int


def recollection(state_dir: Path, *, url: str, project: str, task_id: str) -> Recollection | None:
    """Return what the embedded brain remembers, asked by the question; None: it does not find it.

    The graph is written behind the plane's back, so the end of the task is waited for, a minute at
    most. Raises BrainError when the brain does not answer at all.
    """
    token = read_secret(state_dir / BRAIN_TOKEN_FILE)
    return asyncio.run(_recollection(Dialling(url=url, token=token), project, task_id))


async def _recollection(dialling: Dialling, project: str, task_id: str) -> Recollection | None:
    async with Brain(dialling, jitter=secrets.SystemRandom().random) as brain:
        if not await brain.connection.until_connected(timeout=_PATIENCE):
            raise BrainError(f"the brain is away: {brain.connection.reason}")
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                while True:
                    tasks = await brain.search_similar_tasks(project, QUESTION, limit=_MOST)
                    found = _ranked(tasks, task_id)
                    if found is not None and found.memory.status == "completed":
                        return found
                    await asyncio.sleep(_PAUSE.total_seconds())
        except TimeoutError:
            return None


def _ranked(tasks: Sequence[TaskMemory], task_id: str) -> Recollection | None:
    for memory in tasks:
        if memory.task_id == task_id:
            # The same prompt of an earlier demo is as near, and no nearer.
            nearer = sum((task.score or 0) > (memory.score or 0) for task in tasks)
            return Recollection(memory, rank=nearer + 1, among=len(tasks))
    return None
