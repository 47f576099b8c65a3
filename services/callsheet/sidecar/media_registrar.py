"""The registrar: claims tasks with artifacts, has them registered, and notes it of the task."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.ledger import machine
from callsheet.ledger.errors import LedgerError, TaskNotFound
from callsheet.ledger.media_work import ClaimedMedia, MediaRecord, MediaWork
from callsheet.ledger.model import RegisteredMedia, Task, TaskState
from callsheet.ledger.writer import Writer
from callsheet.sidecar.claiming import claim_until
from callsheet.sidecar.media_uploads import MediaUploads, Registration, Trouble
from callsheet.sidecar.retries import retry_delay

#: Tasks whose artifacts are uploaded at a time; while PayloadCMS is away one at a time is tried.
IN_FLIGHT: Final = 4

#: How long work that another sidecar's tailer added may go unseen.
_LOOK_EVERY: Final = timedelta(seconds=1)
#: How long after PayloadCMS was found away the next task is tried.
_AWAY: Final = timedelta(seconds=1)
#: How long a task waits for another one that uploads the same bytes.
_BUSY: Final = timedelta(milliseconds=500)
_FORGET_EVERY: Final = timedelta(minutes=10)
_FORGET_LIMIT: Final = 500

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


@dataclass(frozen=True, slots=True)
class RegistrarTerms:
    """How patient registration is.

    *schedule* holds the waits between tries; *lease* is how long a sidecar that died keeps its
    tasks; *retention* is how long it is remembered that a task was given up.
    """

    schedule: Sequence[timedelta]
    lease: timedelta
    retention: timedelta


class Registrar:
    """Takes its share of the cell's media work; *jitter* returns chances in [0, 1)."""

    def __init__(
        self,
        work: MediaWork,
        writer: Writer,
        uploads: MediaUploads,
        *,
        terms: RegistrarTerms,
        jitter: Callable[[], float],
    ) -> None:
        self._work = work
        self._writer = writer
        self._uploads = uploads
        self._terms = terms
        self._jitter = jitter
        self._clock = asyncio.get_running_loop().time
        self._running: set[asyncio.Task[None]] = set()
        self._look = asyncio.Event()
        self._is_away = False
        self._rest_until = self._forget_at = 0.0

    def wake(self) -> None:
        """Look at once for work."""
        self._look.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Register until told to stop, and then end what is in flight."""
        await claim_until(
            stop,
            claim=self._claim,
            look=self._look,
            in_flight=self._running,
            interrupted="media_claiming_interrupted",
            ending="media_registrations_ending",
        )

    async def _claim(self) -> timedelta:
        """Claim what there is room for; return how long to wait before the next look."""
        await self._forget_when_due()
        room = (1 if self._is_away else IN_FLIGHT) - len(self._running)
        rest = timedelta(seconds=max(0.0, self._rest_until - self._clock()))
        if room <= 0 or rest:
            return min(rest, _LOOK_EVERY) or _LOOK_EVERY
        claims = await self._work.claim(limit=room, lease=self._terms.lease)
        for claimed in claims.tasks:
            running = asyncio.create_task(self._carry_out(claimed))
            self._running.add(running)
            running.add_done_callback(self._land)
        if claims.next_due is None or len(claims.tasks) == room:
            return _LOOK_EVERY
        return min(_LOOK_EVERY, claims.next_due)

    def _land(self, landed: asyncio.Task[None]) -> None:
        self._running.discard(landed)
        self._look.set()
        if not landed.cancelled() and (error := landed.exception()) is not None:
            # Its lease runs out, and the task is due again.
            _log.error("media_registration_crashed", exc_info=error)

    async def _carry_out(self, claimed: ClaimedMedia) -> None:
        """Make one try under a lease that is renewed; what is lost meanwhile is given up."""
        lease = _Lease(self._work, claimed, self._terms.lease)
        registering = asyncio.ensure_future(self._register(lease))
        renewing = asyncio.ensure_future(lease.keep())
        try:
            await asyncio.wait({registering, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if not registering.done():
                _log.warning("media_lease_lost", task_id=claimed.task_id)
        finally:
            registering.cancel()
            renewing.cancel()
            await asyncio.wait({registering, renewing})
        if not registering.cancelled():
            registering.result()

    async def _register(self, lease: "_Lease") -> None:
        task_id = lease.claimed.task_id
        try:
            task = await self._writer.read(task_id)
            if task.state is not TaskState.SUCCEEDED:
                await lease.settle(None)
                return
            registration = await self._uploads.register(task)
            self._note(registration.trouble)
            await self._settle(lease, task, registration)
        except TaskNotFound:
            _log.error("media_lost", task_id=task_id)
            await lease.settle(None)
        except LedgerError as error:
            # The lease runs out, and the task is due again: what was uploaded is found then.
            _log.warning("media_registration_interrupted", task_id=task_id, reason=str(error))

    async def _settle(self, lease: "_Lease", task: Task, registration: Registration) -> None:
        trouble, media = registration.trouble, registration.media
        record = lease.claimed.record
        if trouble is None:
            await self._commit(task, media)
            await lease.settle(None)
            if media:
                _log.info(
                    "media_registered",
                    task_id=task.id,
                    documents=[each.payload_media_id for each in media],
                    tries=record.tries + 1,
                )
            return
        if trouble.is_busy:
            await lease.settle(record, retry_delay=_BUSY)
            return
        record = MediaRecord(record.tries + 1, trouble.reason)
        wait = retry_delay(
            record.tries,
            schedule=self._terms.schedule,
            jitter=self._jitter(),
            retry_after=trouble.retry_after,
        )
        if wait is None or not trouble.is_passing:
            # Some are better than none, and more may never come.
            task = await self._commit(task, media)
        # The fact lets the webhook go, which then tells of it; without one nothing else does.
        releases = not trouble.is_passing and not task.media
        await lease.settle(record, retry_delay=wait, releases=releases)
        _tell(task.id, record, wait, documents=len(task.media))

    async def _commit(self, task: Task, media: tuple[RegisteredMedia, ...]) -> Task:
        return await self._writer.change(task, lambda task: machine.register_media(task, media))

    def _note(self, trouble: Trouble | None) -> None:
        """Learn whether PayloadCMS is there: while it is not, it is asked by one task at a time."""
        is_away = trouble is not None and trouble.is_away
        if is_away and not self._is_away:
            _log.warning("payload_away", reason=trouble.reason if trouble else "")
        elif self._is_away and not is_away:
            _log.info("payload_back")
        self._is_away = is_away
        self._rest_until = self._clock() + _AWAY.total_seconds() if is_away else 0.0

    async def _forget_when_due(self) -> None:
        if self._clock() < self._forget_at:
            return
        self._forget_at = self._clock() + _FORGET_EVERY.total_seconds()
        await self._work.forget(retention=self._terms.retention, limit=_FORGET_LIMIT)


class _Lease:
    """A claim that is kept alive."""

    def __init__(self, work: MediaWork, claimed: ClaimedMedia, duration: timedelta) -> None:
        self._work = work
        self._duration = duration
        self._busy = asyncio.Lock()
        self._is_settled = False
        self.claimed = claimed

    async def keep(self) -> None:
        """Renew the lease until it is lost."""
        clock = asyncio.get_running_loop().time
        lost_at = clock() + self._duration.total_seconds()
        while clock() < lost_at:
            await asyncio.sleep(self._duration.total_seconds() / 3)
            async with self._busy:
                if self._is_settled:
                    lost_at = float("inf")  # nothing to keep; whoever settled it will cancel this
                    continue
                asked_at = clock()
                try:
                    renewed = await self._work.renew(self.claimed, lease=self._duration)
                except LedgerError:
                    continue
                if renewed is None:
                    return
                self.claimed = renewed
                lost_at = asked_at + self._duration.total_seconds()

    async def settle(
        self,
        record: MediaRecord | None,
        *,
        retry_delay: timedelta | None = None,
        releases: bool = False,
    ) -> None:
        """Write what became of the try."""
        async with self._busy:
            self._is_settled = True
            await self._work.settle(
                self.claimed, record, retry_delay=retry_delay, releases=releases
            )


def _tell(task_id: str, record: MediaRecord, wait: timedelta | None, *, documents: int) -> None:
    told = {"task_id": task_id, "tries": record.tries, "reason": record.error}
    if wait is None:
        _log.error("media_given_up", documents=documents, **told)
    else:
        _log.warning("media_try_failed", retry_seconds=round(wait.total_seconds(), 3), **told)
