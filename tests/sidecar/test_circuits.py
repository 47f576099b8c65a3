"""Circuits: an endpoint that is away is asked by one delivery at a time, and holds up no other."""

from dataclasses import replace
from datetime import timedelta

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from callsheet.ledger.deliveries import CircuitTerms, ClaimedDelivery, Claims, Settled
from callsheet.ledger.delivery_model import DeliveryRecord, DeliveryState, NewDelivery
from callsheet.ledger.instants import microseconds
from callsheet.ledger.model import Task
from tests.sidecar.test_delivery_queues import LEASE, LINE, new, recorded
from tests.support.eventually import eventually
from tests.support.receiver import Receiver, Reply
from tests.support.sidecars import TERMS, WebhookCell, couriers, webhook_cell

HOUR = timedelta(hours=1)
RETENTION = timedelta(days=30)
OTHER = "default/https://b.example:443/hook"
#: Opens at the third failure, and stays open for long.
SLOW = CircuitTerms(failures=3, shortest=HOUR, longest=HOUR)
#: Is half open again at once.
QUICK = CircuitTerms(failures=3, shortest=timedelta(0), longest=timedelta(0))
#: Is never dialled, as no address of this machine is.
INSIDE = "http://127.0.0.1:9/hook"
#: Waits for long after each try.
PATIENT = replace(TERMS, schedule=(HOUR,))


@pytest.fixture
def slow(redis: Redis, cell: str) -> WebhookCell:
    return webhook_cell(redis, cell, circuit=SLOW)


@pytest.fixture
def quick(redis: Redis, cell: str) -> WebhookCell:
    return webhook_cell(redis, cell, circuit=QUICK)


async def claim(cell: WebhookCell, *lines: str, count: int = 10) -> Claims:
    return await cell.deliveries.claim(dict.fromkeys(lines or (LINE,), count), lease=LEASE)


async def settled(
    cell: WebhookCell,
    head: ClaimedDelivery,
    *,
    answers: bool | None,
    wait: timedelta | None = timedelta(0),
) -> Settled:
    state = DeliveryState.DELIVERED if wait is None else DeliveryState.WAITING
    record = replace(head.record, state=state, tries=head.record.tries + 1)
    return await cell.deliveries.settle(
        head, record, retry_delay=wait, retention=RETENTION, answers=answers
    )


async def opened(cell: WebhookCell, *extra: NewDelivery) -> None:
    """Record six deliveries, and have three of them fail."""
    await recorded(cell, *(new(f"task-{n}") for n in range(6)), *extra)
    heads = (await claim(cell, count=3)).deliveries
    told = [await settled(cell, head, answers=False) for head in heads]
    assert [each.circuit for each in told] == ["", "", "opened"]


async def test_after_failures_in_a_row_a_line_waits_and_others_do_not(slow: WebhookCell) -> None:
    other = new("other", url="https://b.example/hook", line=OTHER)
    await opened(slow, other)
    claims = await claim(slow, LINE, OTHER)
    assert [head.record.task_id for head in claims.deliveries] == ["other"]
    look = await slow.deliveries.claim({}, lease=LEASE, look={"default": 99})
    assert look.lines == ()
    assert look.next_due is not None
    assert timedelta() < look.next_due <= LEASE  # the lease of the other one
    [circuit] = await slow.registry.circuits()
    assert (circuit.line, circuit.failures) == (LINE, 3)
    assert circuit.retry_time is not None


async def test_a_success_between_failures_begins_the_count_anew(slow: WebhookCell) -> None:
    await recorded(slow, *(new(f"task-{n}") for n in range(6)))
    heads = (await claim(slow)).deliveries
    for head, answers in zip(heads, (False, False, True, False, False, None), strict=True):
        wait = None if answers else timedelta(0)
        assert (await settled(slow, head, answers=answers, wait=wait)).circuit == ""
    assert len((await claim(slow)).deliveries) == 5


async def test_a_half_open_circuit_lets_one_probe_through_whoever_claims(
    quick: WebhookCell,
) -> None:
    await opened(quick)
    [probe] = (await claim(quick)).deliveries
    assert (await claim(quick)).deliveries == ()
    assert (await quick.deliveries.claim({}, lease=LEASE, look={"default": 99})).lines == ()
    # It fails, and the next one is tried
    assert (await settled(quick, probe, answers=False, wait=HOUR)).circuit == ""
    [probe] = (await claim(quick)).deliveries
    # It arrives, and all the others may go
    assert (await settled(quick, probe, answers=True, wait=None)).circuit == "closed"
    assert len((await claim(quick)).deliveries) == 4
    assert await quick.registry.circuits() == []


async def test_each_failed_probe_doubles_the_wait_up_to_a_limit(redis: Redis, cell: str) -> None:
    terms = CircuitTerms(failures=3, shortest=timedelta(milliseconds=1), longest=HOUR)
    webhooks = webhook_cell(redis, cell, circuit=terms)
    await opened(webhooks)
    waits: list[timedelta] = []
    for _ in range(3):

        async def half_open() -> ClaimedDelivery | None:
            return next(iter((await claim(webhooks)).deliveries), None)

        probe = await eventually(half_open)
        assert probe is not None
        await settled(webhooks, probe, answers=False)
        [circuit] = await webhooks.registry.circuits()
        now, _ = await webhooks.plane.store.due(webhooks.plane.keys.final, limit=0)
        assert circuit.retry_time is not None
        waits.append(timedelta(seconds=circuit.retry_time.timestamp() - now / 1e6))
    assert waits[0] <= timedelta(milliseconds=2)
    assert waits[2] <= timedelta(milliseconds=8)


