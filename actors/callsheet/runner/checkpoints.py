"""The checkpoints of one attempt: when they are due, where they are, and what is found there."""

import hashlib
import threading
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.artifacts.errors import ArtifactNotFound, ArtifactStoreError
from callsheet.artifacts.store import ArtifactStore
from callsheet.internal.v1.pipe_pb2 import AttemptCheckpoint, FromRunner, RunAttempt
from callsheet.runner.uploads import OwnUploads, Uploads
from callsheet.v1.task_pb2 import Checkpoint

MEDIA_TYPE: Final = "application/octet-stream"
SUFFIX: Final = "state"

_KIND: Final = "checkpoint"
#: The share of the work done so far that may be lost, when that is more than the period.
_SHARE: Final = 0.02
_LAST_MOMENT: Final = timedelta(seconds=2)
#: Checkpoints that are kept: the ledger may not know the newest one yet.
_KEPT: Final = 2

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class CheckpointPolicy:
    """Says when a checkpoint is due: after a period, or a fiftieth of the work so far.

    So long work has few more of them: each one is a fact that is kept with its task.
    """

    def __init__(self, period: timedelta, *, clock: Callable[[], float]) -> None:
        """The clock tells seconds. A period of zero: none is ever due."""
        self._period = period.total_seconds()
        self._clock = clock
        self._start: float | None = None
        self._last = 0.0

    def is_due(self) -> bool:
        """Tell whether one is due now; the work begins when this is asked first."""
        now = self._clock()
        if self._start is None:
            # Not before: loading a model is no work that a checkpoint saves.
            self._start = self._last = now
        wait = max(self._period, _SHARE * (now - self._start))
        return self._period > 0 and now - self._last >= wait

    def taken(self) -> None:
        """Count from now on: one was taken."""
        self._last = self._clock()


class AttemptCheckpoints:
    """Saves where an attempt's work can be gone on from, and finds where an earlier one was."""

    def __init__(
        self,
        run: RunAttempt,
        *,
        artifacts: ArtifactStore,
        uploads: Uploads | OwnUploads,
        send: Callable[[FromRunner], None],
        policy: CheckpointPolicy,
    ) -> None:
        self._run = run
        self._artifacts = artifacts
        self._uploads = uploads
        self._send = send
        self._policy = policy
        self._found = run.checkpoint if run.HasField("checkpoint") else None
        #: In the store, the oldest first.
        self._keys = deque([self._found.key] if self._found is not None else [])
        self._is_over = False
        self._telling = threading.Lock()

    def slot(self, part: int, *, say: Callable[[str], None]) -> "PartSlot":
        """Return the CheckpointSlot of one of the attempt's renderings, counted from 0.

        *say* is told what people should know of it.
        """
        return PartSlot(self, part, say=say)

    def load(self, part: int) -> bytes:
        """Return the state of a part that an earlier attempt saved; b'': it saved none.

        Raises ArtifactNotFound, and ArtifactStoreError also for other bytes than were saved.
        """
        if self._found is None or self._found.part != part:
            return b""
        content = self._artifacts.get(self._found.key)
        if hashlib.sha256(content).hexdigest() != self._found.sha256:
            raise ArtifactStoreError("the bytes are not those that were saved")
        return content

    def is_due(self, part: int) -> bool:
        """Tell whether a state of the part is worth saving now."""
        if self._found is not None and part < self._found.part:
            return False  # what is saved is further than this
        return self._policy.is_due() and not self._uploads.is_busy(_KIND)

    def save(self, content: bytes, *, step: int, of: int, part: int) -> None:
        """Save a state beside the work, and tell the worker when it is safe."""
        self._policy.taken()
        self._uploads.put(_KIND, lambda: self._store(content, step=step, of=of, part=part))

    def forget(self) -> None:
        """Go on from what was found no more: the work starts anew."""
        self._found = None

    def close(self, *, succeeded: bool) -> None:
        """Tell of nothing any more; of work that is done, delete what was saved.

        What an attempt that did not succeed has saved is for the next one: what is on its way into
        the store gets a moment to arrive there.
        """
        if succeeded:
            self._uploads.put(_KIND, self._delete_all)
        elif self._uploads.is_busy(_KIND):
            self._uploads.finish(within=_LAST_MOMENT)
        with self._telling:
            self._is_over = True

    def _store(self, content: bytes, *, step: int, of: int, part: int) -> None:
        run = self._run
        stored = self._artifacts.put(
            content,
            project=run.project,
            task_id=run.task_id,
            attempt=run.attempt,
            media_type=MEDIA_TYPE,
            suffix=SUFFIX,
        )
        if stored.key not in self._keys:
            self._keys.append(stored.key)
        saved = Checkpoint(
            key=stored.key,
            sha256=stored.sha256,
            size_bytes=stored.size,
            step=step,
            of=of,
            part=part,
        )
        told = AttemptCheckpoint(task_id=run.task_id, attempt=run.attempt, checkpoint=saved)
        with self._telling:
            if self._is_over:
                return
            self._send(FromRunner(checkpoint=told))
        _log.debug("checkpoint_saved", step=step, of=of, size_bytes=stored.size)
        while len(self._keys) > _KEPT:
            self._delete([self._keys.popleft()])

    def _delete_all(self) -> None:
        self._delete([*self._keys])
        self._keys.clear()

    def _delete(self, keys: list[str]) -> None:
        if keys:
            self._artifacts.delete_keys(self._run.project, self._run.task_id, keys)


class PartSlot:
    """Where one rendering of an attempt keeps its state: its CheckpointSlot."""

    def __init__(
        self, checkpoints: AttemptCheckpoints, part: int, *, say: Callable[[str], None]
    ) -> None:
        self._checkpoints = checkpoints
        self._part = part
        self._say = say

    def load(self) -> bytes | None:
        """Return the state that an earlier attempt saved of this rendering. None: there is none."""
        try:
            return self._checkpoints.load(self._part) or None
        except ArtifactNotFound:
            self.refuse("the checkpoint is not in the store any more")
        except ArtifactStoreError as error:
            _log.warning("checkpoint_unreadable", reason=error.message)
            self.refuse("the checkpoint cannot be read")
        return None

    def is_due(self) -> bool:
        """Tell whether a state should be saved."""
        return self._checkpoints.is_due(self._part)

    def save(self, content: bytes, *, step: int, of: int) -> None:
        """Keep the state after a step."""
        self._checkpoints.save(content, step=step, of=of, part=self._part)

    def resumed(self, step: int, *, of: int) -> None:
        """Say that the work goes on."""
        _log.info("checkpoint_resumed", step=step, of=of)
        self._say(f"going on behind step {step}, as an earlier attempt left it")

    def refuse(self, reason: str) -> None:
        """Say that the work starts anew, and why."""
        _log.warning("checkpoint_refused", reason=reason)
        self._checkpoints.forget()
        self._say(f"starting anew: {reason}")
