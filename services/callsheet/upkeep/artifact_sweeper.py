"""The artifact sweeper: deletes what was uploaded for nothing."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, cast

import structlog
from google.protobuf.message import DecodeError

from callsheet.artifacts.errors import ArtifactStoreError
from callsheet.artifacts.references import artifacts_in, unpacked
from callsheet.artifacts.store import ArtifactStore
from callsheet.artifacts.sweep import KnownTask, sweep
from callsheet.ledger.codec import decode_task
from callsheet.ledger.errors import UnknownVersion
from callsheet.ledger.model import Task
from callsheet.ledger.store import Store

PERIOD: Final = timedelta(minutes=10)
#: What is younger may belong to an attempt that is about to succeed.
OLDER_THAN: Final = timedelta(hours=1)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class ArtifactSweeper:
    """Deletes artifacts of tasks that are gone, and those that a final task does not refer to."""

    name = "artifact_sweeper"

    def __init__(
        self, store: Store, artifacts: ArtifactStore, *, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._artifacts = artifacts
        self._clock = clock

    async def run_once(self) -> timedelta:
        """Sweep the whole store once."""
        try:
            report = await sweep(
                self._artifacts,
                look_up=self._look_up,
                older_than=OLDER_THAN,
                now=self._clock(),
            )
        except ArtifactStoreError as error:
            _log.warning("artifacts_not_swept", reason=error.message)
            return PERIOD
        if report.folders_deleted or report.artifacts_deleted or report.errors:
            _log.info(
                "artifacts_swept",
                folders_seen=report.folders_seen,
                folders_deleted=report.folders_deleted,
                artifacts_deleted=report.artifacts_deleted,
                errors=report.errors,
            )
        return PERIOD

    async def _look_up(self, task_ids: Sequence[str]) -> Mapping[str, KnownTask | None]:
        """Answer for each id; one is left out when what it refers to cannot be told."""
        known: dict[str, KnownTask | None] = {}
        found = await self._store.read(task_ids)
        for task_id, stored in zip(task_ids, found, strict=True):
            try:
                known[task_id] = None if stored is None else _known(decode_task(stored))
            except (UnknownVersion, DecodeError, KeyError, ValueError) as error:
                _log.error("task_unreadable", task_id=task_id, reason=repr(error))
        return known


def _known(task: Task) -> KnownTask:
    """Return what the sweeper must know. Raises ValueError for an output of an unknown type."""
    if not task.output:
        return KnownTask(task.is_final)
    keys = frozenset(artifact.key for artifact in artifacts_in(unpacked(task.output)))
    return KnownTask(task.is_final, keys)
