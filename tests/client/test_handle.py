"""A task in the hand: its typed result, its end, and what can be asked of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import assert_type

import pytest
from google.protobuf.any_pb2 import Any as PackedMessage
from google.protobuf.message import Message

from callsheet.client import (
    AsyncTaskClient,
    AsyncTaskHandle,
    FailedPrecondition,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    Unavailable,
    Unimplemented,
    WaitTimeout,
)
from callsheet.client.handle import output_of
from callsheet.client.testing import (
    FakeTaskService,
    fail,
    hold,
    hold_pending,
    progress,
    succeed,
)
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.v1 import operations_service_pb2, task_pb2
from tests.client.conftest import QUICK

NOWHERE = "3a2f6c1e-0000-4000-8000-000000000000"


async def test_a_result_is_typed_by_the_output_asked_for(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    fake.script(GenerateImageInput, succeed(GenerateImageOutput(seed=7)))
    handle = await client.submit(GenerateImageInput(prompt="x"), output=GenerateImageOutput)
    assert_type(handle, AsyncTaskHandle[GenerateImageOutput])
    assert (await handle.result()).seed == 7


async def test_without_it_the_result_is_the_message_of_the_task_type(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    fake.script(PingInput, succeed(PingOutput(echo="hello")))
    handle = await client.submit(PingInput())
    assert_type(handle, AsyncTaskHandle[Message])
    assert await handle.result() == PingOutput(echo="hello")


async def test_a_handle_can_be_made_of_an_id(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    fake.script(PingInput, succeed(PingOutput(echo="hello")))
    task_id = (await client.submit(PingInput())).id
    again = client.handle(task_id, output=PingOutput)
    assert (await again.result()).echo == "hello"
    assert again.task.state == task_pb2.TASK_STATE_SUCCEEDED


async def test_an_output_of_another_class_is_a_type_error(client: AsyncTaskClient) -> None:
    task_id = (await client.submit(PingInput())).id
    with pytest.raises(TypeError, match="PingOutput, not a callsheet"):
        await client.handle(task_id, output=GenerateImageOutput).result()


async def test_a_failed_task_raises_its_failure(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    fake.script(
        PingInput, fail(task_pb2.FAILURE_REASON_OUT_OF_MEMORY, message="9 GiB", retryable=True)
    )
    handle = await client.submit(PingInput())
    with pytest.raises(TaskFailed) as failed:
        await handle.result()
    assert failed.value.reason == "OUT_OF_MEMORY"
    assert failed.value.failure.retryable
    assert failed.value.task.id == handle.id
    assert str(failed.value) == f"task {handle.id} failed: OUT_OF_MEMORY: 9 GiB"


async def test_a_cancelled_task_raises_so(fake: FakeTaskService, client: AsyncTaskClient) -> None:
    fake.script(PingInput, hold())
    handle = await client.submit(PingInput())
    await handle.cancel(reason="changed my mind")
    with pytest.raises(TaskCancelled) as cancelled:
        await handle.result()
    assert cancelled.value.reason == "changed my mind"
    assert str(cancelled.value) == f"task {handle.id} was cancelled: changed my mind"


def test_a_task_that_is_not_final_has_no_output() -> None:
    with pytest.raises(ValueError, match="is not final"):
        output_of(task_pb2.Task(id="t", state=task_pb2.TASK_STATE_RUNNING), Message)


def test_an_output_newer_than_this_client_is_told_as_such() -> None:
    task = task_pb2.Task(
        state=task_pb2.TASK_STATE_SUCCEEDED,
        output=PackedMessage(type_url="type.googleapis.com/callsheet.tasks.v9.NewOutput"),
    )
    with pytest.raises(Unimplemented) as refused:
        output_of(task, Message)
    assert refused.value.reason == "OUTPUT_TYPE_UNKNOWN"


async def test_waiting_has_a_timeout_and_tells_what_was_last_seen(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    fake.script(PingInput, progress(3, total=4), hold())
    handle = await client.submit(PingInput())
    with pytest.raises(WaitTimeout) as late:
        await handle.wait(timeout=timedelta(milliseconds=50))
    assert late.value.task_id == handle.id
    assert late.value.task is not None
    assert late.value.task.progress.current == 3
    assert "0.05 seconds" in str(late.value)


async def test_waiting_for_no_time_asks_once(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    fake.script(PingInput, hold())
    handle = await client.submit(PingInput())
    with pytest.raises(WaitTimeout):
        await handle.wait(timeout=timedelta(0))
    assert [call.method for call in fake.calls] == ["SubmitTask", "WaitTask"]


async def test_waiting_survives_a_restart_of_the_server(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    gate = hold()
    fake.script(PingInput, gate, succeed(PingOutput(echo="after")))
    handle = await client.submit(PingInput(), output=PingOutput)
    result = asyncio.create_task(handle.result())
    await fake.stop()
    await fake.start()
    gate.release()
    assert (await result).echo == "after"


async def test_waiting_bears_an_outage_no_longer_than_its_limit(fake: FakeTaskService) -> None:
    fake.refuse("WaitTask", Unavailable("away"), times=100_000)
    async with AsyncTaskClient(
        fake.address, key=fake.key, outage_timeout=timedelta(milliseconds=100), backoff=QUICK
    ) as client:
        handle = await client.submit(PingInput())
        with pytest.raises(Unavailable):
            await handle.wait()


async def test_an_unknown_task_is_not_waited_for(client: AsyncTaskClient) -> None:
    with pytest.raises(TaskNotFound):
        await client.wait(NOWHERE)


async def test_a_pending_task_is_cancelled_at_once(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    fake.script(PingInput, hold_pending())
    handle = await client.submit(PingInput())
    task = await handle.cancel()
    assert task.state == task_pb2.TASK_STATE_CANCELLED
    assert handle.task.state == task_pb2.TASK_STATE_CANCELLED


async def test_a_final_task_cannot_be_cancelled(client: AsyncTaskClient) -> None:
    handle = await client.submit(PingInput())
    await handle.wait()
    with pytest.raises(FailedPrecondition) as refused:
        await handle.cancel()
    assert refused.value.reason == "ILLEGAL_TRANSITION"


async def test_a_cancel_whose_answer_was_lost_is_no_error(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    # Given a pending task, and an answer that is lost after the cancel took effect
    fake.script(PingInput, hold_pending())
    handle = await client.submit(PingInput())
    fake.lose_replies("CancelTask")
    # When it is cancelled, and the second try is refused because the task is final now
    task = await handle.cancel(reason="enough")
    # Then that is what was asked for
    assert task.state == task_pb2.TASK_STATE_CANCELLED
    assert task.cancel_reason == "enough"


async def test_a_failed_task_can_be_retried(fake: FakeTaskService, client: AsyncTaskClient) -> None:
    fake.script(PingInput, fail())
    handle = await client.submit(PingInput(echo="again"), output=PingOutput)
    await handle.wait()
    fake.script(PingInput, succeed(PingOutput(echo="again")))
    # When it is retried, and the first answer is lost
    fake.lose_replies("RetryTask")
    again = await handle.retry()
    # Then there is one new task, of the same type
    assert_type(again, AsyncTaskHandle[PingOutput])
    assert again.task.retry_of == handle.id
    assert (await again.result()).echo == "again"
    assert len(fake.tasks) == 2


async def test_a_task_that_succeeded_cannot_be_retried(client: AsyncTaskClient) -> None:
    handle = await client.submit(PingInput())
    await handle.wait()
    with pytest.raises(FailedPrecondition):
        await handle.retry()


async def test_a_handle_reads_its_task_anew(fake: FakeTaskService, client: AsyncTaskClient) -> None:
    gate = hold()
    fake.script(PingInput, gate)
    handle = await client.submit(PingInput())
    assert handle.task.state == task_pb2.TASK_STATE_PENDING
    gate.release()
    await client.wait(handle.id)
    assert (await handle.get()).state == task_pb2.TASK_STATE_SUCCEEDED
    assert handle.task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert repr(handle) == f"<AsyncTaskHandle {handle.id}>"


async def test_a_list_reads_page_after_page(fake: FakeTaskService, client: AsyncTaskClient) -> None:
    ids = [(await client.submit(PingInput())).id for _ in range(5)]
    listed = [task.id async for task in client.list(page_size=2)]
    assert listed == ids[::-1]
    assert sum(call.method == "ListTasks" for call in fake.calls) == 3


async def test_a_list_obeys_its_filters(fake: FakeTaskService, client: AsyncTaskClient) -> None:
    fake.script(PingInput, fail())
    failed = await client.submit(PingInput())
    await failed.wait()
    image = await client.submit(GenerateImageInput(prompt="x"))
    by_state = [task.id async for task in client.list(state=task_pb2.TASK_STATE_FAILED)]
    by_type = [task.id async for task in client.list(task_type="generate_image")]
    assert (by_state, by_type) == ([failed.id], [image.id])


async def test_operators_see_queues_workers_and_deliveries(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    handle = await client.submit(PingInput())
    fake.workers.append(operations_service_pb2.Worker(id="w1"))
    fake.deliveries.append(operations_service_pb2.Delivery(id="d1", task_id=handle.id))
    fake.deliveries.append(operations_service_pb2.Delivery(id="d2", task_id=NOWHERE))
    assert {queue.name for queue in await client.queues()} >= {"gpu", "system"}
    assert [worker.id for worker in await client.workers()] == ["w1"]
    assert [delivery.id for delivery in await client.deliveries(handle.id)] == ["d1"]


async def test_deliveries_are_listed_by_filter_and_replayed(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    noon = datetime(2027, 3, 1, 12, tzinfo=UTC)
    for number in range(4):
        delivery = operations_service_pb2.Delivery(id=f"d{number}", url=f"https://{number % 2}")
        delivery.state = operations_service_pb2.DELIVERY_STATE_DEAD
        delivery.create_time.FromDatetime(noon + timedelta(hours=number))
        fake.deliveries.append(delivery)
    after = client.list_deliveries(created_after=noon + timedelta(hours=1), state="dead")
    assert [each.id async for each in after] == ["d1", "d2", "d3"]
    to_one = client.list_deliveries(url="https://1", created_before=noon + timedelta(hours=3))
    assert [each.id async for each in to_one] == ["d1"]
    assert await client.replay_deliveries(delivery_id="d0") == 1
    assert await client.replay_deliveries(url="https://1", limit=10) == 2
    assert await client.replay_deliveries(state="dead") == 1
    with pytest.raises(ValueError, match="only one"):
        await client.replay_deliveries(delivery_id="d0", task_id=NOWHERE)
    with pytest.raises(ValueError, match="aware"):
        await client.replay_deliveries(created_after=noon.replace(tzinfo=None))
