"""Reuse over the wire, and through the death of the process that answers."""

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from grpc import aio
from redis.asyncio import Redis

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.keys import create_key
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageOutput
from callsheet.v1 import task_pb2
from callsheet.v1.operations_service_pb2 import ListQueuesRequest
from callsheet.v1.task_service_pb2 import (
    REUSE_MODE_RESULT,
    REUSE_MODE_RESULT_OR_JOIN,
    SUBMIT_OUTCOME_CREATED,
    SUBMIT_OUTCOME_JOINED,
    SUBMIT_OUTCOME_REPEATED,
    SUBMIT_OUTCOME_REUSED,
    SUBMIT_OUTCOME_UNSPECIFIED,
    GetTaskRequest,
    SubmitTaskRequest,
    SubmitTaskResponse,
    SubmitTasksRequest,
)
from tests.support.controls import ALL_ROLES, Client, Plane, events, image_request
from tests.support.ledgers import redis_cell
from tests.support.planes import free_address
from tests.support.processes import Room
from tests.support.reusing import SCORE, succeed

RESULT, JOIN = REUSE_MODE_RESULT, REUSE_MODE_RESULT_OR_JOIN


def request(mode: int = RESULT, *, request_id: str = "", **fields: object) -> SubmitTaskRequest:
    """Return a submission of an image whose output follows from what it says."""
    made = image_request(**{"seed": 7, **fields})
    made.request_id = request_id
    made.reuse.mode = mode  # pyright: ignore[reportAttributeAccessIssue]  # an open enum
    return made


async def submit(client: Client, asked: SubmitTaskRequest) -> SubmitTaskResponse:
    return await client.tasks.SubmitTask(asked, metadata=client.metadata)


async def test_the_answer_says_how_it_came_to(plane: Plane, client: Client) -> None:
    # Given a task in flight, and one that joins it
    made = await submit(client, request(JOIN, request_id="r-1"))
    joined = await submit(client, request(JOIN))
    repeated = await submit(client, request(JOIN, request_id="r-1"))
    source = await succeed(plane.cell, made.task.id)
    # When it has succeeded, then an equal one has too
    reused = await submit(client, request(width=64))
    assert [each.outcome for each in (made, joined, repeated, reused)] == [
        SUBMIT_OUTCOME_CREATED,
        SUBMIT_OUTCOME_JOINED,
        SUBMIT_OUTCOME_REPEATED,
        SUBMIT_OUTCOME_REUSED,
    ]
    assert made.task.id == joined.task.id == repeated.task.id
    task = reused.task
    assert (task.state, task.attempt) == (task_pb2.TASK_STATE_SUCCEEDED, 0)
    assert task.reused_from == source.id
    assert not task.HasField("usage")
    assert task.quality.measure == SCORE.measure
    output = GenerateImageOutput()
    assert task.output.Unpack(output)
    assert output.images[0].key == f"{source.id}.png"
    # And who watches it sees both facts, and then the end
    told = await events(client.watch(task.id))
    assert [event.WhichOneof("event") for event in told] == ["task_submitted", "task_succeeded"]
    assert told[1].task_succeeded.reused_from == source.id
    # And what is read is what was answered
    read = await client.tasks.GetTask(GetTaskRequest(task_id=task.id), metadata=client.metadata)
    assert read.task == task


async def test_what_follows_from_more_than_it_says_is_made_anew(
    plane: Plane, client: Client
) -> None:
    unsown = image_request()
    unsown.reuse.mode = JOIN
    before = await plane.written()
    for _ in range(2):
        assert (await submit(client, unsown)).outcome == SUBMIT_OUTCOME_CREATED
    keys = await RedisConnection(plane.redis).command("KEYS", f"{plane.cell.keys.prefix}reuse*")
    assert keys == []
    assert before[1] + 2 == (await plane.written())[1]


async def test_a_batch_tells_of_each_item(plane: Plane, client: Client) -> None:
    await succeed(plane.cell, (await submit(client, request(prompt="a fox"))).task.id)
    asked = [
        request(prompt="a fox"),
        request(JOIN, prompt="a hen"),
        request(JOIN, prompt="a hen"),
        image_request(width=65),
        image_request(),
    ]
    answer = await client.tasks.SubmitTasks(
        SubmitTasksRequest(requests=asked), metadata=client.metadata
    )
    assert [result.outcome for result in answer.results] == [
        SUBMIT_OUTCOME_REUSED,
        SUBMIT_OUTCOME_CREATED,
        SUBMIT_OUTCOME_JOINED,
        SUBMIT_OUTCOME_UNSPECIFIED,
        SUBMIT_OUTCOME_CREATED,
    ]
    assert answer.results[0].task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert answer.results[3].HasField("refusal")


