"""Looks at where artifacts are stored: whether it can be read, and has room."""

import asyncio
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Final
from urllib.parse import unquote, urlsplit

from callsheet.artifacts.errors import ArtifactStoreError
from callsheet.artifacts.store import ArtifactStore
from callsheet.runtime.checks.finding import Finding, HealthState

#: A folder with less room than this is told of.
SCARCE_BYTES: Final = 2**30


class StorageCheck:
    """Looks at a store of artifacts; it writes nothing, and makes no folder.

    A store that hangs, as a network's folder may, holds one thread and no more: the next look
    waits for the same answer.
    """

    name = "storage"
    is_essential = False

    def __init__(self, store: ArtifactStore, url: str) -> None:
        self._store = store
        self._url = url
        self._looking: asyncio.Future[Finding] | None = None

    async def look(self) -> Finding:
        """Return how the store is now."""
        if self._looking is None or self._looking.done():
            self._looking = _aside(self._look)
        return await asyncio.shield(self._looking)

    def _look(self) -> Finding:
        parts = urlsplit(self._url)
        if parts.scheme == "file":
            return _folder_finding(Path(unquote(parts.path)))
        before = monotonic()
        try:
            self._store.owner()
        except ArtifactStoreError as error:
            return Finding(
                state=HealthState.DOWN,
                reason="it cannot be read",
                detail=f"{self._url}: {error.message}",
                mend="look at CALLSHEET_ARTIFACTS_URL and the CALLSHEET_S3_ settings",
            )
        latency = timedelta(seconds=monotonic() - before)
        return Finding(state=HealthState.UP, detail=self._url, latency=latency)


def _folder_finding(folder: Path) -> Finding:
    before = monotonic()
    # It is made with the first artifact; until then, what matters is where.
    place = next(each for each in (folder, *folder.parents) if each.exists())
    if not place.is_dir() or not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        return Finding(
            state=HealthState.DOWN,
            reason="it cannot be written",
            detail=str(place),
            mend="let the user of these processes write there, or set CALLSHEET_ARTIFACTS_URL",
        )
    free = shutil.disk_usage(place).free
    has_room = free >= SCARCE_BYTES
    return Finding(
        state=HealthState.UP if has_room else HealthState.DEGRADED,
        reason="" if has_room else "it is nearly full",
        detail=str(folder),
        mend="" if has_room else "make room on its disk",
        latency=timedelta(seconds=monotonic() - before),
        figures={"free_bytes": free},
    )


def _aside(work: Callable[[], Finding]) -> asyncio.Future[Finding]:
    """Do the work in a thread of its own, which no end of the process waits for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Finding] = loop.create_future()

    def tell(answer: Finding | Exception) -> None:
        if done.done():
            return
        if isinstance(answer, Finding):
            done.set_result(answer)
        else:
            done.set_exception(answer)

    def run() -> None:
        try:
            answer: Finding | Exception = work()
        except Exception as error:  # noqa: BLE001  # goes to whoever waits for the look
            answer = error
        try:
            loop.call_soon_threadsafe(tell, answer)
        except RuntimeError:
            return  # the loop has ended, and with it who waits

    Thread(target=run, name="storage-check", daemon=True).start()
    return done
