"""The delivery queues: what is recorded once, claimed by one, and settled by its holder."""

from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from callsheet.internal.v1.record_pb2 import SignalRecord
from callsheet.ledger.deliveries import ClaimedDelivery, LogStep
from callsheet.ledger.delivery_model import DeliveryRecord, DeliveryState, NewDelivery
from callsheet.ledger.redis_connection import RedisConnection
from tests.support.sidecars import WebhookCell

URL = "https://a.example/hook"
LINE = "default/https://a.example:443/hook"
OTHER = "default/https://b.example:443/hook"
#: When the tasks of these tests were accepted, in microseconds.
CREATED = 1_800_000_000_000_000
LEASE = timedelta(seconds=30)
NO_TIME = timedelta(0)
RETENTION = timedelta(days=30)


def new(
    task_id: str = "task-1",
    sequence: int = 3,
    *,
    url: str = URL,
    line: str = LINE,
    must_arrive: bool = True,
    created: int = CREATED,
) -> NewDelivery:
    return NewDelivery(
        task_id=task_id,
        task_create_time=created,
        project="default",
        sequence=sequence,
        url=url,
        line=line,
        event="completed" if must_arrive else "started",
        must_arrive=must_arrive,
    )


def progress(sequence: int, time: int) -> NewDelivery:
    signal = SignalRecord(version=1, sequence=sequence, time=time)
    return replace(new(sequence=sequence, must_arrive=False), signal=signal, event="progress")


async def step(cell: WebhookCell, before: str, after: str, *, holder: str = "tailer-1") -> LogStep:
    """Take the role and return a step through the log."""
    registry = cell.plane.registry
    await registry.hold("sidecar-tailer", holder, duration=timedelta(minutes=1))
    epoch = await cell.plane.log.epoch()
    return LogStep("sidecar-tailer", holder, "sidecar", epoch, before, after)


async def recorded(cell: WebhookCell, *deliveries: NewDelivery, at: str = "1-0") -> int | None:
    before = (await cell.plane.log.cursors()).get("sidecar", "0-0")
    return await cell.deliveries.record(deliveries, await step(cell, before, at))


async def claimed(
    cell: WebhookCell, line: str = LINE, *, count: int = 10, lease: timedelta = LEASE
) -> tuple[ClaimedDelivery, ...]:
    return (await cell.deliveries.claim({line: count}, lease=lease)).deliveries


async def due(cell: WebhookCell) -> tuple[str, ...]:
    return (await cell.deliveries.claim({}, lease=LEASE, look={"default": 99})).lines


async def settled(
    cell: WebhookCell, head: ClaimedDelivery, *, retry_delay: timedelta | None
) -> bool:
    state = DeliveryState.DELIVERED if retry_delay is None else DeliveryState.WAITING
    record = replace(head.record, tries=head.record.tries + 1, state=state)
    written = await cell.deliveries.settle(
        head, record, retry_delay=retry_delay, retention=RETENTION
    )
    return written.stands


async def sequences(cell: WebhookCell, task_id: str = "task-1") -> list[int]:
    return [record.sequence for record in await cell.of_task(task_id)]


async def test_what_is_recorded_waits_and_is_due_at_once(webhooks: WebhookCell) -> None:
    assert await recorded(webhooks, new()) == 1
    [record] = await webhooks.of_task("task-1")
    assert record == DeliveryRecord(
        task_id="task-1",
        sequence=3,
        epoch=await webhooks.plane.log.epoch(),
        url="https://a.example/hook",
        create_time=record.create_time,
        next_try_time=record.create_time,
        project="default",
        event="completed",
        line=LINE,
        task_create_time=CREATED,
    )
    assert record.id == f"{record.epoch}_task-1_3"
    assert await due(webhooks) == (LINE,)


async def test_a_step_that_is_repeated_after_a_lost_answer_changes_nothing(
    webhooks: WebhookCell,
) -> None:
    first = await step(webhooks, "0-0", "1-0")
    assert await webhooks.deliveries.record([new()], first) == 1
    assert await webhooks.deliveries.record([new()], first) == 0
    assert await sequences(webhooks) == [3]


async def test_a_fact_that_is_read_again_is_recorded_once(webhooks: WebhookCell) -> None:
    await recorded(webhooks, new(), at="1-0")
    [head] = await claimed(webhooks)
    await settled(webhooks, head, retry_delay=None)
    assert await recorded(webhooks, new(), at="2-0") == 0
    assert await claimed(webhooks) == ()


