"""The courier: what becomes of deliveries at endpoints of every temper."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks.webhooks import Webhook
from structlog.testing import capture_logs

from callsheet.ledger.delivery_model import DeliveryRecord, DeliveryState
from callsheet.ledger.delivery_outcomes import ClaimedDelivery
from callsheet.runtime.trace import parse_traceparent
from callsheet.sidecar.courier import Courier, judged
from callsheet.sidecar.credentials import Credentials
from callsheet.sidecar.dialling import ResolverBusy
from callsheet.sidecar.sending import Outcome, Sender
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageOutput
from tests.sidecar.test_delivery_queues import new, recorded
from tests.support.eventually import eventually
from tests.support.receiver import Receiver, Reply
from tests.support.sidecars import MASTER_KEY, SECRET, TERMS, WebhookCell, couriers

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HOURS = replace(TERMS, schedule=(timedelta(hours=2),) * 3)


async def test_a_succeeded_task_reaches_its_receiver_signed(webhooks: WebhookCell) -> None:
    async with Receiver() as receiver, couriers(webhooks):
        task = await webhooks.submitted(receiver.url, metadata={"userId": "u1"}, trace_parent=TRACE)
        images = GenerateImageOutput(images=[Artifact(uri="file:///a.png")])
        await webhooks.ended(task, output=images)
        [received] = await receiver.arrived()
        record = await webhooks.settled(task)
    # Then an independent judge accepts the signature
    told = Webhook(SECRET).verify(received.body, dict(received.headers))
    assert told == received.json()
    assert (told["task_id"], told["status"], told["error"]) == (task.id, "completed", None)
    assert told["result"]["media_url"] == "file:///a.png"
    assert told["result"]["metadata"]["tokens_used"] == 12
    assert (told["metadata"], told["sequence"], told["attempt"]) == ({"userId": "u1"}, 3, 1)
    # And the headers say whose it is
    assert received.id == record.id == f"{record.epoch}_{task.id}_3"
    assert received.headers["content-type"] == "application/json"
    trace = parse_traceparent(received.headers["traceparent"])
    assert trace is not None
    assert trace.trace_id == "0af7651916cd43dd8448eb211c80319c"
    # And the delivery is over
    assert (record.state, record.tries, record.last_status, record.last_error) == (
        DeliveryState.DELIVERED,
        1,
        200,
        "",
    )
    assert record.end_time is not None
    assert record.next_try_time is None


async def test_failed_and_cancelled_tasks_are_told_too(webhooks: WebhookCell) -> None:
    async with Receiver() as receiver, couriers(webhooks):
        failed = await webhooks.failed(receiver.url)
        cancelled = await webhooks.cancelled(receiver.url, reason="the scene was cut")
        received = await receiver.arrived(2)
    told = {body["task_id"]: body for body in (each.json() for each in received)}
    assert told[failed.id]["error"]["reason"] == "INVALID_INPUT"
    assert told[failed.id]["error"]["message"] == "the prompt has no words"
    assert told[cancelled.id]["error"]["reason"] == "CANCELLED"
    assert {body["status"] for body in told.values()} == {"failed"}


async def test_a_failed_try_is_repeated_with_the_same_id_and_bytes(webhooks: WebhookCell) -> None:
    replies = (Reply(cut=True), Reply(500), Reply(429), Reply(204, body=b""))
    async with Receiver(*replies) as receiver, couriers(webhooks):
        task = await webhooks.succeeded(receiver.url)
        received = await receiver.arrived(4)
        record = await webhooks.settled(task, tries=4)
    assert len({(each.id, each.body) for each in received}) == 1
    for each in received:
        Webhook(SECRET).verify(each.body, dict(each.headers))
    assert (record.state, record.tries, record.last_status) == (DeliveryState.DELIVERED, 4, 204)


async def test_after_the_last_try_a_delivery_is_dead_and_says_why(webhooks: WebhookCell) -> None:
    async with Receiver(Reply(503)) as receiver, couriers(webhooks):
        task = await webhooks.succeeded(receiver.url)
        record = await webhooks.settled(task, tries=4)
    assert len(receiver.received) == 4
    assert (record.state, record.last_status) == (DeliveryState.DEAD, 503)
    assert record.last_error == "the endpoint answered 503"
    assert record.end_time is not None


async def test_an_endpoint_that_is_gone_is_asked_once(webhooks: WebhookCell) -> None:
    async with Receiver(Reply(410)) as receiver, couriers(webhooks):
        record = await webhooks.settled(await webhooks.succeeded(receiver.url))
    assert (record.state, record.tries, record.last_status) == (DeliveryState.DEAD, 1, 410)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_a_failure_and_is_not_followed(
    webhooks: WebhookCell, status: int
) -> None:
    async with Receiver() as inside:
        redirect = Reply(status, headers={"location": inside.url})
        async with Receiver(redirect) as receiver, couriers(webhooks, terms=HOURS):
            record = await webhooks.settled(await webhooks.succeeded(receiver.url))
        assert (record.state, record.last_status) == (DeliveryState.WAITING, status)
        assert "not followed" in record.last_error
        assert inside.connections == 0


async def test_what_a_busy_endpoint_asks_for_is_honoured(webhooks: WebhookCell) -> None:
    busy = Reply(503, headers={"retry-after": "7200"})
    async with Receiver(busy) as receiver, couriers(webhooks):
        record = await webhooks.settled(await webhooks.succeeded(receiver.url))
    assert record.next_try_time is not None
    wait = record.next_try_time - record.create_time
    assert timedelta(hours=2) <= wait < timedelta(hours=2, minutes=2)


async def test_an_endpoint_that_refuses_connections_is_tried_again(webhooks: WebhookCell) -> None:
    async with Receiver() as closed:
        url = closed.url
    async with couriers(webhooks, terms=HOURS):
        record = await webhooks.settled(await webhooks.succeeded(url))
    assert (record.state, record.last_status) == (DeliveryState.WAITING, 0)
    assert record.last_error.startswith("ConnectionRefusedError")


async def test_an_endpoint_that_does_not_answer_is_tried_again(webhooks: WebhookCell) -> None:
    short = timedelta(milliseconds=200)
    async with (
        Receiver(Reply(after=asyncio.Event())) as receiver,
        couriers(webhooks, terms=HOURS, time_limit=short),
    ):
        record = await webhooks.settled(await webhooks.succeeded(receiver.url))
    assert (record.state, record.last_error) == (
        DeliveryState.WAITING,
        "no answer within the time limit",
    )


async def test_slow_endpoints_do_not_hold_up_another_one(webhooks: WebhookCell) -> None:
    """Three slow ones want four times the room there is; the quick one still has some."""
    released = asyncio.Event()
    slow = [Receiver(Reply(after=released)) for _ in range(3)]
    async with slow[0], slow[1], slow[2], Receiver() as quick, couriers(webhooks, in_flight=16):
        for receiver in slow:
            await asyncio.gather(*(webhooks.cancelled(receiver.url) for _ in range(20)))
            await receiver.arrived(1)
        for _ in range(5):
            record = await webhooks.settled(await webhooks.cancelled(quick.url))
            assert record.state is DeliveryState.DELIVERED
        released.set()
        for receiver in slow:
            await receiver.arrived(20)


async def test_a_name_that_we_could_not_ask_for_counts_neither_as_a_try_nor_as_a_failure(
    webhooks: WebhookCell,
) -> None:
    async def busy(host: str, port: int, project: str) -> Sequence[str]:
        raise ResolverBusy("too many names are being resolved")

    async with couriers(webhooks, resolve=busy):
        task = await webhooks.cancelled("http://a.example/hook")

        async def put_off() -> DeliveryRecord | None:
            found = await webhooks.of_task(task.id)
            return found[0] if found and found[0].last_error else None

        record = await eventually(put_off)
    assert record is not None
    assert (record.state, record.tries) == (DeliveryState.WAITING, 0)
    assert await webhooks.registry.circuits() == []


class Hanging(Sender):
    """Never ends a try, and knows of which projects it has some in hand."""

    def __init__(self) -> None:
        self.projects: Counter[str] = Counter()

    async def send(self, claimed: ClaimedDelivery) -> Outcome:
        self.projects[claimed.record.project] += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.projects[claimed.record.project] -= 1
        raise AssertionError


async def test_projects_whose_endpoints_all_hang_leave_room_for_another(
    webhooks: WebhookCell,
) -> None:
    """Each names many endpoints, due for longer than the one of the last project."""
    many = [
        replace(new(f"{project}-{n}"), project=project, line=f"{project}/https://a:443/{n}")
        for project in ("a", "b", "c", "d")
        for n in range(300)
    ]
    await recorded(webhooks, *many, at="1-0")
    sender, stop = Hanging(), asyncio.Event()
    courier = Courier(
        webhooks.deliveries,
        sender,
        Credentials(webhooks.registry, master_key=MASTER_KEY),
        terms=TERMS,
        jitter=lambda: 0.5,
        in_flight=32,
    )
    running = asyncio.create_task(courier.run(stop))

    async def all_hang() -> bool:
        return all(sender.projects[project] for project in ("a", "b", "c", "d"))

    async def last_too() -> bool:
        return bool(sender.projects["e"])

    try:
        await eventually(all_hang)
        last = replace(new("last"), project="e", line="e/https://e:443/")
        await recorded(webhooks, last, at="2-0")
        courier.wake()
        await eventually(last_too)
        assert max(sender.projects.values()) <= 24
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_several_couriers_share_the_work_and_double_none(webhooks: WebhookCell) -> None:
    async with Receiver() as receiver, couriers(webhooks, count=3):
        tasks = await asyncio.gather(*(webhooks.cancelled(receiver.url) for _ in range(100)))
        received = await receiver.arrived(100)
        for task in tasks:
            await webhooks.settled(task)
    assert len({each.id for each in received}) == len(received) == 100


async def test_a_task_that_is_no_longer_kept_has_no_webhook(webhooks: WebhookCell) -> None:
    async with Receiver(Reply(500)) as receiver, couriers(webhooks, terms=HOURS):
        task = await webhooks.succeeded(receiver.url)
        await webhooks.settled(task)
        await webhooks.redis.delete(webhooks.plane.keys.task(task.id))
        await due_now(webhooks, task.id, receiver.url)
        record = await webhooks.settled(task, tries=2)
    assert record.state is DeliveryState.DEAD
    assert record.last_error == "the task is no longer kept, and so has no body"
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("host", "state"),
    [
        ("http://127.0.0.1:{port}/", DeliveryState.WAITING),
        ("http://localhost:{port}/", DeliveryState.WAITING),
        ("http://2130706433:{port}/", DeliveryState.WAITING),
        ("http://[::ffff:127.0.0.1]:{port}/", DeliveryState.WAITING),
        ("http://user:secret@127.0.0.1:{port}/", DeliveryState.DEAD),
    ],
)
async def test_an_address_that_is_not_allowed_is_never_dialled(
    webhooks: WebhookCell, host: str, state: DeliveryState
) -> None:
    async with Receiver() as receiver, couriers(webhooks, terms=HOURS, allow_loopback=False):
        task = await webhooks.cancelled(host.format(port=receiver.port))
        record = await webhooks.settled(task)
        assert receiver.connections == 0
    assert record.state is state
    assert record.last_error
    assert "secret" not in record.last_error


async def test_plain_http_is_refused_where_the_settings_ask_for_tls(webhooks: WebhookCell) -> None:
    async with Receiver() as receiver, couriers(webhooks, allow_http=False):
        record = await webhooks.settled(await webhooks.cancelled(receiver.url))
        assert receiver.connections == 0
    assert (record.state, record.tries) == (DeliveryState.DEAD, 1)
    assert "not https" in record.last_error


async def test_secrets_and_bodies_are_not_logged(webhooks: WebhookCell) -> None:
    with capture_logs() as logged:
        async with Receiver(Reply(500), Reply(200)) as receiver, couriers(webhooks):
            task = await webhooks.submitted(receiver.url, metadata={"canary": "tell-nobody"})
            await webhooks.ended(task)
            await webhooks.settled(task, tries=2)
    assert {"webhook_try_failed", "webhook_delivered"} <= {line["event"] for line in logged}
    assert "tell-nobody" not in str(logged)
    assert "whsec_" not in str(logged)


SCHEDULE: Sequence[timedelta] = (timedelta(seconds=5), timedelta(minutes=5))


def waiting(tries: int) -> DeliveryRecord:
    noon = datetime(2027, 3, 1, 12, tzinfo=UTC)
    return DeliveryRecord(
        task_id="t", sequence=3, epoch="e", url="https://a", create_time=noon, tries=tries
    )


@pytest.mark.parametrize(
    ("tries", "outcome", "state", "wait"),
    [
        (0, Outcome(200), DeliveryState.DELIVERED, None),
        (2, Outcome(204), DeliveryState.DELIVERED, None),
        (0, Outcome(500, "no"), DeliveryState.WAITING, timedelta(seconds=5)),
        (1, Outcome(500, "no"), DeliveryState.WAITING, timedelta(minutes=5)),
        (2, Outcome(500, "no"), DeliveryState.DEAD, None),
        (0, Outcome(410, "no", hopeless=True), DeliveryState.DEAD, None),
    ],
)
def test_an_outcome_decides_what_a_delivery_becomes(
    tries: int, outcome: Outcome, state: DeliveryState, wait: timedelta | None
) -> None:
    record, waits = judged(waiting(tries), outcome, schedule=SCHEDULE, jitter=0.5)
    assert (record.state, record.tries, waits) == (state, tries + 1, wait)


def test_what_was_put_off_uses_up_no_try() -> None:
    busy = Outcome(error="no room", put_off=True)
    record, wait = judged(waiting(2), busy, schedule=SCHEDULE, jitter=0.5)
    assert (record.state, record.tries, record.last_error) == (DeliveryState.WAITING, 2, "no room")
    assert wait == timedelta(seconds=6.25)


def test_a_long_error_is_cut() -> None:
    record, _ = judged(waiting(0), Outcome(error="x" * 9000), schedule=SCHEDULE, jitter=0.5)
    assert len(record.last_error) == 500


async def due_now(cell: WebhookCell, task_id: str, url: str) -> None:
    """Make a delivery that waits for hours due."""
    line = f"default/{url}"
    keys = cell.plane.keys
    places = (
        keys.deliveries_due(line),
        keys.delivery_lines("default"),
        keys.delivery_projects,
    )
    for key in places:
        [member] = await cell.plane.store.members(key, limit=1)
        await cell.redis.zadd(key, {member[0]: 0})
