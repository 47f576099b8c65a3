"""TaskService over the wire: accepting, reading, listing, waiting, cancelling, repeating."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from callsheet.ledger.model import Failure, FailureReason, Progress, Usage
from callsheet.tasks.v1.ping_pb2 import PingOutput
from callsheet.v1 import task_pb2
from callsheet.v1.task_service_pb2 import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    RetryTaskRequest,
    SubmitTasksRequest,
    WaitTaskRequest,
)
from tests.support.controls import Client, Plane, image_request, ping_request
from tests.support.work import started, succeeded

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_task_is_accepted_as_it_was_asked_for(client: Client) -> None:
    request = ping_request("hello", priority=9, request_id="r-1")
    request.metadata["shot"] = "sc010"
    request.callback.url = "http://127.0.0.1:9/hook"
    request.expire_after.FromTimedelta(timedelta(hours=1))
    metadata = (*client.metadata, ("traceparent", TRACE))
    task = (await client.tasks.SubmitTask(request, metadata=metadata)).task
    assert task.project == "default"
    assert task.spec == request.spec
    assert task.task_type == "ping"
    assert task.state == task_pb2.TASK_STATE_PENDING
    assert (task.sequence, task.attempt, task.priority, task.queue) == (1, 0, 9, "system")
    assert dict(task.metadata) == {"shot": "sc010"}
    assert task.callback.url == "http://127.0.0.1:9/hook"
    assert task.trace_parent == TRACE
    lifetime = task.expire_time.ToDatetime() - task.create_time.ToDatetime()
    assert lifetime == timedelta(hours=1)
    assert not task.HasField("start_time")
    assert not task.HasField("end_time")
    assert task.WhichOneof("result") is None


async def test_what_is_read_is_what_was_answered(plane: Plane, client: Client) -> None:
    accepted = await client.tasks.SubmitTask(ping_request("x"), metadata=client.metadata)
    request = GetTaskRequest(task_id=accepted.task.id)
    found = (await client.tasks.GetTask(request, metadata=client.metadata)).task
    assert found.wait_reason == task_pb2.WAIT_REASON_NO_WORKER
    assert found.queue_position == 0
    assert found.epoch == plane.control.pulse.epoch
    found.ClearField("wait_reason")
    found.ClearField("queue_position")
    assert found == accepted.task


async def test_a_request_repeated_after_a_lost_reply_is_one_task(
    plane: Plane, client: Client
) -> None:
    """The reply is cut after the commit: the caller never reads it, and asks again."""
    request = ping_request("x", request_id="r-1")
    lost = client.tasks.SubmitTask(request, metadata=client.metadata)
    await lost  # committed; its answer is thrown away
    before = await plane.written()
    again = await client.tasks.SubmitTask(request, metadata=client.metadata)
    assert again.task.sequence == 1
    assert await plane.written() == before


async def test_an_invalid_trace_is_replaced_by_a_new_one(client: Client) -> None:
    metadata = (*client.metadata, ("traceparent", "00-nonsense"))
    task = (await client.tasks.SubmitTask(ping_request(), metadata=metadata)).task
    version, trace_id, span_id, _ = task.trace_parent.split("-")
    assert (version, len(trace_id), len(span_id)) == ("00", 32, 16)


async def test_a_batch_answers_each_request_on_its_own(plane: Plane, client: Client) -> None:
    good = ping_request("good")
    requests = [good, image_request(width=65), ping_request(project="elsewhere"), good]
    response = await client.tasks.SubmitTasks(
        SubmitTasksRequest(requests=requests), metadata=client.metadata
    )
    first, wide, foreign, last = response.results
    assert first.task.id != last.task.id
    assert first.task.state == task_pb2.TASK_STATE_PENDING
    assert first.task.HasField("create_time")
    assert not first.task.HasField("spec")
    assert (wide.refusal.code, wide.refusal.reason) == (3, "FIELD_INVALID")
    assert wide.refusal.violations[0].field == "spec.generate_image.width"
    assert (foreign.refusal.code, foreign.refusal.reason) == (5, "PROJECT_NOT_FOUND")
    assert (await plane.written())[1] == 2


async def test_a_batch_of_a_thousand_is_accepted_in_order(client: Client) -> None:
    requests = [ping_request(str(number)) for number in range(1000)]
    response = await client.tasks.SubmitTasks(
        SubmitTasksRequest(requests=requests), metadata=client.metadata
    )
    times = [result.task.create_time.ToNanoseconds() for result in response.results]
    assert len(times) == 1000
    assert times == sorted(times)
    listed = await client.tasks.ListTasks(ListTasksRequest(page_size=200), metadata=client.metadata)
    assert [task.spec.ping.echo for task in listed.tasks] == [
        str(number) for number in range(999, 799, -1)
    ]


async def test_a_batch_repeats_its_requests_by_their_ids(client: Client) -> None:
    requests = [ping_request(str(number), request_id=f"r-{number}") for number in range(300)]
    request = SubmitTasksRequest(requests=requests)
    first = await client.tasks.SubmitTasks(request, metadata=client.metadata)
    again = await client.tasks.SubmitTasks(request, metadata=client.metadata)
    assert [result.task.id for result in again.results] == [
        result.task.id for result in first.results
    ]


async def test_pages_show_every_task_once(client: Client) -> None:
    submitted = [await client.submit() for _ in range(7)]
    found: list[str] = []
    token = ""
    while True:
        request = ListTasksRequest(page_size=3, page_token=token)
        page = await client.tasks.ListTasks(request, metadata=client.metadata)
        found += [task.id for task in page.tasks]
        token = page.next_page_token
        if not token:
            break
    assert found == submitted[::-1]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (task_pb2.TASK_STATE_PENDING, "waiting"),
        (task_pb2.TASK_STATE_CANCELLED, "stopped"),
        (task_pb2.TASK_STATE_SUCCEEDED, "done"),
    ],
)
async def test_a_list_may_be_of_one_state(
    plane: Plane, client: Client, state: task_pb2.TaskState.ValueType, expected: str
) -> None:
    done = await client.submit(ping_request("done"))
    await succeeded(plane.cell, done)
    stopped = await client.submit(ping_request("stopped"))
    await client.tasks.CancelTask(CancelTaskRequest(task_id=stopped), metadata=client.metadata)
    await client.submit(ping_request("waiting"))
    request = ListTasksRequest(state=state, task_type="ping")
    page = await client.tasks.ListTasks(request, metadata=client.metadata)
    assert [task.spec.ping.echo for task in page.tasks] == [expected]


async def test_a_running_task_shows_its_attempt_and_progress(plane: Plane, client: Client) -> None:
    task_id = await client.submit()
    attempts, task = await started(plane.cell, task_id)
    progress = Progress(3, 8, "denoising", datetime(2030, 1, 1, tzinfo=UTC))
    await attempts.keep_progress(task, attempt=1, progress=progress)
    request = GetTaskRequest(task_id=task_id)
    found = (await client.tasks.GetTask(request, metadata=client.metadata)).task
    assert found.state == task_pb2.TASK_STATE_RUNNING
    assert (found.attempt, found.worker) == (1, "worker-1")
    assert found.HasField("start_time")
    assert (found.progress.current, found.progress.total) == (3, 8)
    assert found.progress.percentage == pytest.approx(37.5)
    assert found.wait_reason == task_pb2.WAIT_REASON_UNSPECIFIED
    assert not found.HasField("queue_position")


async def test_a_succeeded_task_has_its_output_and_usage(plane: Plane, client: Client) -> None:
    task_id = await client.submit()
    attempts, task = await started(plane.cell, task_id)
    output = AnyMessage()
    output.Pack(PingOutput(echo="x"))
    usage = Usage(run_seconds=0.5, peak_rss_bytes=7)
    await attempts.succeed(task, attempt=1, output=output.SerializeToString(), usage=usage)
    request = WaitTaskRequest(task_id=task_id)
    found = (await client.tasks.WaitTask(request, metadata=client.metadata)).task
    assert found.state == task_pb2.TASK_STATE_SUCCEEDED
    assert found.output == output
    assert found.usage.run_seconds == pytest.approx(0.5)
    assert found.usage.peak_rss_bytes == 7
    assert found.end_time == found.update_time


async def test_a_task_that_failed_tells_why_and_what_was_tried(
    plane: Plane, client: Client
) -> None:
    task_id = await client.submit()
    attempts, task = await started(plane.cell, task_id)
    lost = Failure(FailureReason.WORKER_LOST, "the runner died")
    await attempts.fail(task, attempt=1, failure=lost)
    attempts, task = await started(plane.cell, task_id)
    bad = Failure(FailureReason.INVALID_INPUT, "cannot be used")
    await attempts.fail(task, attempt=2, failure=bad)
    request = GetTaskRequest(task_id=task_id)
    found = (await client.tasks.GetTask(request, metadata=client.metadata)).task
    assert found.state == task_pb2.TASK_STATE_FAILED
    assert found.failure.reason == task_pb2.FAILURE_REASON_INVALID_INPUT
    assert found.failure.message == "cannot be used"
    assert not found.failure.retryable
    assert [ended.attempt for ended in found.ended_attempts] == [1]
    assert found.ended_attempts[0].failure.reason == task_pb2.FAILURE_REASON_WORKER_LOST


async def test_waiting_returns_when_the_task_is_final(plane: Plane, client: Client) -> None:
    task_id = await client.submit()
    waiting = asyncio.ensure_future(
        client.tasks.WaitTask(WaitTaskRequest(task_id=task_id), metadata=client.metadata)
    )
    await succeeded(plane.cell, task_id)
    assert (await waiting).task.state == task_pb2.TASK_STATE_SUCCEEDED


async def test_waiting_ends_with_its_timeout(client: Client) -> None:
    task_id = await client.submit()
    request = WaitTaskRequest(task_id=task_id)
    request.timeout.FromTimedelta(timedelta(milliseconds=50))
    found = (await client.tasks.WaitTask(request, metadata=client.metadata)).task
    assert found.state == task_pb2.TASK_STATE_PENDING


async def test_waiting_answers_before_the_deadline_of_the_call(client: Client) -> None:
    task_id = await client.submit()
    request = WaitTaskRequest(task_id=task_id)
    request.timeout.FromTimedelta(timedelta(minutes=10))
    call = client.tasks.WaitTask(request, metadata=client.metadata, timeout=3)
    assert (await call).task.state == task_pb2.TASK_STATE_PENDING


async def test_cancelling_twice_changes_nothing(plane: Plane, client: Client) -> None:
    task_id = await client.submit()
    await started(plane.cell, task_id)
    request = CancelTaskRequest(task_id=task_id, reason="changed my mind")
    first = (await client.tasks.CancelTask(request, metadata=client.metadata)).task
    assert first.state == task_pb2.TASK_STATE_RUNNING
    assert (first.cancel_requested, first.cancel_reason) == (True, "changed my mind")
    again = (await client.tasks.CancelTask(request, metadata=client.metadata)).task
    assert again == first


async def test_a_cancelled_task_can_be_asked_for_again(client: Client) -> None:
    task_id = await client.submit(ping_request("again", priority=8))
    await client.tasks.CancelTask(CancelTaskRequest(task_id=task_id), metadata=client.metadata)
    request = RetryTaskRequest(task_id=task_id, request_id="retry-1")
    new = (await client.tasks.RetryTask(request, metadata=client.metadata)).task
    assert new.id != task_id
    assert (new.retry_of, new.spec.ping.echo, new.priority) == (task_id, "again", 8)
    again = (await client.tasks.RetryTask(request, metadata=client.metadata)).task
    assert again.id == new.id


async def test_a_task_that_waits_says_why(plane: Plane, client: Client) -> None:
    first = await client.submit()
    second = await client.submit()
    request = ping_request()
    request.delay.FromTimedelta(timedelta(hours=1))
    later = await client.submit(request)

    async def get(task_id: str) -> task_pb2.Task:
        found = await client.tasks.GetTask(
            GetTaskRequest(task_id=task_id), metadata=client.metadata
        )
        return found.task

    assert (await get(first)).queue_position == 0
    assert (await get(second)).queue_position == 1
    scheduled = await get(later)
    assert scheduled.wait_reason == task_pb2.WAIT_REASON_SCHEDULED
    assert not scheduled.HasField("queue_position")
    wait = scheduled.ready_time.ToDatetime() - scheduled.create_time.ToDatetime()
    assert wait == timedelta(hours=1)
    attempts, task = await started(plane.cell, first)
    failure = Failure(FailureReason.UNAVAILABLE, "the hub is away")
    await attempts.fail(task, attempt=1, failure=failure)
    assert (await get(first)).wait_reason == task_pb2.WAIT_REASON_BACKOFF
