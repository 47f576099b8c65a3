"""Media registration by real sidecars in a real PayloadCMS, each killed at the worst moments."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from redis.asyncio import Redis

from callsheet.artifacts.store import ArtifactStore
from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.delivery_model import DeliveryState
from callsheet.ledger.model import CallbackEvent
from tests.support.eventually import eventually
from tests.support.filming import filmed, picture, with_media
from tests.support.held_proxy import Stop, held_proxy
from tests.support.payload_cms import PayloadCms
from tests.support.processes import room
from tests.support.receiver import Receiver
from tests.support.sidecars import WebhookCell, sidecar_environment, webhook_cell

ROOM = "sidecar"
_DELIVERED = DeliveryState.DELIVERED


@pytest.fixture
def webhooks(redis: Redis, cell: str) -> WebhookCell:
    return webhook_cell(redis, cell)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore((tmp_path / "artifacts").as_uri())


@pytest.fixture
def environment(
    payload: PayloadCms, valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> Mapping[str, str]:
    return {
        **sidecar_environment(valkey_server.url, cell, tmp_path),
        **payload.settings,
        "CALLSHEET_PAYLOAD_RETRY_SECONDS": ",".join(["0.1"] * 30),
        "CALLSHEET_PAYLOAD_TIME_LIMIT_SECONDS": "5",
        "CALLSHEET_WEBHOOK_TIME_LIMIT_SECONDS": "20",
    }


async def test_payload_gets_the_media_and_then_the_webhook_that_names_it(
    webhooks: WebhookCell,
    store: ArtifactStore,
    environment: Mapping[str, str],
    payload: PayloadCms,
) -> None:
    pictures = [picture(), picture()]
    with room(ROOM, environment):
        task = await filmed(webhooks, store, url=payload.webhooks, pictures=pictures)
        noted = await with_media(webhooks, task)
        record = await webhooks.settled(task)
    # Then each artifact has its document, with the very bytes
    documents = payload.media_of(task.id)
    assert [document["sourceUrl"] for document in documents] == [each.uri for each in noted.media]
    assert [str(document["id"]) for document in documents] == [
        each.payload_media_id for each in noted.media
    ]
    for document, content in zip(documents, pictures, strict=True):
        assert (payload.folder / "media" / document["filename"]).read_bytes() == content
        assert (document["project"], document["mimeType"]) == ("default", "image/png")
        assert document["alt"] == f"ping {task.id}"
    # And the webhook came after, and leads to the first of them
    assert (record.tries, record.last_status, record.as_of) == (1, 200, noted.sequence)
    shown = payload.task(task.id)
    assert shown is not None
    assert shown["media"]["id"] == documents[0]["id"]
    assert shown["result"]["payload_media_id"] == str(documents[0]["id"])
    assert shown["mediaUrl"] == noted.media[0].uri


async def test_a_sidecar_killed_when_the_upload_was_done_but_not_answered_makes_no_second_one(
    webhooks: WebhookCell,
    store: ArtifactStore,
    environment: Mapping[str, str],
    payload: PayloadCms,
) -> None:
    files = len(payload.files)
    async with held_proxy(payload.port) as proxy:
        proxy.stop = Stop.ANSWERED
        with room(ROOM, {**environment, "PAYLOAD_API_URL": proxy.url}) as first:
            task = await filmed(webhooks, store, url=payload.webhooks)
            await proxy.stopped()
            first.kill()
    with room(ROOM, environment):
        noted = await with_media(webhooks, task)
        await webhooks.settled(task)
    (document,) = payload.media_of(task.id)
    assert [each.payload_media_id for each in noted.media] == [str(document["id"])]
    assert len(payload.files) == files + 1
    shown = payload.task(task.id)
    assert shown is not None
    assert shown["media"]["id"] == document["id"]


async def test_a_sidecar_killed_halfway_through_an_upload_loses_nothing(
    webhooks: WebhookCell,
    store: ArtifactStore,
    environment: Mapping[str, str],
    payload: PayloadCms,
) -> None:
    async with held_proxy(payload.port) as proxy:
        proxy.stop = Stop.HALFWAY
        with room(ROOM, {**environment, "PAYLOAD_API_URL": proxy.url}) as first:
            task = await filmed(webhooks, store, pictures=[picture(), picture()])
            await proxy.stopped()
            first.kill()
    with room(ROOM, environment):
        noted = await with_media(webhooks, task)
    assert len(noted.media) == len(payload.media_of(task.id)) == 2


@pytest.mark.parametrize("stop", [Stop.HALFWAY, Stop.ANSWERED])
async def test_a_payload_killed_in_an_upload_is_waited_for_and_gets_it_once(
    webhooks: WebhookCell,
    store: ArtifactStore,
    environment: Mapping[str, str],
    payload: PayloadCms,
    stop: Stop,
) -> None:
    """The webhook goes out meanwhile, without a document; no second one follows."""
    settings = {**environment, "CALLSHEET_MEDIA_WAIT_SECONDS": "0.3"}
    async with held_proxy(payload.port) as proxy, Receiver() as receiver:
        proxy.stop = stop
        with room(ROOM, {**settings, "PAYLOAD_API_URL": proxy.url}):
            pictures = [picture(), picture()]
            task = await filmed(webhooks, store, url=receiver.url, pictures=pictures)
            await proxy.stopped()
            await asyncio.to_thread(payload.kill)
            (received,) = await receiver.arrived()
            proxy.stop = Stop.NOWHERE
            await asyncio.to_thread(payload.start)
            noted = await with_media(webhooks, task)
            record = await webhooks.settled(task)
        assert len(receiver.received) == 1
    assert received.json()["status"] == "completed"
    assert received.json()["result"]["payload_media_id"] is None
    assert record.as_of == 0
    documents = payload.media_of(task.id)
    assert [each.payload_media_id for each in noted.media] == [
        str(document["id"]) for document in documents
    ]
    assert len(documents) == 2


async def test_sidecars_share_the_work_and_the_same_bytes_are_one_document(
    webhooks: WebhookCell,
    store: ArtifactStore,
    environment: Mapping[str, str],
    payload: PayloadCms,
) -> None:
    files = len(payload.files)
    same = picture()
    with room(ROOM, environment) as first, room(ROOM, environment):
        tasks = [await filmed(webhooks, store, pictures=[same]) for _ in range(6)]
        await with_media(webhooks, tasks[0])
        first.kill()
        noted = [await with_media(webhooks, task) for task in tasks]
    assert len({task.media[0].payload_media_id for task in noted}) == 1
    assert len({task.media[0].uri for task in noted}) == 6
    assert len(payload.files) == files + 1


async def test_a_payload_killed_between_two_webhooks_takes_each_once_under_its_id(
    webhooks: WebhookCell, environment: Mapping[str, str], payload: PayloadCms
) -> None:
    settings = {**environment, "CALLSHEET_WEBHOOK_RETRY_SECONDS": ",".join(["1"] * 30)}
    with room(ROOM, settings):
        waiting = await webhooks.submitted(payload.webhooks, events=[CallbackEvent.STARTED])
        task = await webhooks.started(waiting)

        async def is_told() -> bool:
            return [each.state for each in await webhooks.of_task(task.id)] == [_DELIVERED]

        await eventually(is_told)
        await asyncio.to_thread(payload.kill)
        ended = await webhooks.ended_by(task)

        async def was_refused() -> bool:
            return (await webhooks.of_task(task.id))[-1].tries > 0

        await eventually(was_refused)
        await asyncio.to_thread(payload.start)

        async def is_over() -> bool:
            return [each.state for each in await webhooks.of_task(task.id)] == [_DELIVERED] * 2

        await eventually(is_over)
    started, completed = await webhooks.of_task(task.id)
    assert (started.tries, completed.sequence) == (1, ended.sequence)
    assert payload.taken(task.id) == [started.id, completed.id]
    shown = payload.task(task.id)
    assert shown is not None
    assert (shown["status"], shown["sequence"]) == ("completed", ended.sequence)
