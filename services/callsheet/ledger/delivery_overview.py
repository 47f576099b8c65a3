"""What operators may ask of deliveries: lists and replays. Every question names its principal."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from callsheet.ledger.access import Principal, Role
from callsheet.ledger.codec import project_of
from callsheet.ledger.delivery_model import DeliveryRecord, DeliveryState
from callsheet.ledger.errors import DeliveryNotFound, TaskNotFound
from callsheet.ledger.instants import microseconds
from callsheet.ledger.kept_deliveries import KeptDeliveries, KeptDelivery
from callsheet.ledger.page_token import page_token, parse_page_token
from callsheet.ledger.store import Store

#: Index entries read for one page; a page that finds too few matches is shorter.
SCANNED: Final = 2_000
#: Index entries read at a time.
_CHUNK: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries are wanted; '' and None mean any. Times are in microseconds."""

    project: str = ""
    state: DeliveryState | None = None
    url: str = ""
    #: Recorded then or later.
    created_after: int = 0
    #: Recorded before.
    created_before: int | None = None

    def matches(self, record: DeliveryRecord) -> bool:
        """Whether the delivery is of that state and URL."""
        return self.state in (None, record.state) and self.url in ("", record.url)


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Deliveries, and the token of the next page; '' after the last."""

    deliveries: tuple[DeliveryRecord, ...]
    next_token: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """How many deliveries will be made again, and the token with which a selection goes on."""

    count: int
    next_token: str = ""


class DeliveryOverview:
    """Looks over the deliveries of the projects that a principal has."""

    def __init__(self, store: Store, kept: KeptDeliveries) -> None:
        self._store = store
        self._kept = kept

    async def page(
        self, principal: Principal, wanted: DeliveryFilter, *, size: int, token: str
    ) -> DeliveryPage:
        """Return a page of a project's deliveries, newest first. Raises PageTokenInvalid."""
        wanted = _allowed(principal, wanted)
        found, next_token = await self._found(wanted, size=size, token=token)
        return DeliveryPage(_records(found), next_token)

    async def page_of_task(
        self, principal: Principal, task_id: str, wanted: DeliveryFilter, *, size: int, token: str
    ) -> DeliveryPage:
        """Return a page of a task's deliveries, oldest fact first.

        Raises:
            TaskNotFound: neither the task nor deliveries of it are in the principal's projects.
            PageTokenInvalid: the token is not of this list.
        """
        principal.require(Role.OPERATE)
        kept = await self._of_task(principal, task_id)
        found = [each for each in kept if _fits(each.record, wanted)]
        page, next_token = _slice(found, of=f"{task_id}/{wanted}", size=size, token=token)
        return DeliveryPage(_records(page), next_token)

    async def replay_one(self, principal: Principal, delivery_id: str) -> Replayed:
        """Deliver once more what has that webhook-id. Raises DeliveryNotFound."""
        principal.require(Role.OPERATE)
        _, _, rest = delivery_id.partition("_")
        task_id, _, _ = rest.partition("_")
        kept = await self._kept.of_task(task_id)
        found = [each for each in kept if each.record.id == delivery_id]
        if not found or found[0].record.project not in principal.projects:
            raise DeliveryNotFound(delivery_id)
        return Replayed(await self._kept.replay(found))

    async def replay_task(
        self, principal: Principal, task_id: str, *, from_sequence: int, limit: int, token: str
    ) -> Replayed:
        """Deliver once more what a task told from a sequence on. Raises as page_of_task does."""
        principal.require(Role.OPERATE)
        kept = await self._of_task(principal, task_id)
        found = [each for each in kept if each.record.sequence >= from_sequence]
        page, next_token = _slice(found, of=f"{task_id}/{from_sequence}", size=limit, token=token)
        return Replayed(await self._kept.replay(page), next_token)

    async def replay_matching(
        self, principal: Principal, wanted: DeliveryFilter, *, limit: int, token: str
    ) -> Replayed:
        """Deliver once more what fits, newest first; without a state what is DEAD."""
        wanted = _allowed(principal, wanted)
        wanted = replace(wanted, state=wanted.state or DeliveryState.DEAD)
        found, next_token = await self._found(wanted, size=limit, token=token)
        return Replayed(await self._kept.replay(found), next_token)

    async def _found(
        self, wanted: DeliveryFilter, *, size: int, token: str
    ) -> tuple[list[KeptDelivery], str]:
        below = parse_page_token(token, of=repr(wanted))
        if below is None:
            below = wanted.created_before
        found: list[KeptDelivery] = []
        scanned = 0
        while scanned < SCANNED:
            page, last = await self._kept.page(
                wanted.project,
                wanted.state,
                below=below,
                from_=wanted.created_after,
                limit=_CHUNK,
            )
            scanned += _CHUNK
            for each in page:
                if wanted.matches(each.record):
                    found.append(each)
                if len(found) == size:
                    return found, page_token(each.place, of=repr(wanted))
            if last is None:
                return found, ""
            below = last
        return found, page_token(below or 0, of=repr(wanted))

    async def _of_task(self, principal: Principal, task_id: str) -> list[KeptDelivery]:
        kept = await self._kept.of_task(task_id)
        if kept:
            project = kept[0].record.project
        else:
            stored = (await self._store.read([task_id]))[0]
            project = "" if stored is None else project_of(stored)
        if project not in principal.projects:
            raise TaskNotFound(task_id)
        return kept


def _allowed(principal: Principal, wanted: DeliveryFilter) -> DeliveryFilter:
    principal.require(Role.OPERATE)
    return replace(wanted, project=principal.project(wanted.project))


def _fits(record: DeliveryRecord, wanted: DeliveryFilter) -> bool:
    created = microseconds(record.create_time)
    before = wanted.created_before
    return (
        wanted.matches(record)
        and wanted.project in ("", record.project)
        and wanted.created_after <= created
        and (before is None or created < before)
    )


def _slice(
    found: Sequence[KeptDelivery], *, of: str, size: int, token: str
) -> tuple[Sequence[KeptDelivery], str]:
    """Return the part of a short list that the token names, and the token of the next one."""
    start = parse_page_token(token, of=of) or 0
    end = start + size
    return found[start:end], page_token(end, of=of) if end < len(found) else ""


def _records(found: Sequence[KeptDelivery]) -> tuple[DeliveryRecord, ...]:
    return tuple(each.record for each in found)
