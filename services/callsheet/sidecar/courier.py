"""The courier: claims deliveries that are due, has them sent, and writes what became of them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, cast

import structlog

from callsheet.ledger.deliveries import ClaimedDelivery, Claims, Deliveries, Settled
from callsheet.ledger.delivery_model import DeliveryRecord, DeliveryState, parse_line
from callsheet.ledger.errors import LedgerError
from callsheet.sidecar.claiming import claim_until
from callsheet.sidecar.credentials import Credentials
from callsheet.sidecar.retries import retry_delay
from callsheet.sidecar.sending import Outcome, Sender

#: Deliveries in flight at a time, and at most so many of one line.
IN_FLIGHT: Final = 128
PER_LINE: Final = 32

#: How long what another sidecar's tailer recorded may go unseen.
_LOOK_EVERY: Final = timedelta(seconds=1)
_PAUSE: Final = timedelta(seconds=1)
#: Projects looked at in one go: more than can have deliveries in flight, so that those that have as
#: many as they may never hide the others.
_PROJECTS: Final = 256
#: How often the writing of an outcome is tried; after that the delivery is made again.
_SETTLE_TRIES: Final = 60
#: How long a delivery rests whose try we could not make, and half as long again by chance.
_PUT_OFF: Final = timedelta(seconds=5)
_LONGEST_ERROR: Final = 500

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


@dataclass(frozen=True, slots=True)
class Terms:
    """How patient deliveries are.

    *schedule* holds the waits between tries; *lease* outlasts a try and the writing of its outcome;
    *retention* is how long an ended delivery is kept.
    """

    schedule: Sequence[timedelta]
    lease: timedelta
    retention: timedelta


class Courier:
    """Takes its share of the cell's due deliveries; *jitter* returns chances in [0, 1)."""

    def __init__(
        self,
        deliveries: Deliveries,
        sender: Sender,
        credentials: Credentials,
        *,
        terms: Terms,
        jitter: Callable[[], float],
        in_flight: int = IN_FLIGHT,
        per_line: int = PER_LINE,
    ) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._credentials = credentials
        self._terms = terms
        self._jitter = jitter
        self._in_flight = in_flight
        self._per_line = per_line
        self._flying: set[asyncio.Task[None]] = set()
        self._by_line: Counter[str] = Counter()
        self._by_project: Counter[str] = Counter()
        #: Lines in which there may be something due, and projects, longest due first.
        self._due: dict[str, None] = {}
        self._projects: tuple[str, ...] = ()
        self._look = asyncio.Event()

    def wake(self, lines: Iterable[str] = ()) -> None:
        """Look at once for due deliveries, in these lines first."""
        self._due.update(dict.fromkeys(lines))
        self._look.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until told to stop, and then end what is in flight."""
        await claim_until(
            stop,
            claim=self._claim,
            look=self._look,
            in_flight=self._flying,
            interrupted="claiming_interrupted",
            ending="deliveries_landing",
        )

    async def _claim(self) -> timedelta:
        """Claim what there is room for; return how long to wait before the next look."""
        if len(self._flying) >= self._in_flight:
            return _LOOK_EVERY
        due, self._due = self._due, {}
        most = self._wanted(due)
        look = self._looked_at(due, most)
        claims = await self._deliveries.claim(
            most, lease=self._terms.lease, look=look, projects=_PROJECTS
        )
        # Before anything is signed: what changed before this claim counts for all it took.
        await self._credentials.refresh(claims.registry_version)
        if claims.unreadable:
            _log.error("deliveries_unreadable", count=claims.unreadable)
        for claimed in claims.deliveries:
            self._fly(claimed)
        return self._rest(claims, look)

    def _looked_at(self, due: Iterable[str], most: Mapping[str, int]) -> dict[str, int]:
        """Return how many due lines to look at of which projects.

        More than a project can have in flight by then, so that among these are some that are not
        full, if it has any.
        """
        look = dict.fromkeys((*self._projects, *(parse_line(line)[0] for line in due)), 0)
        beside = max(1, self._in_flight // max(1, len(look)))
        for project in look:
            look[project] = self._by_project[project] + beside
        for line, count in most.items():
            look[parse_line(line)[0]] += count
        return look

    def _rest(self, claims: Claims, look: Mapping[str, int]) -> timedelta:
        """Note what is due, and return how long it has time."""
        # Beside what was told of while the claim was on its way.
        self._due = {**dict.fromkeys(claims.lines), **self._due}
        self._projects = claims.projects
        if self._due and self._wanted(self._due):
            return timedelta(0)
        if len(self._flying) < self._in_flight and not look.keys() >= set(claims.projects):
            return timedelta(0)  # the lines of some are not known yet
        if self._look.is_set() or claims.next_due is None:
            return _LOOK_EVERY
        return min(_LOOK_EVERY, claims.next_due)

    def _wanted(self, lines: Iterable[str]) -> dict[str, int]:
        """Return how many to take of each line: never all the room that is left.

        Projects share what is free, and each leaves a third of what it then has: so with any number
        of slow ones there is room for another, and for one that has none the last of it.
        """
        of_project: dict[str, list[str]] = {}
        for line in lines:
            of_project.setdefault(parse_line(line)[0], []).append(line)
        most: dict[str, int] = {}
        free = self._in_flight - len(self._flying)
        sharing = len(of_project)
        for project, its_lines in of_project.items():
            if free <= 0:
                break
            has = self._by_project[project]
            most_of_all = max(1, 3 * (free + has) // 4)
            wanted = self._shared(its_lines, min(most_of_all - has, max(1, free // sharing)))
            most.update(wanted)
            free -= sum(wanted.values())
            sharing -= 1
        return most

    def _shared(self, lines: Iterable[str], room: int) -> dict[str, int]:
        """Share a project's room among its lines, each of which gets a quarter of it at most."""
        most: dict[str, int] = {}
        largest = min(self._per_line, max(1, room // 4))
        open_lines = [line for line in lines if self._by_line[line] < largest]
        for taken, line in enumerate(open_lines):
            if room <= 0:
                break
            share = min(self._per_line, max(1, room // 4))
            even = max(1, room // (len(open_lines) - taken))
            count = min(room, even, share - self._by_line[line])
            if count > 0:
                most[line] = count
                room -= count
        return most

    def _fly(self, claimed: ClaimedDelivery) -> None:
        line, (project, _) = claimed.line, parse_line(claimed.line)
        flying = asyncio.create_task(self._deliver(claimed))
        self._flying.add(flying)
        self._by_line[line] += 1
        self._by_project[project] += 1

        def land(landed: asyncio.Task[None]) -> None:
            self._flying.discard(landed)
            _take_one(self._by_line, line)
            _take_one(self._by_project, project)
            if self._due:
                self._look.set()  # there was no room for it before
            if not landed.cancelled() and (error := landed.exception()) is not None:
                # Its lease runs out, and the delivery is due again.
                _log.error("delivery_crashed", webhook_id=claimed.record.id, exc_info=error)

        flying.add_done_callback(land)

    async def _deliver(self, claimed: ClaimedDelivery) -> None:
        told = _untried(claimed)
        if told:
            ended = replace(claimed.record, state=DeliveryState.DEAD, last_error=told)
            await self._settle(claimed, ended, None, Outcome(error=told))
            return
        outcome = await self._sender.send(claimed)
        record, wait = judged(
            claimed.record, outcome, schedule=self._terms.schedule, jitter=self._jitter()
        )
        await self._settle(claimed, record, wait, outcome)

    async def _settle(
        self,
        claimed: ClaimedDelivery,
        record: DeliveryRecord,
        wait: timedelta | None,
        outcome: Outcome,
    ) -> None:
        for _ in range(_SETTLE_TRIES):
            try:
                settled = await self._deliveries.settle(
                    claimed,
                    record,
                    retry_delay=wait,
                    retention=self._terms.retention,
                    answers=outcome.answers,
                    disables=outcome.error if outcome.is_gone else "",
                )
            except LedgerError as error:
                _log.warning("outcome_unwritten", webhook_id=record.id, reason=str(error))
                await asyncio.sleep(_PAUSE.total_seconds())
            else:
                self._look_again(claimed.line, wait, settled)
                _tell(record, wait, settled, outcome)
                _tell_circuit(claimed.line, settled, outcome)
                return

    def _look_again(self, line: str, wait: timedelta | None, settled: Settled) -> None:
        if settled.follows:
            self.wake([line])
        elif wait is not None and wait < _LOOK_EVERY:
            asyncio.get_running_loop().call_later(wait.total_seconds(), self.wake, [line])


def judged(
    record: DeliveryRecord, outcome: Outcome, *, schedule: Sequence[timedelta], jitter: float
) -> tuple[DeliveryRecord, timedelta | None]:
    """Return the delivery after a try of that outcome, and the wait before the next, if any."""
    if outcome.put_off:
        return replace(record, last_error=outcome.error), _PUT_OFF * (1 + jitter / 2)
    tries = record.tries + 1
    wait = None
    state = DeliveryState.DELIVERED
    if outcome.error:
        if not outcome.hopeless:
            wait = retry_delay(
                tries, schedule=schedule, jitter=jitter, retry_after=outcome.retry_after
            )
        state = DeliveryState.DEAD if wait is None else DeliveryState.WAITING
    judged = replace(
        record,
        state=state,
        tries=tries,
        last_status=outcome.status,
        last_error=outcome.error[:_LONGEST_ERROR],
    )
    return judged, wait


def _untried(claimed: ClaimedDelivery) -> str:
    """Return why the delivery ends without a try; empty: it is tried."""
    if claimed.disabled:
        return f"the endpoint is disabled: {claimed.disabled}; enable it, or replay this"
    # What was never tried is tried, however long others held it up: it may be the endpoint is back.
    if claimed.is_held and claimed.record.tries:
        return "the endpoint has not answered for so long that this is given up; replay it"
    return ""


def _take_one(counter: Counter[str], name: str) -> None:
    counter[name] -= 1
    if not counter[name]:
        del counter[name]


def _tell(
    record: DeliveryRecord, wait: timedelta | None, settled: Settled, outcome: Outcome
) -> None:
    told = {
        "webhook_id": record.id,
        "task_id": record.task_id,
        "tries": record.tries,
        "status": record.last_status,
    }
    if not settled.stands:
        _log.info("delivery_lease_lost", **told)
    elif record.state is DeliveryState.DELIVERED:
        _log.info("webhook_delivered", **told)
    elif settled.superseded:
        _log.info("webhook_superseded", reason=record.last_error, **told)
    elif outcome.put_off:
        _log.warning("webhook_put_off", reason=record.last_error, **told)
    elif wait is None:
        _log.error("webhook_dead", reason=record.last_error, **told)
    else:
        _log.warning(
            "webhook_try_failed",
            reason=record.last_error,
            retry_seconds=round(wait.total_seconds(), 3),
            **told,
        )


def _tell_circuit(line: str, settled: Settled, outcome: Outcome) -> None:
    project, endpoint = parse_line(line)
    if settled.circuit == "opened":
        _log.warning("circuit_opened", project=project, endpoint=endpoint, reason=outcome.error)
    elif settled.circuit == "closed":
        _log.info("circuit_closed", project=project, endpoint=endpoint)
    if outcome.is_gone and settled.stands:
        _log.warning("endpoint_disabled", project=project, endpoint=endpoint, reason=outcome.error)
