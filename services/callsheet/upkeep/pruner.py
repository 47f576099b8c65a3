"""The pruner: forgets final tasks after their retention."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.ledger import index
from callsheet.ledger.index import Move, Op
from callsheet.ledger.instants import span
from callsheet.ledger.model import Task
from callsheet.ledger.store import Commit, Guard
from callsheet.ledger.writer import Writer
from callsheet.upkeep.due import DueTask, DueTasks
from callsheet.upkeep.owed import OwedMedia, OwedWebhooks

PERIOD: Final = timedelta(seconds=10)
#: Between two rounds of a backlog, so that those who wait for their tasks go first.
BACKLOG_REST: Final = timedelta(milliseconds=20)
#: When a task is looked at again whose webhook or media somebody still has to see to.
OWED_REST: Final = timedelta(minutes=10)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Pruner:
    """Removes final tasks, facts and all, from the ledger.

    *owed* and *owed_media* say whose facts somebody still needs: they are looked at again later.
    """

    name = "pruner"

    def __init__(
        self,
        writer: Writer,
        owed: OwedWebhooks | None = None,
        owed_media: OwedMedia | None = None,
    ) -> None:
        self._keys = writer.keys
        self._store = writer.store
        self._due = DueTasks(writer, writer.keys.final)
        self._owed = owed
        self._owed_media = owed_media

    async def run_once(self) -> timedelta:
        """Forget one round of what is past its retention."""
        due = await self._due.look()
        final = [found.task for found in due.tasks if found.task and found.task.is_final]
        webhooks = await self._owed.of(final) if self._owed else set[str]()
        media = await self._owed_media.of(final, now=due.time) if self._owed_media else set[str]()
        owed = webhooks | media
        await self._keep_sources([task for task in final if task.id in owed], time=due.time)
        stood = await self._due.apply([self._decide(found, owed) for found in due.tasks])
        pruned = sum(
            stands
            for stands, found in zip(stood, due.tasks, strict=True)
            if found.task_id not in owed
        )
        if pruned:
            _log.info("tasks_pruned", count=pruned)
        if webhooks:
            _log.info("tasks_kept_for_webhooks", count=len(webhooks))
        if media:
            _log.info("tasks_kept_for_media", count=len(media))
        return PERIOD if due.is_all or not any(stood) else BACKLOG_REST

    async def _keep_sources(self, owed: Sequence[Task], *, time: int) -> None:
        """Keep the tasks whose outputs these use a little longer than these: see OUTLIVES.

        The guard leaves those that are kept longer as they are. It comes before these are put off,
        and before any of this round is forgotten, which then fails for a source.
        """
        sources = list(dict.fromkeys(task.reused_from for task in owed if task.reused_from))
        stored = await self._store.read(sources) if sources else []
        length = span(OWED_REST) + index.OUTLIVES
        final = self._keys.final
        await self._due.apply(
            [
                Commit(
                    each.task_id,
                    expected=each.sequence,
                    moves=(Move(Op.ADD_AFTER, final, score=length),),
                    guard=Guard(final, each.task_id, time + length),
                )
                for each in stored
                if each is not None
            ]
        )

    def _decide(self, found: DueTask, owed: set[str]) -> Commit:
        """Return the commit.

        Its guard tells this task from a new one that the same request_id made after somebody else
        had pruned it.
        """
        task = found.task
        if task is None or not task.is_final:
            return found.dropped()
        if task.id in owed:
            return found.postponed(OWED_REST)
        moves = index.prune_moves(self._keys, task)
        return Commit(task.id, expected=task.sequence, moves=moves, guard=found.guard)
