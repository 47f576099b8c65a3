"""Stores what is made on the way, beside inference: checkpoints and previews."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.artifacts.errors import ArtifactStoreError
from callsheet.runner.frames import PipeBroken

_CLOSED_WITHIN: Final = timedelta(seconds=10)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Uploads:
    """Does one thing after the other in a thread of its own; of each kind the newest waits.

    What the store refuses is logged and forgotten: the work it is about goes on without it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[str, Callable[[], None]] = {}
        self._current = ""
        self._thread: threading.Thread | None = None

    def put(self, kind: str, job: Callable[[], None]) -> None:
        """Do the job when those before it are done, instead of an older one of its kind."""
        with self._changed:
            self._waiting[kind] = job
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="uploads", daemon=True)
                self._thread.start()

    def is_busy(self, kind: str) -> bool:
        """Tell whether a job of the kind waits or is being done."""
        with self._changed:
            return kind in self._waiting or self._current == kind

    def drop(self, kind: str) -> None:
        """Forget the job of the kind that waits."""
        with self._changed:
            self._waiting.pop(kind, None)

    def finish(self, *, within: timedelta = _CLOSED_WITHIN) -> bool:
        """Return when nothing is left to do; False: it took longer than that."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not (self._waiting or self._current), timeout=within.total_seconds()
            )

    def _work(self) -> None:
        while True:
            with self._changed:
                self._current = ""
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                kind = next(iter(self._waiting))
                job = self._waiting.pop(kind)
                self._current = kind
            _done(kind, job)


class OwnUploads:
    """The uploads of one of several attempts that run together: its kinds are its own."""

    def __init__(self, uploads: Uploads, owner: str) -> None:
        self._uploads = uploads
        self._owner = owner

    def put(self, kind: str, job: Callable[[], None]) -> None:
        """Do the job instead of an older one of its kind, as Uploads.put."""
        self._uploads.put(self._owned(kind), job)

    def is_busy(self, kind: str) -> bool:
        """Tell whether a job of the kind waits or is being done."""
        return self._uploads.is_busy(self._owned(kind))

    def drop(self, kind: str) -> None:
        """Forget the job of the kind that waits."""
        self._uploads.drop(self._owned(kind))

    def finish(self, *, within: timedelta = _CLOSED_WITHIN) -> bool:
        """Return when nothing is left to do, of the others either; False: it took longer."""
        return self._uploads.finish(within=within)

    def _owned(self, kind: str) -> str:
        return f"{self._owner} {kind}"


def _done(kind: str, job: Callable[[], None]) -> None:
    try:
        job()
    except ArtifactStoreError as error:
        _log.warning("upload_failed", kind=kind, reason=error.message)
    except PipeBroken:
        return  # the worker is gone, and whoever receives from it ends this process
    except Exception:  # noqa: BLE001 - what is made on the way must not end what it is about
        _log.exception("upload_failed", kind=kind)