async def test_a_probe_that_was_not_asked_gives_its_turn_back(quick: WebhookCell) -> None:
    await opened(quick)
    [probe] = (await claim(quick)).deliveries
    await settled(quick, probe, answers=None, wait=HOUR)
    assert len((await claim(quick)).deliveries) == 1


async def test_a_probe_whose_sidecar_died_is_followed_by_another(quick: WebhookCell) -> None:
    await opened(quick)
    died = await quick.deliveries.claim({LINE: 10}, lease=timedelta(0))
    assert len(died.deliveries) == 1
    assert len((await claim(quick)).deliveries) == 1


async def test_what_an_open_circuit_held_up_for_too_long_is_given_up_once_it_was_tried(
    redis: Redis, cell: str
) -> None:
    """Of six at an endpoint that is away, three were never tried: they are, the others end."""
    webhooks = webhook_cell(redis, cell, circuit=replace(SLOW, hold=timedelta(0)))
    tasks = [await webhooks.cancelled(INSIDE) for _ in range(6)]
    await recorded(webhooks, *(wish(task) for task in tasks))
    for head in (await claim(webhooks, count=3)).deliveries:
        await settled(webhooks, head, answers=False)
    held = (await webhooks.deliveries.claim({LINE: 9}, lease=timedelta(0))).deliveries
    assert [head.is_held for head in held] == [True] * 6
    async with couriers(webhooks, terms=PATIENT, allow_loopback=False):

        async def ended() -> list[DeliveryRecord] | None:
            found = [(await webhooks.of_task(task.id))[0] for task in tasks]
            return found if all(record.tries for record in found) and dead(found) == 3 else None

        found = await eventually(ended)
    assert found is not None
    given_up = [record for record in found if record.state is DeliveryState.DEAD]
    assert all("for so long" in record.last_error for record in given_up)


def wish(task: Task) -> NewDelivery:
    created = microseconds(task.create_time)
    return new(task.id, task.sequence, url=INSIDE, created=created)


def dead(records: list[DeliveryRecord]) -> int:
    return sum(record.state is DeliveryState.DEAD for record in records)


async def test_an_endpoint_that_is_away_holds_up_no_other_at_the_same_origin(
    slow: WebhookCell,
) -> None:
    """One path answers 503 to all, its circuit opens; the other path of that host goes on."""
    async with Receiver(Reply(503)) as receiver, couriers(slow, terms=PATIENT):
        url = receiver.url
        away = [await slow.cancelled(f"{url}/away?task={n}") for n in range(3)]

        async def opened_up() -> bool:
            return any(circuit.retry_time for circuit in await slow.registry.circuits())

        await eventually(opened_up)
        away.append(await slow.cancelled(f"{url}/away?task=3"))
        record = await slow.settled(await slow.cancelled(f"{url}/other"))
        assert (record.tries, record.last_status) == (1, 503)
        assert [(await slow.of_task(task.id))[0].tries for task in away] == [1, 1, 1, 0]
        [one, other] = await slow.registry.circuits()
    assert (one.line, one.failures) == (f"default/{url}/away", 3)
    assert (other.line, other.failures) == (f"default/{url}/other", 1)


async def test_a_circuit_goes_with_the_last_queue_of_its_line(slow: WebhookCell) -> None:
    await recorded(slow, new())
    [head] = (await claim(slow)).deliveries
    await settled(slow, head, answers=False)
    assert len(await slow.registry.circuits()) == 1
    [head] = (await claim(slow)).deliveries
    await settled(slow, head, answers=False, wait=None)
    assert await slow.registry.circuits() == []


async def test_an_endpoint_that_fails_holds_up_no_other_and_flows_again_once_it_answers(
    redis: Redis, cell: str
) -> None:
    terms = replace(QUICK, shortest=timedelta(milliseconds=20), longest=timedelta(milliseconds=40))
    webhooks = webhook_cell(redis, cell, circuit=terms)
    patient = replace(TERMS, schedule=(timedelta(milliseconds=50),) * 40)
    fails = [Reply(503)] * 8
    with capture_logs() as logged:
        async with (
            Receiver(*fails, Reply()) as flaky,
            Receiver() as fine,
            couriers(webhooks, terms=patient),
        ):
            failing = [await webhooks.cancelled(flaky.url) for _ in range(6)]
            assert (await webhooks.settled(await webhooks.cancelled(fine.url))).tries == 1
            for task in failing:

                async def delivered(task_id: str = task.id) -> bool:
                    [record] = await webhooks.of_task(task_id)
                    return record.state is DeliveryState.DELIVERED

                await eventually(delivered)
    events = [line["event"] for line in logged]
    assert events.count("circuit_opened") >= 1
    assert events.index("circuit_opened") < events.index("circuit_closed")


@pytest.mark.parametrize("status", [200, 302, 400, 404, 410, 408, 429, 500, 503])
async def test_an_answer_tells_whether_the_endpoint_does_its_work(
    slow: WebhookCell, status: int
) -> None:
    """What refuses one webhook says nothing against the next one."""
    async with Receiver(Reply(status)) as receiver, couriers(slow, terms=PATIENT):
        await slow.settled(await slow.cancelled(receiver.url))
        circuits = await slow.registry.circuits()
    counts = [circuit.failures for circuit in circuits]
    assert counts == ([1] if status in (408, 429, 500, 503) else [])
