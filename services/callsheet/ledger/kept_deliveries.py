"""Deliveries as they are kept: of a task, page by page of a project, and made again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple, cast

from callsheet.ledger.deliveries import CIRCUIT, CircuitTerms
from callsheet.ledger.delivery_model import (
    DeliveryRecord,
    DeliveryState,
    decode_record,
    disabled_field,
    encode_record,
    endpoint_of,
)
from callsheet.ledger.index import Keys
from callsheet.ledger.instants import span
from callsheet.ledger.kept_delivery_scripts import RECORDS, REPLAY, WAITING
from callsheet.ledger.redis_connection import RedisConnection, Word
from callsheet.ledger.script_names import Names

#: Records read in one script call.
_READ_TOGETHER: Final = 256


class KeptDelivery(NamedTuple):
    """A delivery, the bytes it was read as, and its place in its project's list."""

    record: DeliveryRecord
    content: bytes
    place: int = 0


class KeptDeliveries:
    """Reads and replays the deliveries of a cell. Every method may raise LedgerUnavailable."""

    def __init__(
        self, connection: RedisConnection, keys: Keys, *, circuit: CircuitTerms = CIRCUIT
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._circuit = circuit

    async def of_task(self, task_id: str) -> list[KeptDelivery]:
        """Return the task's deliveries, oldest fact first; none for an unknown task."""
        reply = await self._connection.command("HGETALL", self._keys.deliveries(task_id))
        fields = cast("dict[bytes, bytes]", reply)
        contents = [content for field, content in fields.items() if b"/" in field]
        found = [KeptDelivery(decode_record(content), content) for content in contents]
        return sorted(found, key=_in_order)

    async def page(
        self,
        project: str,
        state: DeliveryState | None,
        *,
        below: int | None,
        from_: int,
        limit: int,
    ) -> tuple[list[KeptDelivery], int | None]:
        """Return deliveries of a project recorded before *below* and from *from_* on, newest first.

        Both are in microseconds. *state* chooses the list that is read, which may hold others too.
        With them comes the place of the last that was looked at; None: there are no further ones.
        """
        every, waiting, dead = self._keys.project_deliveries(project)
        lists = {DeliveryState.WAITING: waiting, DeliveryState.DEAD: dead}
        listed = every if state is None else lists.get(state, every)
        highest = "+inf" if below is None else f"({below}"
        reply = await self._connection.command(
            *("ZRANGE", listed, highest, from_, "BYSCORE", "REV", "LIMIT", 0, limit, "WITHSCORES")
        )
        entries = cast("list[tuple[bytes, float]]", reply)
        found: list[KeptDelivery] = []
        for start in range(0, len(entries), _READ_TOGETHER):
            found += await self._read(entries[start : start + _READ_TOGETHER])
        return found, int(entries[-1][1]) if len(entries) == limit else None

    async def replay(self, deliveries: Sequence[KeptDelivery]) -> int:
        """Have ended deliveries made again, and waiting ones at once; answer how many will be.

        Those that have changed since they were read are passed over. Their endpoints are enabled.
        """
        if not deliveries:
            return 0
        names = Names(
            self._keys.delivery_projects,
            self._keys.delivery_circuits,
            self._keys.delivery_leases,
            self._keys.delivery_disabled,
        )
        arguments: list[Word] = [span(self._circuit.hold)]
        for record, content, _ in deliveries:
            endpoint = endpoint_of(record.url)
            anew = replace(record, state=DeliveryState.WAITING, tries=0)
            arguments += (
                names.of(self._keys.deliveries(record.task_id)),
                names.of(self._keys.deliveries_due(record.line)),
                names.of(*self._keys.delivery_lists(record.project)),
                record.line,
                record.task_id,
                record.task_create_time,
                endpoint,
                record.key,
                content,
                encode_record(anew),
                disabled_field(record.project, endpoint),
            )
        return await self._connection.number(REPLAY, names.all, arguments)

    async def waiting(self, task_ids: Sequence[str]) -> set[str]:
        """Return which of the tasks have deliveries that wait."""
        if not task_ids:
            return set()
        places = [self._keys.deliveries(task_id) for task_id in task_ids]
        found = cast("list[int]", await self._connection.script(WAITING, places, []))
        return {task_id for task_id, waits in zip(task_ids, found, strict=True) if waits}

    async def _read(self, entries: Sequence[tuple[bytes, float]]) -> list[KeptDelivery]:
        places = [member.decode().split("/", 1) for member, _ in entries]
        reply = await self._connection.script(
            RECORDS,
            [self._keys.deliveries(task_id) for task_id, _ in places],
            [field for _, field in places],
        )
        return [
            KeptDelivery(decode_record(content), content, int(place))
            for (_, place), content in zip(entries, cast("list[bytes | None]", reply), strict=True)
            if content is not None
        ]


def _in_order(delivery: KeptDelivery) -> tuple[int, int, str]:
    signal = delivery.record.signal
    return delivery.record.sequence, 0 if signal is None else signal.time, delivery.record.url
