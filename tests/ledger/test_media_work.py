"""Media work: claimed under leases, settled once, and webhooks that wait for it."""

from datetime import timedelta

import pytest
from redis.asyncio import Redis

from callsheet.ledger import media_scripts
from callsheet.ledger.index import Keys
from callsheet.ledger.media_work import ClaimedMedia, MediaRecord, MediaWork
from tests.support.eventually import eventually
from tests.support.strict_keys import StrictConnection

LEASE = timedelta(seconds=30)
MOMENT = timedelta(milliseconds=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def work(redis: Redis, cell: str) -> MediaWork:
    return MediaWork(StrictConnection(redis), Keys(cell))


async def claimed(work: MediaWork, *, lease: timedelta = LEASE) -> ClaimedMedia:
    """Claim the one task that is due, once it is."""

    async def taken() -> tuple[ClaimedMedia, ...]:
        return (await work.claim(limit=9, lease=lease)).tasks

    (one,) = await eventually(taken)
    return one


async def test_work_is_claimed_by_one_until_its_lease_ends(work: MediaWork) -> None:
    assert await work.add({"t-1": None}) == 1
    first = await claimed(work, lease=MOMENT)
    second = await claimed(work)
    assert (first.task_id, second.task_id) == ("t-1", "t-1")
    claims = await work.claim(limit=9, lease=LEASE)
    assert claims.tasks == ()
    assert claims.next_due is not None
    assert timedelta(0) < claims.next_due <= LEASE
    # Then the first one's word counts no more
    assert await work.renew(first, lease=LEASE) is None
    assert not await work.settle(first, None)
    assert await work.settle(second, None)
    assert (await work.claim(limit=9, lease=LEASE)).next_due is None


async def test_a_renewed_lease_is_another_one(work: MediaWork) -> None:
    await work.add({"t-1": None})
    before = await claimed(work)
    after = await work.renew(before, lease=HOUR)
    assert after is not None
    assert not await work.settle(before, None)
    assert await work.settle(after, None)


async def test_no_more_are_taken_than_there_is_room_for(work: MediaWork) -> None:
    await work.add({f"t-{n}": None for n in range(3)})
    claims = await work.claim(limit=2, lease=LEASE)
    assert len(claims.tasks) == 2
    assert claims.next_due == timedelta(0)


async def test_a_failed_try_is_remembered_and_comes_again_in_time(work: MediaWork) -> None:
    await work.add({"t-1": None})
    record = MediaRecord(1, "PayloadCMS is away")
    assert await work.settle(await claimed(work), record, retry_delay=MOMENT)
    again = await claimed(work)
    assert again.record == record
    assert await work.settle(again, record, retry_delay=HOUR)
    claims = await work.claim(limit=9, lease=LEASE)
    assert claims.tasks == ()
    assert claims.next_due is not None
    assert claims.next_due > timedelta(minutes=59)


async def test_what_is_added_again_stays_as_it_is(work: MediaWork) -> None:
    await work.add({"t-1": None})
    await work.settle(await claimed(work), MediaRecord(1, "x"), retry_delay=HOUR)
    assert await work.add({"t-1": None}) == 0
    assert (await work.claim(limit=9, lease=LEASE)).tasks == ()


async def test_what_was_given_up_is_forgotten_after_a_while(
    work: MediaWork, redis: Redis, cell: str
) -> None:
    await work.add({"t-1": None})
    await work.settle(await claimed(work), MediaRecord(9, "too large"))
    assert await work.forget(retention=HOUR, limit=9) == 0
    assert await work.forget(retention=-HOUR, limit=9) == 1
    assert await work.forget(retention=-HOUR, limit=9) == 0
    assert await StrictConnection(redis).command("KEYS", f"{Keys(cell).prefix}*") == []


async def test_what_was_given_up_may_begin_anew(work: MediaWork) -> None:
    await work.add({"t-1": None})
    await work.settle(await claimed(work), MediaRecord(9, "too large"))
    assert await work.add({"t-1": None}) == 1
    assert (await claimed(work)).record == MediaRecord()
    assert await work.forget(retention=-HOUR, limit=9) == 0


async def test_webhooks_wait_until_their_time_and_not_a_moment_less(work: MediaWork) -> None:
    future = 4_000_000_000_000_000
    await work.add({"t-1": 1, "t-2": future, "t-3": None})
    holds = await work.released(limit=9)
    assert holds.task_ids == ("t-1",)
    assert holds.next_due is not None
    assert await work.held(["t-1", "t-2", "t-3", "t-4"]) == ["t-1", "t-2"]
    # When it is told again, then the first word stands
    await work.add({"t-2": 1})
    assert (await work.released(limit=9)).task_ids == ("t-1",)
    await work.drop_holds(["t-1", "t-2"])
    assert await work.released(limit=9) == ((), None)
    assert await work.held([]) == []


async def test_a_try_that_settles_for_good_lets_its_webhook_go(work: MediaWork) -> None:
    await work.add({"t-1": 4_000_000_000_000_000})
    record = MediaRecord(1, "too large")
    assert await work.settle(await claimed(work), record, retry_delay=MOMENT)
    assert (await work.released(limit=9)).task_ids == ()
    assert await work.settle(await claimed(work), record, retry_delay=HOUR, releases=True)
    assert (await work.released(limit=9)).task_ids == ("t-1",)
    # And one whose webhook is gone waits for nothing
    await work.drop_holds(["t-1"])
    await work.add({"t-2": None})
    assert await work.settle(await claimed(work), record, releases=True)
    assert await work.released(limit=9) == ((), None)


async def test_a_lock_is_one_tasks_at_a_time_and_runs_out(work: MediaWork) -> None:
    assert await work.lock("bytes", "t-1", duration=LEASE)
    assert await work.lock("bytes", "t-1", duration=LEASE)
    assert not await work.lock("bytes", "t-2", duration=LEASE)
    await work.unlock("bytes", "t-2")
    assert not await work.lock("bytes", "t-2", duration=LEASE)
    await work.unlock("bytes", "t-1")
    assert await work.lock("bytes", "t-2", duration=MOMENT)
    assert await eventually(lambda: work.lock("bytes", "t-1", duration=LEASE))


async def test_a_record_of_a_newer_version_counts_as_none(
    work: MediaWork, redis: Redis, cell: str
) -> None:
    await work.add({"t-1": None})
    records = Keys(cell).media_records
    await StrictConnection(redis).command("HSET", records, "t-1", b'{"version": 2}')
    assert (await claimed(work)).record == MediaRecord()


async def test_every_script_was_run_with_the_keys_that_it_declares(work: MediaWork) -> None:
    StrictConnection.ran.clear()
    await test_a_renewed_lease_is_another_one(work)
    await test_a_lock_is_one_tasks_at_a_time_and_runs_out(work)
    await work.released(limit=1)
    await work.forget(retention=HOUR, limit=1)
    await work.seal("digest", "t-1", duration=MOMENT)
    await work.retry(["t-1"])
    scripts = {v for v in vars(media_scripts).values() if isinstance(v, str) and "redis.call" in v}
    assert scripts - {media_scripts._CLOCK} <= StrictConnection.ran  # pyright: ignore[reportPrivateUsage]  # a part of scripts is none