async def test_a_tailer_whose_role_was_taken_records_nothing(webhooks: WebhookCell) -> None:
    # Given a tailer that was taken for dead
    stale = await step(webhooks, "0-0", "1-0", holder="slow")
    await webhooks.plane.registry.release("sidecar-tailer", "slow")
    await webhooks.deliveries.record([], await step(webhooks, "0-0", "5-0", holder="quick"))
    # When it comes back, then neither deliveries nor the cursor move
    assert await webhooks.deliveries.record([new()], stale) is None
    assert await sequences(webhooks) == []
    assert (await webhooks.plane.log.cursors())["sidecar"] == "5-0"


async def test_a_role_that_was_taken_counts_before_its_taker_moves_the_cursor(
    webhooks: WebhookCell,
) -> None:
    stale = await step(webhooks, "0-0", "1-0", holder="slow")
    await webhooks.plane.registry.release("sidecar-tailer", "slow")
    quick = await step(webhooks, "0-0", "1-0", holder="quick")
    assert await webhooks.deliveries.record([new()], stale) is None
    assert await sequences(webhooks) == []
    assert await webhooks.deliveries.record([new()], quick) == 1


async def test_a_cursor_is_never_moved_back(webhooks: WebhookCell) -> None:
    await webhooks.deliveries.record([], await step(webhooks, "0-0", "5-0"))
    assert await webhooks.deliveries.record([new()], await step(webhooks, "0-0", "1-0")) is None
    assert (await webhooks.plane.log.cursors())["sidecar"] == "5-0"


async def test_a_step_of_another_epoch_is_refused(webhooks: WebhookCell) -> None:
    old = await step(webhooks, "0-0", "1-0")
    await webhooks.plane.log.change_epoch("restored")
    assert await webhooks.deliveries.record([new()], old) is None


async def test_a_head_is_claimed_by_one(webhooks: WebhookCell) -> None:
    await recorded(webhooks, *(new(f"task-{number}") for number in range(10)))
    first, second = await claimed(webhooks, count=6), await claimed(webhooks, count=6)
    assert len(first) == 6
    assert len(second) == 4
    assert len({head.record.id for head in (*first, *second)}) == 10
    assert await due(webhooks) == ()


async def test_a_lease_that_ran_out_is_claimed_again_and_the_first_holder_is_refused(
    webhooks: WebhookCell,
) -> None:
    await recorded(webhooks, new())
    [lost] = await claimed(webhooks, lease=NO_TIME)
    [held] = await claimed(webhooks)
    assert lost.record.id == held.record.id
    assert not await settled(webhooks, lost, retry_delay=None)
    assert await settled(webhooks, held, retry_delay=None)
    assert [r.state for r in await webhooks.of_task("task-1")] == [DeliveryState.DELIVERED]


async def test_an_outcome_is_still_written_after_the_lease_when_nobody_took_it(
    webhooks: WebhookCell,
) -> None:
    await recorded(webhooks, new())
    [late] = await claimed(webhooks, lease=NO_TIME)
    assert await settled(webhooks, late, retry_delay=None)
    assert await claimed(webhooks) == ()


async def test_a_failed_try_is_due_again_after_its_wait(webhooks: WebhookCell) -> None:
    await recorded(webhooks, new())
    [head] = await claimed(webhooks)
    await settled(webhooks, head, retry_delay=timedelta(hours=2))
    assert await claimed(webhooks) == ()
    [record] = await webhooks.of_task("task-1")
    assert (record.state, record.tries, record.end_time) == (DeliveryState.WAITING, 1, None)
    look = await webhooks.deliveries.claim({}, lease=LEASE, look={"default": 99})
    assert look.lines == ()
    assert look.next_due is not None
    assert timedelta(minutes=119) < look.next_due <= timedelta(hours=2)
    assert record.next_try_time is not None
    assert record.next_try_time > record.create_time + timedelta(hours=1)


async def test_the_facts_of_a_task_are_delivered_in_order(webhooks: WebhookCell) -> None:
    await recorded(webhooks, new(sequence=3), at="1-0")
    await recorded(webhooks, new(sequence=4), at="2-0")
    for sequence in (3, 4):
        [head] = await claimed(webhooks)
        assert head.record.sequence == sequence
        assert await claimed(webhooks) == ()
        await settled(webhooks, head, retry_delay=None)
    assert await claimed(webhooks) == ()


