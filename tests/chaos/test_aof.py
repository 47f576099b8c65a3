"""A server that comes back with a cut-off file has each commit whole, or not at all.

The file is cut at every CALLSHEET_AOF_STRIDE-th byte, and at the first and the last bytes of each
commit; a stride of 1 is every byte.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from callsheet.ledger.deliveries import Deliveries, LogStep, NewDelivery
from callsheet.ledger.delivery_model import DeliveryState, line_of
from callsheet.ledger.index import prune_moves
from callsheet.ledger.log import LOG_START
from callsheet.ledger.model import Failure, FailureReason, Progress, Task, Usage
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.store import Applied, Commit
from tests.chaos.sweep.aof import History, Opened, history
from tests.support.ledgers import OWNER, ping
from tests.support.twins import places
from tests.support.upkeeping import running

STRIDE: Final = int(os.environ.get("CALLSHEET_AOF_STRIDE", "89"))
#: Bytes at both ends of a commit that are always tried.
EDGE: Final = 2
#: Servers at a time.
TOGETHER: Final = 4
URL: Final = "https://hooks.example/done"
DAY: Final = timedelta(days=1)
BROKEN: Final = Failure(FailureReason.INTERNAL, "broken")


class Script:
    """Commits of every kind on three tasks."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}

    @property
    def steps(self) -> Mapping[str, Callable[[Opened], Awaitable[object]]]:
        """The commits, in order."""
        return {
            "submit": lambda found: self._submit(found, "first"),
            "submit another": lambda found: self._submit(found, "second"),
            "claim": lambda found: self._claim(found, "first"),
            "keep progress": self._progress,
            "cancel what waits": lambda found: self._cancel(found, "second"),
            "fail": self._fail,
            "submit a third": lambda found: self._submit(found, "third"),
            "claim the third": lambda found: self._claim(found, "third"),
            "cancel what runs": lambda found: self._cancel(found, "third"),
            "renew": self._renew,
            "finish": self._finish,
            "hold the role": lambda found: found.cell.registry.hold("t", "one", duration=DAY),
            "record a delivery": self._record,
            "claim the delivery": self._claim_delivery,
            "settle the delivery": self._settle,
            "prune": self._prune,
            "trim": self._trim,
        }

    async def _submit(self, found: Opened, name: str) -> None:
        self._tasks[name] = await found.cell.ledger.submit(OWNER, ping(name, callback_url=URL))

    async def _claim(self, found: Opened, name: str) -> None:
        self._tasks[name] = await running(found.cell, self._tasks[name])

    async def _progress(self, found: Opened) -> None:
        task = self._tasks["first"]
        progress = Progress(1, 2, "half of it", task.update_time + DAY)
        await found.cell.attempts().keep_progress(task, attempt=1, progress=progress)

    async def _cancel(self, found: Opened, name: str) -> None:
        task = self._tasks[name]
        self._tasks[name] = await found.cell.ledger.cancel(OWNER, task.id, reason="enough")

    async def _fail(self, found: Opened) -> None:
        failed = await found.cell.attempts().fail(self._tasks["first"], attempt=1, failure=BROKEN)
        self._tasks["first"] = failed

    async def _renew(self, found: Opened) -> None:
        assert await found.cell.attempts(lease=DAY).renew([(self._tasks["third"].id, 1)]) != [0]

    async def _finish(self, found: Opened) -> None:
        self._tasks["third"] = await found.cell.attempts().succeed(
            self._tasks["third"], attempt=1, output=b"", usage=Usage(tokens=3)
        )

    async def _record(self, found: Opened) -> None:
        cell, task = found.cell, self._tasks["second"]
        step = LogStep(
            "t", "one", "sidecar", await cell.log.epoch(), LOG_START, await cell.log.end()
        )
        new = NewDelivery(
            task_id=task.id,
            task_create_time=1,
            project="default",
            sequence=2,
            event="cancelled",
            url=URL,
            line=line_of("default", URL),
        )
        assert await self._deliveries(found).record([new], step) == 1

    async def _claim_delivery(self, found: Opened) -> None:
        claims = await self._deliveries(found).claim({line_of("default", URL): 1}, lease=DAY)
        (self._claimed,) = claims.deliveries

    async def _settle(self, found: Opened) -> None:
        record = self._claimed.record
        settled = await self._deliveries(found).settle(
            self._claimed,
            replace(record, state=DeliveryState.DELIVERED),
            retry_delay=None,
            retention=DAY,
        )
        assert settled.stands

    async def _prune(self, found: Opened) -> None:
        task = self._tasks["second"]
        forget = Commit(task.id, task.sequence, moves=prune_moves(found.cell.keys, task))
        assert isinstance((await found.cell.store.commit([forget]))[0], Applied)

    async def _trim(self, found: Opened) -> None:
        assert await found.cell.log.trim(await found.cell.log.end()) > 0

    def _deliveries(self, found: Opened) -> Deliveries:
        return Deliveries(RedisConnection(found.redis), found.cell.keys)


async def check_coherence(found: Opened) -> None:
    """Every task is what its facts fold to, and stands in the indexes as it should."""
    store, keys = found.cell.store, found.cell.keys
    listed = await store.members(keys.project("default"), limit=100)
    tasks = [await found.cell.writer.read(task_id) for task_id, _ in listed]
    for task in tasks:
        assert await found.cell.folded(task.id) == task
    delayed = {member for member, _ in await store.members(keys.delayed, limit=100)}
    for key, members in places(keys, tasks, frozenset(delayed)).items():
        assert {member for member, _ in await store.members(key, limit=100)} == members, key


def sizes_of(start: int, end: int) -> list[int]:
    """Return where a commit is cut off: nowhere behind its last byte."""
    edges = {*range(start, start + EDGE), *range(end - EDGE, end)}
    return sorted(edges | set(range(start, end, STRIDE)))


async def check_cut(made: History, number: int, size: int, folder: Path) -> None:
    """Cut the file off within that commit: it never was, and all before it stands."""
    commit = made.commits[number]
    before, after = made.marks[number : number + 2]
    async with made.cut_at(size, folder) as found:
        assert await found.contents() == commit.before, (commit.name, size)
        await check_coherence(found)
        epoch = await found.cell.log.epoch()
        # What an epoch watch saw and is gone, it tells of; what it never saw is no loss.
        assert await found.watched(before) == epoch
        assert (await found.watched(after) != epoch) is commit.has_facts, (commit.name, size)


async def test_a_commit_cut_off_at_any_byte_never_was_and_all_before_it_stands(
    tmp_path: Path, cell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = await history(tmp_path, cell, Script().steps)
    room = asyncio.Semaphore(TOGETHER)
    cuts = [
        (number, size)
        for number, commit in enumerate(made.commits)
        for size in sizes_of(commit.start, commit.end)
    ]

    async def try_cut(number: int, size: int) -> None:
        async with room:
            await check_cut(made, number, size, tmp_path / f"cut-{size}")

    async with asyncio.TaskGroup() as group:
        for number, size in cuts:
            group.create_task(try_cut(number, size))
    with capsys.disabled():
        written = made.commits[-1].end - made.commits[0].start
        sys.stdout.write(f" {len(cuts)} cuts in {len(made.commits)} commits of {written} bytes ")


async def test_a_file_that_is_whole_is_whole_again(tmp_path: Path, cell: str) -> None:
    made = await history(tmp_path, cell, Script().steps)
    async with made.cut_at(made.commits[-1].end, tmp_path / "whole") as found:
        assert await found.contents() == made.contents
        await check_coherence(found)
        epoch = await found.cell.log.epoch()
        assert await found.watched(made.marks[-1]) == epoch
