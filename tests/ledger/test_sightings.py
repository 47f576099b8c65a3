"""What is known of tasks from the log alone is what their facts fold to."""

from datetime import timedelta

import pytest

from callsheet.internal.v1.record_pb2 import EventRecord
from callsheet.ledger import machine
from callsheet.ledger.codec import parse_event
from callsheet.ledger.instants import microseconds
from callsheet.ledger.log import LOG_START, LogEntry
from callsheet.ledger.model import NO_TIME, Failure, FailureReason, Task, TaskState
from callsheet.ledger.sightings import STATE_AFTER, Seen, Sighting, Sightings, Unreadable
from tests.support.ledgers import OWNER, STRANGER, Cell, ping
from tests.support.work import started, succeeded, tossed

_S = TaskState


async def _lived(plane: Cell) -> list[Task]:
    """Have tasks that live through everything the machine knows; return them as they are."""
    names = ["returned", "failed", "cancelled early", "cancelled late", "waits"]
    tasks = {name: await plane.ledger.submit(OWNER, ping(name)) for name in names}
    await tossed(plane, tasks["returned"].id, times=2)
    await succeeded(plane, tasks["returned"].id)
    attempts, task = await started(plane, tasks["failed"].id)
    bug = Failure(FailureReason.INVALID_INPUT, "no")
    await attempts.fail(task, attempt=task.attempt, failure=bug)
    await plane.ledger.cancel(OWNER, tasks["cancelled early"].id, reason="")
    attempts, task = await started(plane, tasks["cancelled late"].id)
    asked = await plane.ledger.cancel(OWNER, task.id, reason="")
    await attempts.confirm_cancel(asked, attempt=1)
    return [await plane.writer.read(task.id) for task in tasks.values()]


async def _entries(plane: Cell) -> list[LogEntry]:
    return await plane.log.after(LOG_START, limit=1000, timeout=NO_TIME)


def _seen(found: list[Seen | Unreadable]) -> list[Seen]:
    seen = [each for each in found if isinstance(each, Seen)]
    assert len(seen) == len(found)
    return seen


async def test_a_task_is_as_its_facts_fold_to(plane: Cell) -> None:
    tasks = await _lived(plane)
    sightings = Sightings(plane.store)
    await sightings.look(await _entries(plane))
    for task in tasks:
        assert await sightings.find(task.id) == Sighting(
            project="default",
            task_type="ping",
            queue="system",
            state=task.state,
            sequence=task.sequence,
            attempt=task.attempt,
            ready_time=microseconds(task.create_time),
            start_time=microseconds(task.start_time) if task.start_time else 0,
        )


@pytest.mark.parametrize("known", ["all", "nothing"])
async def test_every_fact_finds_its_task_in_the_state_the_one_before_left_it_in(
    plane: Cell, known: str
) -> None:
    """Also where the log is read from its middle, with tasks that have gone on since."""
    await _lived(plane)
    entries = await _entries(plane)
    whole = _seen(await Sightings(plane.store).look(entries))
    states: dict[str, TaskState | None] = {}
    for seen in whole:
        assert seen.before == states.get(seen.entry.task_id)
        states[seen.entry.task_id] = seen.task.state
    if known == "nothing":
        for place, seen in enumerate(whole):
            alone = _seen(await Sightings(plane.store).look(entries[place : place + 1]))
            assert (alone[0].before, alone[0].task.state) == (seen.before, seen.task.state)


async def test_a_delayed_task_is_ready_after_its_delay(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping(delay=timedelta(minutes=1)))
    sightings = Sightings(plane.store)
    told = _seen(await sightings.look(await _entries(plane)))[0].task
    assert told.ready_time == microseconds(task.create_time + timedelta(minutes=1))
    assert await Sightings(plane.store).find(task.id) == told


async def test_older_entries_leave_what_is_newest(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    await succeeded(plane, task.id)
    sightings, entries = Sightings(plane.store), await _entries(plane)
    await sightings.look(entries)
    newest = await sightings.find(task.id)
    again = _seen(await sightings.look(entries))
    assert [seen.task.state for seen in again] == [_S.PENDING, _S.RUNNING, _S.SUCCEEDED]
    assert await sightings.find(task.id) == newest


async def test_only_strangers_are_read(plane: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    own, foreign = [await plane.ledger.submit(each, ping()) for each in (OWNER, STRANGER)]
    read: list[str] = []
    whole = plane.store.read

    async def noted(task_ids: list[str]) -> object:
        read.extend(task_ids)
        return await whole(task_ids)

    monkeypatch.setattr(plane.store, "read", noted)
    sightings, entries = Sightings(plane.store), await _entries(plane)
    await sightings.look(entries[:1])
    assert read == []
    await started(plane, foreign.id)
    read.clear()
    later = await plane.log.after(entries[-1].position, limit=10, timeout=NO_TIME)
    await sightings.look(later)
    assert read == [foreign.id]
    assert (await sightings.find(own.id)) is not None
    assert read == [foreign.id]


async def test_what_was_not_heard_of_for_longest_is_forgotten_first(plane: Cell) -> None:
    tasks = [await plane.ledger.submit(OWNER, ping()) for _ in range(4)]
    sightings = Sightings(plane.store, limit=2)
    entries = await _entries(plane)
    for entry in entries:
        await sightings.look([entry])
    # What is forgotten is read again
    assert all([await sightings.find(task.id) for task in tasks])


async def test_facts_of_tasks_that_are_gone_are_left_out(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    await succeeded(plane, task.id)
    entries = await _entries(plane)
    stranger = LogEntry(entries[-1].position, "gone", entries[-1].event)
    assert await Sightings(plane.store).look([stranger]) == []


async def test_a_fact_of_another_version_is_told_with_its_project(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    broken = LogEntry("9-0", task.id, b"\x08\x07")
    found = await Sightings(plane.store).look([broken])
    assert [each.project for each in found if isinstance(each, Unreadable)] == ["default"]


def test_every_fact_of_the_contract_leaves_a_state() -> None:
    arms = [field.name for field in EventRecord.DESCRIPTOR.oneofs_by_name["fact"].fields]
    assert set(arms) == set(STATE_AFTER)


async def test_an_expired_task_waited_until_it_failed(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping(expire_after=timedelta(seconds=1)))
    await plane.writer.change(task, machine.expire)
    *_, seen = _seen(await Sightings(plane.store).look(await _entries(plane)))
    assert parse_event(seen.entry.event).HasField("task_failed")
    assert (seen.before, seen.task.state) == (_S.PENDING, _S.FAILED)


async def test_a_cancelled_task_whose_facts_nobody_can_read_counts_as_having_run(
    plane: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    await plane.ledger.cancel(OWNER, task.id, reason="")

    async def unreadable(*_: object, **__: object) -> list[bytes]:
        return [b"\x08\x07"]

    monkeypatch.setattr(plane.store, "facts", unreadable)
    last = (await _entries(plane))[-1:]
    (seen,) = _seen(await Sightings(plane.store).look(last))
    assert seen.before is _S.RUNNING
