"""The graph on disk: one writer, a few readers, and checkpoints when the writer has a moment.

Ladybug allows one write transaction at a time, and its calls block; so a thread of its own does
all the writing, in the order asked for, and each reading thread has a connection of its own.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

import ladybug
import structlog

from callsheet.embedded.brain.errors import BrainRefused, GraphUnavailable, Reason
from callsheet.embedded.brain.schema import SCHEMA, VERSION

Answer = TypeVar("Answer")

_FILE: Final = "graph.ladybug"
_UNWOUND: Final = ("rows", "keys", "names")
_READERS: Final = 2
#: The pages that are kept in memory; the rest is read when it is needed.
_BUFFER_BYTES: Final = 512 * 2**20
#: The size of the log past which it is worked into the file at once, and past which it is when
#: nothing was written for a while. A checkpoint costs 0.3 s, whatever it has to do; reopening
#: replays the log, at 14 MiB a second.
_CHECKPOINT_BYTES: Final = 8 * 2**20
_IDLE_CHECKPOINT_BYTES: Final = 2**20
_IDLE: Final = timedelta(seconds=2)
#: Calls that wait for the writer, or for a reader, before more are refused.
_MOST_WAITING: Final = 1024

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Rows:
    """Asks the graph over one connection, for as long as one call lasts."""

    def __init__(self, connection: ladybug.Connection) -> None:
        self._connection = connection
        self._prepared: set[str] = set()

    def __call__(self, query: str, **parameters: object) -> list[list[Any]]:
        """Run a query and return its rows.

        A list among the parameters `rows`, `keys` and `names` is unwound by the query.
        """
        unwound = next((name for name in _UNWOUND if name in parameters), None)
        if unwound is None or query in self._prepared:
            return self._run(query, parameters)
        # A statement keeps a copy of what it was prepared with, and copies that for every run:
        # prepared with a batch of 250, it would cost ten times as much for ever.
        self._prepared.add(query)
        values = cast("list[object]", parameters[unwound])
        first = self._run(query, {**parameters, unwound: values[:1]})
        if len(values) == 1:
            return first
        return first + self._run(query, {**parameters, unwound: values[1:]})

    def _run(self, query: str, parameters: dict[str, object]) -> list[list[Any]]:
        # One statement has one result.
        result = cast("ladybug.QueryResult", self._connection.execute(query, parameters))
        try:
            return cast("list[list[Any]]", result.get_all())
        finally:
            result.close()


class Graph:
    """The property graph in *folder*, open from `open` to `close`.

    What `write` has answered outlives a kill of the process.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / _FILE
        self._wal = folder / f"{_FILE}.wal"
        self._database: ladybug.Database | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="graph-writer")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="graph-reader")
        self._of_thread = threading.local()
        self._waiting = 0
        self._broken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._is_closing = False

    async def open(self) -> None:
        """Open the graph, making it if there is none.

        Raises GraphUnavailable when another process has it, or another version wrote it.
        """
        self._loop = asyncio.get_running_loop()
        await self._loop.run_in_executor(self._writer, self._open)

    async def write(self, work: Callable[[Rows], Answer]) -> Answer:
        """Run *work* in a transaction of its own, after those before it; all of it or nothing.

        Raises BrainRefused when too many wait already.
        """
        try:
            return await self._run(self._writer, lambda: self._written(work))
        finally:
            self._wait_for_idleness()

    async def read(self, work: Callable[[Rows], Answer]) -> Answer:
        """Run *work*, which only asks. Raises BrainRefused when too many wait already."""
        return await self._run(self._readers, lambda: work(self._rows()))

    async def broken(self) -> None:
        """Return when the graph can no longer be written, so that only a new start helps."""
        await self._broken.wait()

    async def close(self) -> None:
        """Finish what was asked for, work the log into the file, and close it."""
        self._is_closing = True
        if self._idle is not None:
            self._idle.cancel()
        await asyncio.to_thread(self._readers.shutdown)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._writer, self._close)
        await asyncio.to_thread(self._writer.shutdown)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], Answer]) -> Answer:
        if self._waiting >= _MOST_WAITING:
            raise BrainRefused(Reason.BUSY, f"{_MOST_WAITING} calls are waiting for the graph")
        self._waiting += 1
        done = asyncio.get_running_loop().run_in_executor(threads, work)
        # Counted until the thread is done with it, whether or not its caller still waits.
        done.add_done_callback(self._no_longer_waiting)
        return await done

    def _wait_for_idleness(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        if self._is_closing:
            return
        self._idle = asyncio.get_running_loop().call_later(
            _IDLE.total_seconds(), self._use_idleness
        )

    def _use_idleness(self) -> None:
        self._idle = None
        self._writer.submit(self._checkpoint_past, _IDLE_CHECKPOINT_BYTES)

    def _no_longer_waiting(self, done: "asyncio.Future[Any]") -> None:
        self._waiting -= 1

    def _open(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._database = ladybug.Database(
                self._file,
                buffer_pool_size=_BUFFER_BYTES,
                max_num_threads=_READERS + 1,
                auto_checkpoint=False,  # a commit must not fail because a checkpoint did
            )
            rows = self._rows()
            for statement in SCHEMA:
                rows(statement)
            found = rows("MATCH (s:Schema) RETURN s.version")
        except RuntimeError as error:
            raise GraphUnavailable(f"cannot open {self._file}: {error}") from error
        if not found:
            rows("CREATE (:Schema {name: 'brain', version: $version})", version=VERSION)
        elif found[0][0] != VERSION:
            raise GraphUnavailable(
                f"{self._file} is of version {found[0][0]}, this brain of {VERSION}"
            )
        self._checkpoint_past(_CHECKPOINT_BYTES)

    def _close(self) -> None:
        if self._database is None:
            return
        self._checkpoint()
        self._database.close()
        self._database = None

    def _rows(self) -> Rows:
        """Return the rows of this thread's connection."""
        known = cast("Rows | None", getattr(self._of_thread, "rows", None))
        if known is None:
            if self._database is None:
                raise GraphUnavailable(f"{self._file} is not open")
            connection = ladybug.Connection(self._database, num_threads=1)
            known = self._of_thread.rows = Rows(connection)
        return known

    def _written(self, work: Callable[[Rows], Answer]) -> Answer:
        rows = self._rows()
        rows("BEGIN TRANSACTION")
        try:
            answer = work(rows)
            rows("COMMIT")
        except BaseException:
            self._roll_back(rows)
            raise
        self._checkpoint_past(_CHECKPOINT_BYTES)
        return answer

    def _roll_back(self, rows: Rows) -> None:
        try:
            rows("ROLLBACK")
        except RuntimeError as error:
            # The connection is neither in a transaction nor out of one.
            _log.critical("graph_broken", reason=str(error))
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._broken.set)

    def _checkpoint_past(self, size: int) -> None:
        try:
            due = self._wal.stat().st_size >= size
        except FileNotFoundError:
            return
        if due:
            self._checkpoint()

    def _checkpoint(self) -> None:
        try:
            self._rows()("CHECKPOINT")
        except RuntimeError as error:
            # Readers were in the way; nothing is lost, and the next write tries again.
            _log.warning("graph_checkpoint_put_off", reason=str(error))
