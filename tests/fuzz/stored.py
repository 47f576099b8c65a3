"""What is read back from Redis: records, events, signals, tokens, positions, control words."""

import asyncio
import re
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Final, cast

from callsheet.control.convert import fact_to_proto, task_to_proto
from callsheet.control.hub import Hub, make_fact
from callsheet.control.pulse import Pulse
from callsheet.internal.v1.delivery_pb2 import DeliveryRecord
from callsheet.internal.v1.record_pb2 import EventRecord, SignalRecord, TaskRecord
from callsheet.internal.v1.worker_record_pb2 import WorkerRecord
from callsheet.ledger.codec import (
    decode_task,
    encode_event,
    event_of,
    parse_event,
    parse_signal,
    progress_of,
)
from callsheet.ledger.delivery_model import decode_record, encode_record
from callsheet.ledger.errors import CursorLost, LedgerError, PageTokenInvalid, UnknownVersion
from callsheet.ledger.index import Keys, lease_member, parse_lease, parse_word
from callsheet.ledger.log import Log
from callsheet.ledger.page_token import page_token, parse_page_token
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.redis_log import RedisLog
from callsheet.ledger.store import Store, Stored
from callsheet.ledger.waiting import parse_worker
from tests.fuzz.target import Check, Target, plain

_TASK: Final = "00000000-0000-4000-8000-000000000000"
#: What a list is, for the tokens in the corpus.
LIST: Final = "default//"


def _event(content: bytes) -> None:
    """A fact is read whole, told to watchers and written again as it was, or refused loudly."""
    try:
        record = parse_event(content)
        fact = event_of(record)
        fact_to_proto(record, task_id=_TASK, epoch="e")
        make_fact(record, _TASK, epoch="e")
    except UnknownVersion:
        return
    again = parse_event(encode_event(fact, operation=record.operation))
    assert event_of(again) == fact or "nan" in repr(fact)


def _task(content: bytes) -> None:
    """The bytes are, in turn, the record, the first and the last fact of a task."""
    first, last, record = _thirds(content)
    try:
        task = decode_task(Stored(_TASK, 2, record, first, last))
    except LedgerError:
        return
    task_to_proto(task, epoch="e")


def _thirds(content: bytes) -> tuple[bytes, bytes, bytes]:
    """Split at the first bytes, which tell the lengths of the first two parts."""
    one, two = (content[:2] + b"\0\0")[:2]
    rest = content[2:]
    return rest[:one], rest[one : one + two], rest[one + two :]


def _signal(content: bytes) -> None:
    with suppress(UnknownVersion):
        progress_of(parse_signal(content))


def _delivery(content: bytes) -> None:
    try:
        record = decode_record(content)
    except UnknownVersion:
        return
    assert record.id
    assert decode_record(encode_record(record)).key == record.key


def _page_token(content: bytes) -> None:
    """A token is refused, or it is one that a list gave, with the place that it was given."""
    try:
        place = parse_page_token(content.decode("utf-8", "replace"), of=LIST)
    except PageTokenInvalid:
        return
    if place is not None:
        assert place >= 0
        assert parse_page_token(page_token(place, of=LIST), of=LIST) == place


class _HeardLog:
    """A log that nobody reads: the hub is only told of signals."""

    async def signals(self) -> AsyncGenerator[bytes, None]:
        """Yield nothing."""
        return
        yield b""


@contextmanager
def _published() -> Generator[Check]:
    """A watcher's hub hears whatever somebody published."""
    with asyncio.Runner() as runner:
        hub = runner.run(_hub())

        async def hear(content: bytes) -> None:
            with hub.subscribe(_TASK) as inbox:
                await hub._signal(content)  # pyright: ignore[reportPrivateUsage]  # what its ear calls
                inbox.take_signal(up_to=2**63)

        yield lambda content: runner.run(hear(content))


async def _hub() -> Hub:
    log = cast("Log", _HeardLog())
    return Hub(log, cast("Store", None), Pulse(log))


class _EmptyLog:
    """Answers every question of a log as one that has nothing in it."""

    async def script(self, *_: object) -> list[object]:
        """Return the last position, what was trimmed, and no entries."""
        return [b"", b"", []]


def _cursor(content: bytes) -> None:
    """A position is lost, or it is one that Redis understands."""
    position = content.decode("utf-8", "replace")
    log = RedisLog(cast("RedisConnection", _EmptyLog()), Keys("fuzz"), new_epoch=str)
    try:
        asyncio.run(log.after(position, limit=1, timeout=timedelta(0)))
    except CursorLost:
        return
    assert re.fullmatch(r"0+(-0+)?", position, re.ASCII), "nothing else is in an empty log"


def _control_word(content: bytes) -> None:
    """A word names an attempt that a lease may be of, or none."""
    named = parse_word(content.decode("utf-8", "replace"))
    if named is not None:
        assert parse_lease(lease_member(*named)) == named


def _worker(content: bytes) -> None:
    try:
        parse_worker(content)
    except UnknownVersion:
        return


TARGETS: Final = (
    plain("event", _event, messages=((b"", EventRecord),), examples=100),
    plain("task", _task, messages=((b"\x10\x10" + 32 * b"\0", TaskRecord),), examples=100),
    plain("signal", _signal, messages=((b"", SignalRecord),)),
    Target("published", _published, messages=((b"", SignalRecord),)),
    plain("delivery", _delivery, messages=((b"", DeliveryRecord),)),
    plain("worker_record", _worker, messages=((b"", WorkerRecord),)),
    plain("page_token", _page_token),
    plain("cursor", _cursor),
    plain("control_word", _control_word),
)
