"""The registrar: what becomes of media at a PayloadCMS of every temper."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from callsheet.artifacts.store import ArtifactStore
from callsheet.tasks.v1.artifact_pb2 import ARTIFACT_ROLE_THUMBNAIL
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageOutput
from tests.support.eventually import eventually
from tests.support.faulty_payload import FaultyPayload
from tests.support.filming import filmed, picture, stored, with_media
from tests.support.receiver import Reply
from tests.support.registering import (
    HOUR,
    LARGEST,
    MOMENT,
    SECOND,
    TERMS,
    registering,
    to_register,
)
from tests.support.sidecars import WebhookCell

TOO_LARGE = Reply(413, body=b'{"errors": [{"message": "File size limit", "data": {"size": 9}}]}')


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore((tmp_path / "artifacts").as_uri())


async def logged(lines: Sequence[Any], event: str) -> Any:  # noqa: ANN401  # as structlog has it
    """Return the first line of that event once there is one."""

    async def found() -> Any:  # noqa: ANN401  # as structlog has it
        return next((line for line in lines if line["event"] == event), None)

    return await eventually(found)


async def is_done(cell: WebhookCell) -> bool:
    """Whether nothing is to be registered any more, nor ever will be."""
    return await cell.plane.store.count(cell.plane.keys.media_due) == 0


async def test_media_are_noted_with_their_task(webhooks: WebhookCell, store: ArtifactStore) -> None:
    async with FaultyPayload() as payload:
        pictures = [picture(), picture()]
        task = await to_register(webhooks, await filmed(webhooks, store, pictures=pictures))
        async with registering(webhooks, store, payload):
            noted = await with_media(webhooks, task)
            await eventually(lambda: is_done(webhooks))
    assert [each.payload_media_id for each in noted.media] == ["1", "2"]
    for media, document, content in zip(noted.media, payload.documents, pictures, strict=True):
        assert content in document.body
        assert document.fields["sourceHash"].startswith("default:sha256:")
        assert document.fields["taskId"] == task.id
        assert document.fields["sourceUrl"] == media.uri


async def test_what_goes_with_an_artifact_is_not_registered(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    async with FaultyPayload() as payload:
        task = await webhooks.submitted("")
        image, small = (stored(store, task, picture()) for _ in range(2))
        small.role = ARTIFACT_ROLE_THUMBNAIL
        output = GenerateImageOutput(images=[image], thumbnails=[small])
        task = await to_register(webhooks, await webhooks.ended(task, output=output))
        async with registering(webhooks, store, payload):
            noted = await with_media(webhooks, task)
            await eventually(lambda: is_done(webhooks))
    assert [each.uri for each in noted.media] == [image.uri]
    assert len(payload.documents) == 1


async def test_trouble_that_passes_is_borne_by_the_schedule(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    troubles = [Reply(500), Reply(503), Reply(cut=True), Reply(502, body=b"<html>")]
    async with FaultyPayload(searches=troubles, uploads=[Reply(500)]) as payload:
        task = await to_register(webhooks, await filmed(webhooks, store), waits=True)
        with capture_logs() as lines:
            async with registering(webhooks, store, payload):
                await with_media(webhooks, task)
                done = await logged(lines, "media_registered")
    assert done["tries"] == 4
    assert {"payload_away", "payload_back"} <= {line["event"] for line in lines}
    # And the webhook went on waiting: it might have been over in a minute
    assert (await webhooks.media.released(limit=9)).task_ids == ()


async def test_an_upload_whose_answer_was_lost_is_found_and_not_made_again(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    async with FaultyPayload(uploads=[Reply(cut=True)], makes_despite=True) as payload:
        task = await to_register(webhooks, await filmed(webhooks, store))
        async with registering(webhooks, store, payload):
            noted = await with_media(webhooks, task)
    assert [each.payload_media_id for each in noted.media] == ["1"]
    assert len(payload.documents) == 1


async def test_an_upload_that_may_still_be_worked_on_is_searched_for_and_not_made_again(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    """A second one at the same time would leave a file without a document behind."""
    async with FaultyPayload(uploads=[Reply(cut=True)], makes_despite=True) as payload:
        payload.hides = True
        task = await to_register(webhooks, await filmed(webhooks, store))
        async with registering(webhooks, store, payload, settling=HOUR):
            await payload.arrived(6)
            payload.hides = False
            noted = await with_media(webhooks, task)
    assert [each.payload_media_id for each in noted.media] == ["1"]
    assert sum(b"form-data" in each.body for each in payload.received) == 1


async def test_a_file_that_payload_fails_at_does_not_hold_up_others(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    """Neither another artifact of its task, nor another task."""
    poison = [Reply(500), Reply(504), Reply(cut=True)]
    async with FaultyPayload(uploads=poison) as payload:
        task = await filmed(webhooks, store, pictures=[picture() for _ in range(4)])
        with capture_logs() as lines:
            async with registering(webhooks, store, payload):
                await to_register(webhooks, task)
                await logged(lines, "media_try_failed")
                assert len(payload.documents) == 1
                await with_media(webhooks, task)
    assert len(payload.documents) == 4
    assert "payload_away" not in {line["event"] for line in lines}


async def test_while_payload_is_away_it_is_asked_by_one_task_at_a_time(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    async with FaultyPayload(searches=[Reply(503)] * 1000) as payload:
        tasks = [await filmed(webhooks, store) for _ in range(9)]
        with capture_logs() as lines:
            async with registering(webhooks, store, payload):
                await to_register(webhooks, tasks[0])
                await logged(lines, "payload_away")
                for task in tasks:
                    await to_register(webhooks, task)
                await payload.arrived(8)
    # Two at the same time would have needed a second connection
    assert payload.connections == 1


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [(TOO_LARGE, "answered 413"), (Reply(403), "answered 403"), (Reply(400), "answered 400")],
)
async def test_a_refusal_lets_the_webhook_go_and_is_given_up_after_the_schedule(
    webhooks: WebhookCell, store: ArtifactStore, refusal: Reply, reason: str
) -> None:
    terms = replace(TERMS, schedule=(MOMENT,))
    async with FaultyPayload(uploads=[refusal] * 2) as payload:
        task = await to_register(webhooks, await filmed(webhooks, store), waits=True)
        with capture_logs() as lines:
            async with registering(webhooks, store, payload, terms=terms):
                failed = await logged(lines, "media_try_failed")
                given_up = await logged(lines, "media_given_up")
    assert reason in failed["reason"]
    assert (given_up["task_id"], given_up["tries"], given_up["documents"]) == (task.id, 2, 0)
    assert (await webhooks.media.released(limit=9)).task_ids == (task.id,)
    assert await is_done(webhooks)


async def test_what_can_be_registered_is_noted_when_the_rest_is_given_up(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    terms = replace(TERMS, schedule=(MOMENT,))
    pictures = [picture(), picture() + b"\0" * LARGEST, picture()]
    async with FaultyPayload() as payload:
        task = await filmed(webhooks, store, pictures=pictures)
        await to_register(webhooks, task)
        with capture_logs() as lines:
            async with registering(webhooks, store, payload, terms=terms):
                noted = await with_media(webhooks, task)
                given_up = await logged(lines, "media_given_up")
    assert "CALLSHEET_PAYLOAD_LARGEST_BYTES" in given_up["reason"]
    assert given_up["documents"] == 2
    assert [each.payload_media_id for each in noted.media] == ["1", "2"]
    assert len(payload.documents) == 2


async def test_what_is_there_is_noted_at_once_when_another_artifact_is_refused(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    """So the webhook tells of the first document, and what is registered later is added."""
    terms = replace(TERMS, schedule=(HOUR,))
    pictures = [picture(), picture()]
    async with FaultyPayload(uploads=[Reply(201), TOO_LARGE]) as payload:
        task = await filmed(webhooks, store, pictures=pictures)
        await to_register(webhooks, task, waits=True)
        with capture_logs() as lines:
            async with registering(webhooks, store, payload, terms=terms):
                await logged(lines, "media_try_failed")
                noted = await webhooks.plane.writer.read(task.id)
                # The fact lets the webhook go, not the clock
                assert (await webhooks.media.released(limit=9)).task_ids == ()
                await webhooks.redis.zadd(webhooks.plane.keys.media_due, {task.id: 0})
                await eventually(lambda: is_done(webhooks))
    assert [each.payload_media_id for each in noted.media] == ["1"]
    whole = await webhooks.plane.writer.read(task.id)
    assert [each.payload_media_id for each in whole.media] == ["1", "2"]
    assert (len(payload.documents), whole.sequence) == (2, noted.sequence + 1)


async def test_a_lease_that_is_shorter_than_a_slow_request_is_renewed(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    hangs = Reply(after=asyncio.Event())
    terms = replace(TERMS, lease=SECOND / 5)
    async with FaultyPayload(uploads=[hangs]) as payload:
        task = await to_register(webhooks, await filmed(webhooks, store))
        with capture_logs() as lines:
            async with registering(webhooks, store, payload, terms=terms, time_limit=SECOND):
                await payload.arrived(2)
                assert (await webhooks.media.claim(limit=9, lease=HOUR)).tasks == ()
                await with_media(webhooks, task)
    assert "media_lease_lost" not in {line["event"] for line in lines}


async def test_a_task_whose_lease_was_lost_is_let_go(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    """As after a long stop of the process: whoever has the lease now may be at it."""
    hangs = Reply(after=asyncio.Event())
    terms = replace(TERMS, lease=SECOND / 5)
    async with FaultyPayload(searches=[hangs]) as payload:
        task = await to_register(webhooks, await filmed(webhooks, store))
        with capture_logs() as lines:
            async with registering(webhooks, store, payload, terms=terms):
                await payload.arrived(1)
                await webhooks.redis.zadd(webhooks.plane.keys.media_due, {task.id: 4e15})
                lost = await logged(lines, "media_lease_lost")
    assert lost["task_id"] == task.id
    assert (await webhooks.plane.writer.read(task.id)).media == ()


async def test_the_same_bytes_of_two_tasks_are_not_uploaded_at_the_same_time(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    same, answer = picture(), asyncio.Event()
    async with FaultyPayload(uploads=[Reply(201, after=answer)], makes_despite=True) as payload:
        tasks = [await filmed(webhooks, store, pictures=[same]) for _ in range(2)]
        async with registering(webhooks, store, payload):
            await to_register(webhooks, tasks[0])
            await payload.arrived(2)
            payload.hides = True
            await to_register(webhooks, tasks[1])
            await payload.arrived(3)
            payload.hides = False
            answer.set()
            noted = [await with_media(webhooks, task) for task in tasks]
    assert [task.media[0].payload_media_id for task in noted] == ["1", "1"]
    assert len(payload.documents) == 1


@pytest.mark.parametrize("change", ["gone", "other bytes", "other project", "no key"])
async def test_an_artifact_that_is_not_what_the_task_made_is_never_uploaded(
    webhooks: WebhookCell, store: ArtifactStore, tmp_path: Path, change: str
) -> None:
    task = await webhooks.submitted("")
    artifact = stored(store, task, picture())
    path = tmp_path / "artifacts" / artifact.key
    match change:
        case "gone":
            path.unlink()
        case "other bytes":
            path.write_bytes(b"forged")
        case "other project":
            artifact.key = artifact.key.replace("/default/", "/elsewhere/")
        case _:
            artifact.key = "../../etc/passwd"
    await webhooks.ended(task, output=GenerateImageOutput(images=[artifact]))
    await to_register(webhooks, task, waits=True)
    async with FaultyPayload() as payload:
        with capture_logs() as lines:
            async with registering(webhooks, store, payload):
                await logged(lines, "media_try_failed")
    assert payload.documents == []
    assert (await webhooks.media.released(limit=9)).task_ids == (task.id,)


async def test_work_on_a_task_that_has_its_media_or_is_gone_is_no_work(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    async with FaultyPayload() as payload:
        task = await filmed(webhooks, store)
        async with registering(webhooks, store, payload):
            await with_media(webhooks, await to_register(webhooks, task))
            await eventually(lambda: is_done(webhooks))
            await to_register(webhooks, task)
            await webhooks.media.add({"3f2504e0-4f89-41d3-9a0c-0305e82c3301": None})
            await eventually(lambda: is_done(webhooks))
    # It is asked, asked again once nobody else can be at it, and gets the upload; and that was all
    assert len(payload.received) == 3


async def test_a_registrar_told_to_stop_ends_what_is_in_flight(
    webhooks: WebhookCell, store: ArtifactStore
) -> None:
    answer = asyncio.Event()
    async with FaultyPayload(uploads=[Reply(201, after=answer)], makes_despite=True) as payload:
        task = await to_register(webhooks, await filmed(webhooks, store))
        async with registering(webhooks, store, payload) as stop:
            await payload.arrived(2)
            stop.set()
            answer.set()
    assert (await webhooks.plane.writer.read(task.id)).media[0].payload_media_id == "1"