async def test_a_newer_fact_replaces_one_that_need_not_arrive(webhooks: WebhookCell) -> None:
    await recorded(webhooks, new(sequence=2, must_arrive=False), at="1-0")
    await recorded(webhooks, new(sequence=3, must_arrive=False), at="2-0")
    assert await sequences(webhooks) == [3]
    [head] = await claimed(webhooks)
    assert head.record.sequence == 3


async def test_a_fact_replaced_in_flight_makes_room_for_the_newer_one_at_once(
    webhooks: WebhookCell,
) -> None:
    await recorded(webhooks, new(sequence=2, must_arrive=False), at="1-0")
    [flying] = await claimed(webhooks)
    await recorded(webhooks, new(sequence=3), at="2-0")
    assert await claimed(webhooks) == ()
    await settled(webhooks, flying, retry_delay=timedelta(hours=10))
    [head] = await claimed(webhooks)
    assert (head.record.sequence, await sequences(webhooks)) == (3, [3])


async def test_a_fact_replaced_in_flight_that_arrives_is_kept(webhooks: WebhookCell) -> None:
    await recorded(webhooks, new(sequence=2, must_arrive=False), at="1-0")
    [flying] = await claimed(webhooks)
    await recorded(webhooks, new(sequence=3), at="2-0")
    await settled(webhooks, flying, retry_delay=None)
    assert [r.state for r in await webhooks.of_task("task-1")] == [
        DeliveryState.DELIVERED,
        DeliveryState.WAITING,
    ]


async def test_the_newest_progress_replaces_what_waits_and_an_older_one_is_passed_over(
    webhooks: WebhookCell,
) -> None:
    assert await recorded(webhooks, new(sequence=2, must_arrive=False), at="1-0") == 1
    assert await recorded(webhooks, progress(2, 700), at="2-0") == 1
    assert await recorded(webhooks, progress(2, 900), progress(2, 800), at="3-0") == 1
    [record] = await webhooks.of_task("task-1")
    assert record.signal is not None
    assert (record.signal.time, record.id) == (900, f"{record.epoch}_task-1_2-900")
    # Progress made before a fact that was recorded tells nothing new
    assert await recorded(webhooks, new(sequence=4), progress(3, 950), at="4-0") == 1
    assert await sequences(webhooks) == [4]


async def test_progress_is_forgotten_once_it_has_ended(webhooks: WebhookCell) -> None:
    await recorded(webhooks, progress(2, 700))
    [head] = await claimed(webhooks)
    await settled(webhooks, head, retry_delay=None)
    assert await webhooks.of_task("task-1") == []
    assert await recorded(webhooks, progress(2, 700), at="2-0") == 0


async def test_a_task_of_the_same_id_as_one_that_was_pruned_is_told_of_anew(
    webhooks: WebhookCell,
) -> None:
    # Given one whose webhook was delivered, and one that never was
    await recorded(webhooks, new("done"), new("never"), at="1-0")
    for head in await claimed(webhooks):
        if head.record.task_id == "done":
            await settled(webhooks, head, retry_delay=None)
    [never] = await webhooks.of_task("never")
    # When later tasks of these ids end
    later = [new(name, created=CREATED + 1) for name in ("done", "never")]
    assert await recorded(webhooks, *later, at="2-0") == 2
    # Then they have deliveries of their own, and the old ones are gone
    for name in ("done", "never"):
        [record] = await webhooks.of_task(name)
        assert (record.state, record.task_create_time) == (DeliveryState.WAITING, CREATED + 1)
    listed, _ = await webhooks.kept.page("default", None, below=None, from_=0, limit=10)
    assert sorted(each.record.task_id for each in listed) == ["done", "never"]
    # And the facts of the earlier tasks, read once more, change nothing
    assert await recorded(webhooks, new("done"), new("never", 7), at="3-0") == 0
    assert never.task_create_time == CREATED


async def test_an_outcome_of_an_earlier_task_is_none_of_the_later_one_s(
    webhooks: WebhookCell,
) -> None:
    await recorded(webhooks, new())
    [flying] = await claimed(webhooks)
    await recorded(webhooks, new(created=CREATED + 1), at="2-0")
    # The queue is given back, and what waits in it is due
    assert await settled(webhooks, flying, retry_delay=None)
    [head] = await claimed(webhooks)
    assert head.record.task_create_time == CREATED + 1


