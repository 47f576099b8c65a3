"""What the media library has of a task is shown, and ends no watch twice."""

import pytest

from callsheet.ledger import machine
from callsheet.ledger.model import RegisteredMedia
from callsheet.v1.task_service_pb2 import GetTaskRequest
from tests.support.controls import Client, Plane, events
from tests.support.work import succeeded

MEDIA = (RegisteredMedia("s3://films/a.png", "7"), RegisteredMedia("s3://films/b.png", "8f3"))


async def noted(plane: Plane, client: Client) -> str:
    """Return the id of a task that succeeded and whose media were noted."""
    task_id = await client.submit()
    ended = await succeeded(plane.cell, task_id)
    await plane.cell.writer.change(ended, lambda task: machine.register_media(task, MEDIA))
    return task_id


async def test_registered_media_are_shown_with_their_task(plane: Plane, client: Client) -> None:
    request = GetTaskRequest(task_id=await noted(plane, client))
    found = (await client.tasks.GetTask(request, metadata=client.metadata)).task
    assert [(each.uri, each.payload_media_id) for each in found.media] == [
        ("s3://films/a.png", "7"),
        ("s3://films/b.png", "8f3"),
    ]
    assert found.sequence == 4
    assert found.end_time.ToMicroseconds() < found.update_time.ToMicroseconds()


@pytest.mark.parametrize("after", range(5))
async def test_who_watches_late_is_told_of_them_and_the_watch_ends(
    plane: Plane, client: Client, after: int
) -> None:
    seen = await events(client.watch(await noted(plane, client), after=after))
    assert [event.sequence for event in seen] == list(range(after + 1, 5))
    if seen:
        assert [each.payload_media_id for each in seen[-1].media_registered.media] == ["7", "8f3"]
