"""Redis away, slow, full or cutting replies: calls say so at once, and watchers go on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from grpc import StatusCode
from redis.asyncio import Redis

from callsheet.control.hub import Hub
from callsheet.control.pulse import Pulse
from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.acceptance import Accepted, SubmitCommand
from callsheet.ledger.access import Principal
from callsheet.ledger.errors import LedgerUnavailable
from callsheet.ledger.index import Keys
from callsheet.ledger.ledger import Ledger
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.redis_log import RedisLog
from callsheet.ledger.redis_store import RedisStore
from callsheet.v1.task_service_pb2 import GetTaskRequest, SubmitTasksRequest
from tests.support.controls import (
    Plane,
    events,
    next_event,
    ping_request,
    refusal,
    running_plane,
    until,
)
from tests.support.cut_proxy import Fate, always, cut_proxy
from tests.support.work import started, succeeded


class Mortal:
    """A Valkey that a test may kill and start again on its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.server = EmbeddedValkey(folder)
        self.server.start()
        self.url = self.server.url

    def kill(self) -> None:
        """Kill it without a warning."""
        self.server.kill()

    def revive(self) -> None:
        """Start it again."""
        self.server = EmbeddedValkey(self._folder)
        self.server.start()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Mortal]:
    """A Valkey of this test's own."""
    mortal = Mortal(tmp_path / "valkey")
    yield mortal
    mortal.kill()


@pytest.fixture
async def plane(mortal: Mortal) -> AsyncIterator[Plane]:
    """A control plane over it."""
    async with running_plane(mortal.url, "outage") as plane:
        yield plane


async def test_every_call_says_unavailable_and_when_to_come_back(
    plane: Plane, mortal: Mortal
) -> None:
    client = plane.client
    task_id = await client.submit()
    mortal.kill()
    for call in (
        client.tasks.SubmitTask(ping_request(), metadata=client.metadata),
        client.tasks.SubmitTasks(
            SubmitTasksRequest(requests=[ping_request()] * 3), metadata=client.metadata
        ),
        client.tasks.GetTask(GetTaskRequest(task_id=task_id), metadata=client.metadata),
        client.watch(task_id).read(),
    ):
        told = await refusal(call)
        assert (told.code, told.reason) == (StatusCode.UNAVAILABLE, "LEDGER_UNAVAILABLE")
        assert told.message == "the ledger does not answer"
        assert told.retry_delay == timedelta(seconds=2)
    await until(lambda: not plane.control.pulse.answers)
    mortal.revive()
    await until(lambda: plane.control.pulse.answers)
    request = GetTaskRequest(task_id=task_id)
    found = await client.tasks.GetTask(request, metadata=client.metadata)
    assert found.task.id == task_id


async def test_a_watch_stays_through_a_restart_of_redis_and_misses_nothing(
    plane: Plane, mortal: Mortal
) -> None:
    task_id = await plane.client.submit()
    watch = plane.client.watch(task_id)
    assert (await next_event(watch)).sequence == 1
    mortal.kill()
    await until(lambda: not plane.control.hub.is_linked)
    mortal.revive()
    await until(lambda: plane.control.pulse.answers)
    await succeeded(plane.cell, task_id)
    assert [(await next_event(watch)).sequence for _ in range(2)] == [2, 3]


async def test_watchers_are_told_of_an_outage_that_lasts(mortal: Mortal) -> None:
    async with Redis.from_url(mortal.url, retry=None) as redis:  # pyright: ignore[reportUnknownMemberType]  # redis-py leaves its options untyped
        connection, keys = RedisConnection(redis), Keys("outage")
        log = RedisLog(connection, keys, new_epoch=lambda: "e")
        hub = Hub(log, RedisStore(connection, keys), Pulse(log), outage=timedelta(milliseconds=100))
        mortal.kill()
        feeding = asyncio.ensure_future(hub.run())
        with hub.subscribe("t") as inbox, pytest.raises(LedgerUnavailable):
            async with asyncio.timeout(30):
                await inbox.filled()
        feeding.cancel()


