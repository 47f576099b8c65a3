"""What is left when all is healed: awaited until it is quiet, then read from the stores."""

import asyncio
import contextlib
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, cast

import ladybug

from callsheet.internal.v1.delivery_pb2 import DeliveryRecord
from callsheet.internal.v1.record_pb2 import EventRecord, TaskRecord
from callsheet.ledger.errors import LedgerUnavailable
from callsheet.ledger.index import Keys
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.v1 import task_pb2
from callsheet.v1.operations_service_pb2 import DeliveryState
from tests.chaos.calls import state_word
from tests.chaos.digests import digest_of
from tests.chaos.final_state import (
    BrainFact,
    FinalState,
    Receiver,
    StoredDelivery,
    StoredFact,
    StoredTask,
)
from tests.chaos.plane import CELL, PROJECTS, Plane
from tests.chaos.topology import RECEIVERS, REFUSING

_KEYS: Final = Keys(CELL)
_LOOK: Final = timedelta(milliseconds=300)
_TASK_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_GRAPH: Final = Path("brain") / "graph.ladybug"


async def quiet(plane: Plane, *, within: timedelta) -> str:
    """Wait until nothing is left to do; return what still is after that time, or nothing."""
    connection, left = RedisConnection(plane.redis), "nobody knows what"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within.total_seconds()):
            while left:
                with contextlib.suppress(LedgerUnavailable):
                    left = await _left(connection)
                if left:
                    await asyncio.sleep(_LOOK.total_seconds())
    return left


async def _left(redis: RedisConnection) -> str:
    counts: dict[str, int] = {}
    for project in PROJECTS:
        waiting = _KEYS.project_deliveries(project)[1]
        for what, key in (("live tasks", _KEYS.project_live(project)), ("deliveries", waiting)):
            counts[f"{what} of {project}"] = cast("int", await redis.command("ZCARD", key))
    newest = cast(
        "list[tuple[bytes, object]]",
        await redis.command("XREVRANGE", _KEYS.log, "+", "-", "COUNT", 1),
    )
    end = _position(newest[0][0]) if newest else (0, 0)
    for reader, position in (await _fields(redis, _KEYS.cursors)).items():
        counts[f"facts for {reader.decode()}"] = int(_position(position) < end)
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _position(text: bytes) -> tuple[int, int]:
    milliseconds, _, number = text.decode().partition("-")
    return int(milliseconds), int(number)


async def read_left(plane: Plane, shown: Iterable[task_pb2.Task]) -> FinalState:
    """Return all but what the brain has, which is read when its process has ended.

    *shown* is what the public API lists.
    """
    redis, by_id = RedisConnection(plane.redis), {task.id: task for task in shown}
    tasks: list[StoredTask] = []
    deliveries: list[StoredDelivery] = []
    ready: list[str] = []
    for name in await _names(redis):
        kind, _, rest = name.removeprefix(_KEYS.prefix).partition(":")
        if kind == "task":
            tasks.append(_task(rest, await _fields(redis, name), by_id.get(rest)))
        elif kind == "deliveries" and _TASK_ID.fullmatch(rest):
            deliveries += _deliveries(await _fields(redis, name))
        elif kind == "ready":
            ready += await _members(redis, name)
    return FinalState(
        epoch=cast("bytes", await redis.command("GET", _KEYS.epoch)).decode(),
        tasks=tasks,
        ready=ready,
        leases=await _members(redis, _KEYS.leases),
        delayed=await _members(redis, _KEYS.delayed),
        deliveries=deliveries,
        brain_dead=[name.decode() for name in await _fields(redis, _KEYS.graph_dead)],
        receivers=[
            Receiver(name=name, url=plane.hook(name), honest=name != REFUSING) for name in RECEIVERS
        ],
    )


async def _names(redis: RedisConnection) -> list[str]:
    found: set[bytes] = set()
    cursor: bytes | int = 0
    while True:
        reply = await redis.command("SCAN", cursor, "MATCH", f"{_KEYS.prefix}*", "COUNT", 1000)
        cursor, names = cast("tuple[bytes | int, list[bytes]]", reply)
        found |= set(names)
        if int(cursor) == 0:
            return [name.decode() for name in found]