async def test_a_queue_in_which_nothing_waits_any_more_is_given_back(
    webhooks: WebhookCell,
) -> None:
    # Given an endpoint that the later task of the same id does not name
    await recorded(webhooks, new())
    later = new(created=CREATED + 1, url="https://b.example/hook", line=OTHER)
    await recorded(webhooks, later, at="2-0")
    claims = await webhooks.deliveries.claim({LINE: 10}, lease=LEASE)
    assert (claims.deliveries, claims.unreadable) == ((), 0)
    assert await due(webhooks) == (OTHER,)


async def test_a_fact_that_must_arrive_does_not_wait_for_the_backoff_of_a_lesser_one(
    webhooks: WebhookCell,
) -> None:
    await recorded(webhooks, new(sequence=2, must_arrive=False), at="1-0")
    [head] = await claimed(webhooks)
    await settled(webhooks, head, retry_delay=timedelta(hours=10))
    await recorded(webhooks, new(sequence=3), at="2-0")
    assert [head.record.sequence for head in await claimed(webhooks)] == [3]


async def test_endpoints_of_one_task_have_queues_of_their_own(webhooks: WebhookCell) -> None:
    other = new(url="https://b.example/hook", line=OTHER)
    await recorded(webhooks, new(), other)
    assert await due(webhooks) == (LINE, OTHER)
    [head] = await claimed(webhooks, OTHER)
    await settled(webhooks, head, retry_delay=None)
    states = {r.url: r.state for r in await webhooks.of_task("task-1")}
    assert states == {
        "https://a.example/hook": DeliveryState.WAITING,
        "https://b.example/hook": DeliveryState.DELIVERED,
    }


async def test_ended_deliveries_are_forgotten_after_their_time(webhooks: WebhookCell) -> None:
    await recorded(webhooks, new("task-1"), new("task-2"), new("task-3"))
    for head in await claimed(webhooks, count=2):
        record = replace(head.record, state=DeliveryState.DEAD)
        retention = NO_TIME if head.record.task_id == "task-1" else RETENTION
        await webhooks.deliveries.settle(head, record, retry_delay=None, retention=retention)
    assert await webhooks.deliveries.forget(limit=10) == 1
    assert [len(await sequences(webhooks, f"task-{n}")) for n in (1, 2, 3)] == [0, 1, 1]
    assert await webhooks.deliveries.forget(limit=10) == 0


async def test_a_task_is_kept_while_one_of_its_deliveries_waits(webhooks: WebhookCell) -> None:
    await recorded(webhooks, new(), new(url="https://b.example/hook", line=OTHER))
    [first] = await claimed(webhooks)
    await webhooks.deliveries.settle(first, first.record, retry_delay=None, retention=NO_TIME)
    assert await webhooks.deliveries.forget(limit=10) == 0
    [second] = await claimed(webhooks, OTHER)
    await webhooks.deliveries.settle(second, second.record, retry_delay=None, retention=NO_TIME)
    assert await webhooks.deliveries.forget(limit=10) == 1
    assert await sequences(webhooks) == []


async def test_nothing_is_left_behind_when_all_is_forgotten(webhooks: WebhookCell) -> None:
    await recorded(webhooks, new())
    [head] = await claimed(webhooks)
    await webhooks.deliveries.settle(head, head.record, retry_delay=None, retention=NO_TIME)
    await webhooks.deliveries.forget(limit=10)
    keys = await RedisConnection(webhooks.redis).command("KEYS", f"*{{{webhooks.name}}}*")
    left = [key.decode().rpartition(":")[2] for key in cast("list[bytes]", keys)]
    assert set(left) == {"cursors", "epoch", "sidecar-tailer"}


async def test_a_record_of_a_newer_version_is_left_to_who_knows_it(webhooks: WebhookCell) -> None:
    await recorded(webhooks, new("task-1"), new("task-2"))
    key = webhooks.plane.keys.deliveries("task-1")
    connection = RedisConnection(webhooks.redis)
    for field in cast("list[bytes]", await connection.command("HKEYS", key)):
        if b"/" in field:
            await connection.command("HSET", key, field, b"\x08\x63")
    heads = await webhooks.deliveries.claim({LINE: 10}, lease=LEASE)
    assert ([head.record.task_id for head in heads.deliveries], heads.unreadable) == (["task-2"], 1)


@pytest.mark.parametrize("count", [1, 500])
async def test_a_batch_is_recorded_as_one(webhooks: WebhookCell, count: int) -> None:
    assert await recorded(webhooks, *(new(f"task-{n}") for n in range(count))) == count
    assert len(await claimed(webhooks, count=1000)) == count