async def test_a_reply_cut_after_the_commit_has_no_second_effect(
    valkey_server: EmbeddedValkey, cell: str
) -> None:
    async with cut_proxy(valkey_server.url) as proxy, running_plane(proxy.url, cell) as plane:
        await plane.client.submit()
        before = (await plane.written())[1]
        proxy.judge = always(Fate.CUT_AFTER, times=1)
        task_id = await plane.client.submit(ping_request("once", request_id="r-1"))
        assert proxy.troubled == 1
        again = await plane.client.submit(ping_request("once", request_id="r-1"))
        assert again == task_id
        assert (await plane.written())[1] == before + 1


async def test_a_lost_answer_is_made_up_for_by_the_same_request_id(
    valkey_server: EmbeddedValkey, cell: str
) -> None:
    """Every reply is cut: the call fails, although its commit stands."""
    async with cut_proxy(valkey_server.url) as proxy, running_plane(proxy.url, cell) as plane:
        await plane.client.submit()
        proxy.judge = always(Fate.CUT_AFTER)
        client = plane.client
        request = ping_request("once", request_id="r-1")
        told = await refusal(client.tasks.SubmitTask(request, metadata=client.metadata))
        assert (told.code, told.reason) == (StatusCode.UNAVAILABLE, "LEDGER_UNAVAILABLE")
        proxy.judge = lambda _: Fate.PASS
        await client.submit(request)
        assert (await plane.written())[1] == 2


async def test_a_call_whose_deadline_passes_before_its_commit_has_no_effect(
    valkey_server: EmbeddedValkey, cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gave_up = _notice_cancelled_submissions(monkeypatch)
    async with cut_proxy(valkey_server.url) as proxy, running_plane(proxy.url, cell) as plane:
        client = plane.client
        await client.submit()
        before = (await plane.written())[1]
        # Given a commit that is on its way, and takes as long as it likes
        proxy.judge = always(Fate.DELAY, times=1)
        first = asyncio.ensure_future(client.submit())
        await proxy.delayed.wait()
        # When the deadline of a second one passes while it waits its turn
        told = await refusal(
            client.tasks.SubmitTask(ping_request(), metadata=client.metadata, timeout=0.3)
        )
        assert told.code is StatusCode.DEADLINE_EXCEEDED
        await gave_up.wait()
        proxy.release.set()
        await first
        # Then only the first one, and one that comes after both, are written
        await client.submit()
        assert (await plane.written())[1] == before + 2


def _notice_cancelled_submissions(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    noticed = asyncio.Event()
    accept = Ledger.accept

    async def watched(self: Ledger, principal: Principal, command: SubmitCommand) -> Accepted:
        try:
            return await accept(self, principal, command)
        except asyncio.CancelledError:
            noticed.set()
            raise

    monkeypatch.setattr(Ledger, "accept", watched)
    return noticed


async def test_a_full_ledger_accepts_nothing_new_and_says_so(tmp_path: Path) -> None:
    limit = 32 * 1024 * 1024
    with EmbeddedValkey(tmp_path / "valkey", max_memory_bytes=limit) as server:
        async with running_plane(server.url, "full") as plane:
            client = plane.client
            running = await client.submit()
            attempts, task = await started(plane.cell, running)
            await _fill(plane, limit)
            # The ledger looks at its memory once in a while: until then it accepts
            response = await client.tasks.SubmitTasks(
                SubmitTasksRequest(requests=[ping_request()] * 1000), metadata=client.metadata
            )
            refused = [each.refusal for each in response.results if each.HasField("refusal")]
            assert {refusal.reason for refusal in refused} == {"LEDGER_FULL"}
            assert len(refused) > 400
            before = await plane.written()
            told = await refusal(client.tasks.SubmitTask(ping_request(), metadata=client.metadata))
            assert (told.code, told.reason) == (StatusCode.RESOURCE_EXHAUSTED, "LEDGER_FULL")
            assert told.retry_delay == timedelta(seconds=30)
            assert await plane.written() == before
            # What was accepted can end all the same
            await attempts.hand_back(task, attempt=1, reason="done with it")
            await succeeded(plane.cell, running)
            assert len(await events(client.watch(running))) == 5


async def _fill(plane: Plane, limit: int) -> None:
    connection = RedisConnection(plane.redis)
    used = 0
    number = 0
    while used <= 0.9 * limit:
        number += 1
        await connection.command("SET", f"filler:{number}", b"x" * 1024 * 1024)
        memory = cast("dict[str, int]", await connection.command("INFO", "memory"))
        used = memory["used_memory"]
