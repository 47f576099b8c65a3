"""What must hold once both tasks of the script have ended, and once they are forgotten."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from callsheet.client.webhooks import verify
from callsheet.internal.v1.record_pb2 import EventRecord
from callsheet.ledger.codec import parse_event
from callsheet.ledger.ids import requested_task_id
from callsheet.ledger.log import LOG_START
from callsheet.ledger.model import NO_TIME, Task, TaskState
from callsheet.sidecar.wishes import FINAL_EVENTS
from tests.chaos.sweep.ledger_roles import RETRIED, STOPPED
from tests.chaos.sweep.world import World
from tests.support.receiver import Received
from tests.support.sidecars import SECRET
from tests.support.twins import places

#: What a cell keeps when no task is left, beside who held which role last.
KEPT: Final = frozenset({"log", "log:trimmed", "cursors", "epoch", "graph", "graph:told"})
#: Failures that the script asks for.
FAILURES: Final = {RETRIED: 1, STOPPED: 0}


async def check(world: World) -> None:
    """Check the tasks, their facts, the log, the indexes and the deliveries."""
    tasks = [await _task(world, request) for request in (RETRIED, STOPPED)]
    retried, stopped = tasks
    # What was acknowledged stands, and nothing else does.
    assert set(world.story.submitted.values()) <= {retried.id, stopped.id}
    assert (retried.state, stopped.state) == (TaskState.SUCCEEDED, TaskState.CANCELLED)
    assert [media.payload_media_id for media in retried.media] == ["7"]
    records = {task.id: await _facts(world, task) for task in tasks}
    for task in tasks:
        assert await world.plane.folded(task.id) == task
        _check_order(task, records[task.id])
    await _check_log(world, tasks)
    await _check_indexes(world, tasks)
    _check_attempts(world, tasks, records)
    await _check_deliveries(world, tasks)
    world.story.epoch = await world.plane.log.epoch()
    for task in tasks:
        world.story.facts |= {(task.id, sequence) for sequence in range(1, task.sequence + 1)}
        (end,) = [each for each in records[task.id] if each.WhichOneof("fact") in FINAL_EVENTS]
        world.story.ends[task.id] = end.sequence


async def check_forgotten(world: World) -> None:
    """Check that nothing is left of the tasks."""
    assert await left_over(world) == set()
    keys = world.keys
    assert await world.plane.store.count(keys.project("default")) == 0


async def left_over(world: World) -> set[str]:
    """Return the keys that stand for what is no more, and would for ever."""
    prefix = world.keys.prefix
    found = {key.removeprefix(prefix) for key in await world.every_key()} - KEPT
    lasting = {key for key in found if await world.command("TTL", f"{prefix}{key}") == -1}
    return {key for key in lasting if not key.startswith("hold:")}


async def _task(world: World, request: str) -> Task:
    return await world.plane.writer.read(requested_task_id("default", request))


async def _facts(world: World, task: Task) -> list[EventRecord]:
    facts = await world.plane.store.facts(task.id, after=0, limit=1000)
    return [parse_event(fact) for fact in facts]


def _check_order(task: Task, records: list[EventRecord]) -> None:
    """Facts without gaps, one final one, and only notes after it."""
    assert [record.sequence for record in records] == list(range(1, task.sequence + 1))
    names = [record.WhichOneof("fact") or "" for record in records]
    assert names[0] == "task_submitted"
    ends = [place for place, name in enumerate(names) if name in FINAL_EVENTS]
    assert len(ends) == 1
    assert set(names[ends[0] + 1 :]) <= {"media_registered"}
    operations = [each.operation for each in records if not each.HasField("attempt_started")]
    assert len(set(operations)) == len(operations)


async def _check_log(world: World, tasks: list[Task]) -> None:
    """The log tells every fact once and in order, but for what all readers have read."""
    log = world.plane.log
    entries = await log.after(await log.start(), limit=1000, timeout=NO_TIME)
    told: defaultdict[str, list[int]] = defaultdict(list)
    for entry in entries:
        told[entry.task_id].append(parse_event(entry.event).sequence)
    is_whole = await log.start() == LOG_START
    for task in tasks:
        first = 1 if is_whole else told[task.id][0]
        assert told[task.id] == list(range(first, task.sequence + 1))
    assert set(told) == {task.id for task in tasks}


async def _check_indexes(world: World, tasks: list[Task]) -> None:
    for key, members in places(world.keys, tasks, frozenset()).items():
        found = await world.plane.store.members(key, limit=100)
        assert {member for member, _ in found} == members, key


def _check_attempts(world: World, tasks: list[Task], records: dict[str, list[EventRecord]]) -> None:
    """No attempt ran twice; each that ran was started; the one that ended the task was the last."""
    assert all(count == 1 for count in Counter(world.story.executed).values())
    # The script takes no lease away from a worker that lives.
    assert world.story.lost == []
    for request, task in zip((RETRIED, STOPPED), tasks, strict=True):
        started = [each.attempt_started.attempt for each in records[task.id] if _is_start(each)]
        assert started == list(range(1, task.attempt + 1))
        ran = {attempt for task_id, attempt in world.story.executed if task_id == task.id}
        assert ran <= set(started)
        asked = FAILURES[request]
        if world.may_lose_an_attempt:
            assert task.failures <= asked + 1
        else:
            assert task.failures == asked
        end = next(each for each in records[task.id] if each.WhichOneof("fact") in FINAL_EVENTS)
        if end.HasField("task_succeeded"):
            assert end.task_succeeded.attempt == task.attempt
            assert task.usage.tokens == task.attempt


def _is_start(record: EventRecord) -> bool:
    return record.HasField("attempt_started")


async def _check_deliveries(world: World, tasks: list[Task]) -> None:
    """Every delivery has ended, and what is kept of them belongs to these tasks."""
    keys = world.keys
    found = await world.every_key()
    wanted = {keys.deliveries(task.id) for task in tasks}
    assert wanted <= set(found)
    due = keys.deliveries_due("")
    lines = keys.delivery_lines("")
    assert [key for key in found if key.startswith((due, lines))] == []
    for key in (keys.delivery_leases, keys.delivery_circuits, keys.delivery_disabled):
        assert key not in found
    for key in (keys.media_records, keys.media_dead, keys.media_due, keys.media_holds):
        assert key not in found


def check_received(world: World, received: Sequence[Received], *, once: bool) -> None:
    """Every end came as a webhook, under one id and with one body; *once*: no more than once."""
    bodies: defaultdict[str, list[bytes]] = defaultdict(list)
    for each in received:
        if world.endpoint.endswith(each.path):
            verify(each.body, each.headers, SECRET)
            bodies[each.id].append(each.body)
    epoch, ends = world.story.epoch, world.story.ends
    assert set(bodies) == {f"{epoch}_{task_id}_{end}" for task_id, end in ends.items()}
    for arrived in bodies.values():
        assert len(set(arrived)) == 1
        assert len(arrived) == 1 or not once


def check_told(world: World, facts: Sequence[Mapping[str, Any]]) -> None:
    """The brain has every fact, each of them once."""
    keys = Counter(
        (str(each["task_id"]), int(each["sequence"]))
        for each in facts
        if each["epoch"] == world.story.epoch
    )
    assert keys == Counter(world.story.facts)
