"""An S3 that is killed and comes back empty-handed in mid-flow: nothing is lost, nothing double."""

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from callsheet.artifacts.errors import ArtifactStoreError
from callsheet.artifacts.store import ArtifactStore
from callsheet.ledger.codec import parse_event
from callsheet.ledger.model import Task
from callsheet.sidecar.media_registrar import RegistrarTerms
from tests.support.buckets import Bucket, S3Process, new_bucket, s3_process
from tests.support.faulty_payload import FaultyPayload
from tests.support.filming import filmed, picture, stored, with_media
from tests.support.held_proxy import HeldProxy, Stop, held_proxy
from tests.support.registering import registering, to_register
from tests.support.sidecars import WebhookCell

#: Patient enough for a start of the process.
TERMS = RegistrarTerms(
    schedule=(timedelta(milliseconds=200),) * 200,
    lease=timedelta(seconds=30),
    retention=timedelta(hours=1),
)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Process]:
    with s3_process() as server:
        yield server


def behind(proxy: HeldProxy, bucket: Bucket) -> ArtifactStore:
    """Return the store that reaches the bucket through the proxy."""
    return ArtifactStore(bucket.url, s3=replace(bucket.access, endpoint=proxy.origin))


async def restarted(s3: S3Process, proxy: HeldProxy, bucket: Bucket) -> None:
    """Kill the process, let requests pass from now on, and bring it back with an empty bucket."""
    await asyncio.to_thread(s3.kill)
    proxy.stop = Stop.NOWHERE
    await asyncio.to_thread(s3.start)
    await asyncio.to_thread(new_bucket, s3.endpoint, name=bucket.name)


def source_hash(content: bytes) -> str:
    return f"default:sha256:{hashlib.sha256(content).hexdigest()}"


async def facts_of(cell: WebhookCell, task: Task) -> list[str | None]:
    """Return the kinds of the task's facts."""
    facts = await cell.plane.store.facts(task.id, after=0, limit=50)
    return [parse_event(each).WhichOneof("fact") for each in facts]


async def test_an_s3_killed_while_an_artifact_is_fetched_costs_nothing_but_delay(
    webhooks: WebhookCell, s3: S3Process
) -> None:
    bucket, content = new_bucket(s3.endpoint), picture()
    async with held_proxy(s3.port, stops=b"GET /") as proxy, FaultyPayload() as payload:
        direct = ArtifactStore(bucket.url, s3=bucket.access)
        task = await filmed(webhooks, direct, pictures=[content])
        proxy.stop = Stop.ANSWERED
        async with registering(webhooks, behind(proxy, bucket), payload, terms=TERMS):
            await to_register(webhooks, task)
            await proxy.stopped()
            # Nobody else with the same bytes waits for a fetch
            assert not await webhooks.media.is_locked(source_hash(content), "another task")
            await restarted(s3, proxy, bucket)
            await asyncio.to_thread(stored, direct, task, content)
            noted = await with_media(webhooks, task)
    (document,) = payload.documents
    assert content in document.body
    assert [each.payload_media_id for each in noted.media] == ["1"]
    assert (await facts_of(webhooks, task)).count("media_registered") == 1


async def test_an_s3_killed_while_an_artifact_is_stored_has_it_once_when_it_is_put_again(
    webhooks: WebhookCell, s3: S3Process
) -> None:
    """As an attempt does that is told of the store: the same bytes have the same key."""
    bucket, content = new_bucket(s3.endpoint), picture() + bytes(100_000)
    task = await webhooks.submitted("")
    async with held_proxy(s3.port, stops=b"PUT /") as proxy:
        store = behind(proxy, bucket)
        proxy.stop = Stop.HALFWAY
        putting = asyncio.create_task(asyncio.to_thread(stored, store, task, content))
        await proxy.stopped()
        await restarted(s3, proxy, bucket)
        try:
            kept = await putting
        except ArtifactStoreError:
            kept = await asyncio.to_thread(stored, store, task, content)
        again = await asyncio.to_thread(stored, store, task, content)
        assert again == kept
        project = task.submission.project
        assert [kept.key] == await asyncio.to_thread(store.list_keys, project, task.id)
        assert await asyncio.to_thread(store.get, kept.key) == content
