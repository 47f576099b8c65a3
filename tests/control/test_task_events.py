"""ListTaskEvents: the facts of a task, from anywhere on, as its watchers get them."""

from grpc import StatusCode

from callsheet.v1.task_service_pb2 import ListTaskEventsRequest, ListTaskEventsResponse
from tests.support.controls import Client, Plane, events, refusal
from tests.support.work import succeeded, tossed


async def history(client: Client, task_id: str, *, after: int = 0) -> ListTaskEventsResponse:
    return await client.tasks.ListTaskEvents(
        ListTaskEventsRequest(task_id=task_id, after_sequence=after), metadata=client.metadata
    )


async def test_the_facts_are_those_that_a_watcher_gets(plane: Plane, client: Client) -> None:
    task_id = await client.submit()
    await tossed(plane.cell, task_id, times=2)
    await succeeded(plane.cell, task_id)
    watched = await events(client.watch(task_id))
    for after in range(len(watched) + 1):
        found = await history(client, task_id, after=after)
        assert list(found.events) == watched[after:]
        assert not found.has_more


async def test_many_facts_come_page_by_page(plane: Plane, client: Client) -> None:
    task_id = await client.submit()
    await tossed(plane.cell, task_id, times=130)
    first = await history(client, task_id)
    assert [each.sequence for each in first.events] == list(range(1, 257))
    assert first.has_more
    last = await history(client, task_id, after=256)
    assert [each.sequence for each in last.events] == list(range(257, 262))
    assert not last.has_more


async def test_a_sequence_that_the_task_has_not_reached_is_refused(client: Client) -> None:
    task_id = await client.submit()
    told = await refusal(history(client, task_id, after=2))
    assert (told.code, told.reason) == (StatusCode.OUT_OF_RANGE, "SEQUENCE_AHEAD")