async def test_another_project_gets_nothing(plane: Plane, client: Client) -> None:
    stranger = await plane.newcomer(projects=frozenset({"elsewhere"}))
    await succeed(plane.cell, (await submit(client, request())).task.id)
    await submit(client, request(JOIN, prompt="a hen"))
    for asked in (request(), request(JOIN, prompt="a hen")):
        answer = await submit(stranger, asked)
        assert answer.outcome == SUBMIT_OUTCOME_CREATED
        assert (answer.task.project, answer.task.reused_from) == ("elsewhere", "")


async def test_operators_see_how_often_it_helped(plane: Plane, client: Client) -> None:
    task_id = (await submit(client, request(JOIN))).task.id
    await submit(client, request(JOIN))
    await succeed(plane.cell, task_id)
    for _ in range(2):
        await submit(client, request())
    answer = await client.operations.ListQueues(ListQueuesRequest(), metadata=client.metadata)
    counts = {queue.name: list(queue.reuse) for queue in answer.queues}
    assert counts["system"] == []
    (count,) = counts["gpu"]
    assert (count.task_type, count.hits, count.misses, count.joins) == ("generate_image", 2, 1, 1)


@pytest.mark.parametrize("mode", [9, -1])
async def test_a_mode_that_is_none_is_refused(client: Client, mode: int) -> None:
    with pytest.raises(aio.AioRpcError, match=r"reuse\.mode"):
        await submit(client, request(mode))


async def test_killed_in_mid_flow_every_request_is_answered_once(
    valkey_server: EmbeddedValkey, redis: Redis, cell: str, tmp_path: Path
) -> None:
    """Requests repeated until they are answered: by one task each, whole, and counted once."""
    connection = RedisConnection(redis, patience=timedelta(seconds=30))
    behind, address = redis_cell(connection, cell), free_address()
    _, key = await create_key(redis, cell=cell, projects=frozenset({"default"}), roles=ALL_ROLES)
    environment = {
        "REDIS_URL": valkey_server.url,
        "CALLSHEET_CELL": cell,
        "CALLSHEET_STATE_DIR": str(tmp_path),
        "CALLSHEET_GRPC_ADDRESS": address,
    }
    control = Room("control", environment).await_ready()
    try:
        async with aio.insecure_channel(address) as channel:
            client = Client(channel, key)
            source = await succeed(behind, (await submit(client, request())).task.id)
            first = await submit(client, request(JOIN, prompt="a hen"))

            async def answered(number: int) -> SubmitTaskResponse:
                joins = number % 2
                asked = request(
                    JOIN if joins else RESULT,
                    prompt="a hen" if joins else "a lighthouse",
                    request_id=f"r-{number}",
                )
                while True:
                    try:
                        return await client.tasks.SubmitTask(
                            asked, metadata=client.metadata, timeout=20, wait_for_ready=True
                        )
                    except aio.AioRpcError:
                        continue  # it was killed: the same request again, once it is back

            asking = [asyncio.create_task(answered(number)) for number in range(300)]
            await _done(asking, 0.4)
            control.kill()
            control = Room("control", environment)
            await asyncio.to_thread(control.await_ready)
            answers = await asyncio.gather(*asking)
    finally:
        control.kill()
    joined = [answer.task.id for answer in answers[1::2]]
    assert set(joined) == {first.task.id}
    reused = [answer.task for answer in answers[::2]]
    assert len({task.id for task in reused}) == 150
    for task in reused:
        assert (task.state, task.reused_from) == (task_pb2.TASK_STATE_SUCCEEDED, source.id)
        assert (await behind.folded(task.id)).sequence == 2
    assert Counter(task.sequence for task in reused) == {2: 150}
    counts = await behind.store.counts(behind.keys.reuse_counts)
    assert counts["generate_image:hits"] == 150
    assert counts["generate_image:misses"] == 2


async def _done(tasks: list["asyncio.Task[SubmitTaskResponse]"], share: float) -> None:
    """Return when that share of the tasks is done."""
    pending = set(tasks)
    while len(tasks) - len(pending) < share * len(tasks):
        _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
