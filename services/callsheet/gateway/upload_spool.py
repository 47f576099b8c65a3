"""Where an upload waits until it is whole: a file without a name, written by threads of its own."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import IO, Final, TypeVar, cast

import structlog

from callsheet.gateway.problems import Refused

#: How long the end of the gateway waits for threads that still write.
PATIENCE: Final = timedelta(seconds=5)

Answer = TypeVar("Answer")

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class UploadThreads:
    """The threads that write and store uploads: as many as there may be uploads.

    They are not the event loop's own, which look up names and read files for everybody else.
    """

    def __init__(self, most: int) -> None:
        self._executor = ThreadPoolExecutor(most, thread_name_prefix="upload")
        self._under_way: set[Future[object]] = set()

    def start(self, do: Callable[[], Answer]) -> Future[Answer]:
        """Have a thread do something."""
        future = self._executor.submit(do)
        kept = cast("Future[object]", future)
        self._under_way.add(kept)
        future.add_done_callback(lambda _: self._under_way.discard(kept))
        return future

    async def close(self) -> None:
        """Wait for what is under way, for a while, and take no more."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        under_way = [asyncio.wrap_future(each) for each in tuple(self._under_way)]
        if under_way:
            _, late = await asyncio.wait(under_way, timeout=PATIENCE.total_seconds())
            if late:
                _log.warning("uploads_left", uploads=len(late))


class Spool:
    """A file without a name, which is gone with its last reader, whatever happens."""

    def __init__(self, file: IO[bytes], threads: UploadThreads) -> None:
        self._file = file
        self._threads = threads
        self._digest = hashlib.sha256()
        self._last: Future[object] | None = None
        #: Bytes that were written.
        self.size = 0

    @property
    def path(self) -> Path:
        """Where the file can be read while it is open."""
        return Path(f"/proc/self/fd/{self._file.fileno()}")

    @property
    def sha256(self) -> str:
        """The digest of all that was written."""
        return self._digest.hexdigest()

    async def write(self, block: bytes) -> None:
        """Append a block, off the loop."""
        await self.off_loop(lambda: self._write(block))

    async def off_loop(self, do: Callable[[], Answer]) -> Answer:
        """Have a thread do something with the file, which stays open until that has ended."""
        future = self._threads.start(do)
        self._last = cast("Future[object]", future)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Close the file, as soon as no thread works with it.

        A request that is cancelled cannot stop its thread; closed under its hands, the file's
        number would soon be another upload's.
        """
        if self._last is None:
            self._file.close()
        else:
            self._last.add_done_callback(lambda _: self._file.close())

    def _write(self, block: bytes) -> None:
        rest = memoryview(block)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._digest.update(block)
        self.size += len(block)


@asynccontextmanager
async def spooled(folder: Path, threads: UploadThreads) -> AsyncGenerator[Spool]:
    """Yield an empty file in the folder. Raises Refused, 507, when it cannot be kept."""
    try:
        spool = Spool(await asyncio.wrap_future(threads.start(lambda: _opened(folder))), threads)
        try:
            yield spool
        finally:
            spool.close()
    except OSError as error:
        raise Refused(
            HTTPStatus.INSUFFICIENT_STORAGE,
            "UPLOAD_NOT_KEPT",
            f"the file could not be kept: {error.strerror}",
        ) from error


def _opened(folder: Path) -> IO[bytes]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Unbuffered: nothing is left to be written when it is closed.
    return cast("IO[bytes]", tempfile.TemporaryFile(dir=folder, buffering=0))
