"""The gate between the tailer and the delivery queues: webhooks wait there for media.

A task that succeeded with artifacts is put to media work. Its final webhook waits here until the
log tells that its media are registered, or its time has come; only then is it recorded, with what
it will say for ever. Waiting is durable before the tailer's cursor moves on.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from typing import Final, cast

import structlog
from google.protobuf import descriptor_pool
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from callsheet.artifacts.references import media_in, unpacked
from callsheet.internal.v1.record_pb2 import EventRecord
from callsheet.ledger.codec import parse_event
from callsheet.ledger.deliveries import NewDelivery
from callsheet.ledger.instants import span
from callsheet.ledger.media_work import MediaWork
from callsheet.ledger.store import Store
from callsheet.sidecar.wishes import FINAL_EVENTS, Wishes
from callsheet.tasks.v1.artifact_pb2 import Artifact

#: Facts in the log, each with its task.
Facts = Sequence[tuple[str, EventRecord]]

#: How often it is looked whether a webhook may wait no longer, while any waits.
_LOOK_EVERY: Final = timedelta(seconds=1)
_RELEASED_TOGETHER: Final = 256
#: Facts at a task's end among which its final one is: each that follows notes some of its media.
_LAST_FACTS: Final = 64

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class MediaGate:
    """Holds webhooks back for *wait* at most; None: nobody registers media, and nothing waits.

    *added* is called when there is media work.
    """

    def __init__(
        self,
        work: MediaWork,
        store: Store,
        *,
        wait: timedelta | None,
        added: Callable[[], None] = lambda: None,
    ) -> None:
        self._work = work
        self._store = store
        self._wait = wait
        self._added = added
        self._clock = asyncio.get_running_loop().time
        #: When to look whether a webhook may go; None: none waits.
        self._look_at: float | None = None

    @property
    def rest(self) -> timedelta | None:
        """How long until the next look; None: no webhook waits."""
        if self._look_at is None:
            return None
        return timedelta(seconds=max(0.0, self._look_at - self._clock()))

    def begin(self) -> None:
        """Look soon: a tailer before this one may have left webhooks that wait."""
        self._look_at = self._clock()

    async def sift(
        self, facts: Facts, found: Sequence[NewDelivery], wishes: Wishes
    ) -> list[NewDelivery]:
        """Return the deliveries that may be recorded now: those of *found* that need not wait.

        And those whose media the facts tell of.
        """
        ended = {task_id: event for task_id, event in facts if self._may_have_media(event)}
        noted = {task_id: event for task_id, event in facts if event.HasField("media_registered")}
        passed: list[NewDelivery] = []
        held: dict[str, int | None] = {task_id: None for task_id in ended if task_id not in noted}
        for new in found:
            end = ended.get(new.task_id)
            if end is None or new.signal is not None or new.sequence != end.sequence:
                passed.append(new)
            elif new.task_id in noted:
                passed.append(replace(new, as_of=noted[new.task_id].sequence))
            elif self._wait:
                held[new.task_id] = end.time + span(self._wait)
            else:
                passed.append(new)
        await self._hold(held)
        awaited = await self._work.held([each for each in noted if each not in ended])
        return passed + await self._deliveries(
            {task_id: noted[task_id].sequence for task_id in awaited}, wishes
        )

    async def released(self, wishes: Wishes) -> list[NewDelivery]:
        """Return the deliveries that wait no longer, if it is time to look; without media."""
        if self._look_at is None or self._clock() < self._look_at:
            return []
        holds = await self._work.released(limit=_RELEASED_TOGETHER)
        self._look_at = None
        if holds.task_ids or holds.next_due is not None:
            wait = _LOOK_EVERY if holds.next_due is None else min(holds.next_due, _LOOK_EVERY)
            there_may_be_more = len(holds.task_ids) == _RELEASED_TOGETHER
            self._look_at = self._clock() + (0 if there_may_be_more else wait.total_seconds())
        found = await self._deliveries(dict.fromkeys(holds.task_ids, 0), wishes)
        for new in found:
            _log.info("webhook_without_media", task_id=new.task_id, sequence=new.sequence)
        lost = set(holds.task_ids) - {new.task_id for new in found}
        await self._work.drop_holds(list(lost))  # pruned, or without a callback by now
        return found

    async def recorded(self, deliveries: Iterable[NewDelivery]) -> None:
        """Forget that these waited; what cannot be forgotten now is passed over when it is due."""
        if self._look_at is not None:
            final = [new for new in deliveries if new.event in FINAL_EVENTS.values()]
            await self._work.drop_holds([new.task_id for new in final])

    async def _hold(self, held: Mapping[str, int | None]) -> None:
        if not held:
            return
        if self._wait and any(until is not None for until in held.values()):
            look_at = self._clock() + min(self._wait, _LOOK_EVERY).total_seconds()
            self._look_at = look_at if self._look_at is None else min(self._look_at, look_at)
        if await self._work.add(held):
            self._added()

    async def _deliveries(self, as_of: Mapping[str, int], wishes: Wishes) -> list[NewDelivery]:
        """Return the final deliveries of tasks, which tell of facts up to a sequence."""
        await wishes.learn(as_of)
        found: list[NewDelivery] = []
        for task_id, sequence in as_of.items():
            wish = wishes.of(task_id)
            end = None if wish is None else await self._end_of(task_id)
            new = None if wish is None or end is None else wish.delivery(task_id, end)
            if new is not None:
                found.append(replace(new, as_of=sequence))
        return found

    async def _end_of(self, task_id: str) -> EventRecord | None:
        (stored,) = await self._store.read([task_id])
        if stored is None:
            return None
        after = max(0, stored.sequence - _LAST_FACTS)
        facts = await self._store.facts(task_id, after=after, limit=_LAST_FACTS)
        events = map(parse_event, reversed(facts))
        return next((each for each in events if each.WhichOneof("fact") in FINAL_EVENTS), None)

    def _may_have_media(self, event: EventRecord) -> bool:
        """Whether it is the end of a task with artifacts, and somebody registers them."""
        if self._wait is None or not event.HasField("task_succeeded"):
            return False
        output = event.task_succeeded.output
        return _may_hold_artifacts(output.TypeName()) and _holds_artifacts(output)


def _holds_artifacts(output: AnyMessage) -> bool:
    try:
        message = unpacked(output.SerializeToString())
        return next(media_in(message), None) is not None
    except ValueError:
        return False


@lru_cache(maxsize=256)
def _may_hold_artifacts(type_name: str) -> bool:
    """Whether messages of the type have room for artifacts; of an unknown one nothing is known."""
    try:
        kind = descriptor_pool.Default().FindMessageTypeByName(type_name)
    except KeyError:
        return False
    return _leads_to_artifacts(kind, seen=set())


def _leads_to_artifacts(kind: Descriptor, *, seen: set[str]) -> bool:
    if kind.full_name in (Artifact.DESCRIPTOR.full_name, AnyMessage.DESCRIPTOR.full_name):
        return True
    if kind.full_name in seen:
        return False
    seen.add(kind.full_name)
    return any(
        _leads_to_artifacts(cast("Descriptor", field.message_type), seen=seen)
        for field in kind.fields
        if field.type == FieldDescriptor.TYPE_MESSAGE
    )