async def _fields(redis: RedisConnection, key: str) -> Mapping[bytes, bytes]:
    return cast("Mapping[bytes, bytes]", await redis.command("HGETALL", key))


async def _members(redis: RedisConnection, key: str) -> list[str]:
    members = cast("list[bytes]", await redis.command("ZRANGE", key, 0, -1))
    return [member.decode() for member in members]


def _task(task_id: str, fields: Mapping[bytes, bytes], shown: task_pb2.Task | None) -> StoredTask:
    record = TaskRecord.FromString(fields.get(b"r", b""))
    numbers = sorted(int(field) for field in fields if field.isdigit())
    facts = [EventRecord.FromString(fields[b"%d" % number]) for number in numbers]
    submitted = facts[0].task_submitted
    return StoredTask(
        task_id=task_id,
        project=submitted.project,
        sequence=int(fields.get(b"q", b"0")),
        attempt=int(fields.get(b"n", b"0")),
        facts=[_fact(fact) for fact in facts],
        record_sequence=record.sequence,
        record_state=state_word(record.state) if record.sequence else "",
        record_attempt=record.attempt,
        record_failures=record.failures,
        record_cancel_requested=record.cancel_requested,
        shown_state=state_word(shown.state) if shown is not None else "",
        shown_sequence=shown.sequence if shown is not None else 0,
        shown_attempt=shown.attempt if shown is not None else 0,
        max_attempts=submitted.max_attempts,
        callback_url=submitted.callback.url,
        callback_events=[
            task_pb2.CallbackEvent.Name(event).removeprefix("CALLBACK_EVENT_")
            for event in submitted.callback.events
        ],
        time_limit=submitted.time_limit.ToTimedelta().total_seconds(),
        retry_of=submitted.retry_of,
        request_id=submitted.metadata.get("request_id", ""),
        spec_digest=submitted.metadata.get("spec_digest", ""),
    )


def _fact(record: EventRecord) -> StoredFact:
    arm = record.WhichOneof("fact") or ""
    told = getattr(record, arm) if arm else None
    failure = getattr(told, "failure", None)
    reason = task_pb2.FailureReason.Name(failure.reason) if failure is not None else ""
    return StoredFact(
        sequence=record.sequence,
        fact=arm,
        digest=digest_of(record) if arm else "",
        time=record.time,
        attempt=getattr(told, "attempt", 0),
        worker=getattr(told, "worker", ""),
        reason=reason.removeprefix("FAILURE_REASON_"),
        operation=record.operation,
        reused_from=getattr(told, "reused_from", ""),
    )


def _deliveries(fields: Mapping[bytes, bytes]) -> list[StoredDelivery]:
    records = [DeliveryRecord.FromString(v) for field, v in fields.items() if b"/" in field]
    return [
        StoredDelivery(
            task_id=record.task_id,
            sequence=record.sequence,
            webhook_id=f"{record.epoch}_{record.task_id}_{record.sequence}",
            state=DeliveryState.Name(record.state).removeprefix("DELIVERY_STATE_"),
            url=record.url,
        )
        for record in records
    ]


def read_brain(state_folder: Path) -> list[BrainFact]:
    """Return what an ended brain has, straight from its graph."""
    database = ladybug.Database(str(state_folder / _GRAPH), read_only=True)
    connection = ladybug.Connection(database)
    query = "MATCH (e:Event) RETURN e.key, e.event, min(e.time), count(*)"
    result = cast("ladybug.QueryResult", connection.execute(query))
    rows = cast("list[list[Any]]", result.get_all())
    result.close()
    connection.close()
    database.close()
    return [_brain_fact(*row) for row in rows]


def _brain_fact(key: str, event: str, time: int, count: int) -> BrainFact:
    project, task_id, epoch, sequence = key.split("/")
    return BrainFact(
        project=project,
        epoch=epoch,
        task_id=task_id,
        sequence=int(sequence),
        event=event,
        count=count,
        time=time,
    )
