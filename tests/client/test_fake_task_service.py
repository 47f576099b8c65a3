"""The fake plane keeps the promises of the contract that a test may lean on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from callsheet.client import (
    AsyncTaskClient,
    DataLoss,
    InvalidArgument,
    TaskNotFound,
)
from callsheet.client.errors import from_rpc_error
from callsheet.client.testing import FakeTaskService, Hold, fail, fail_attempt, progress, succeed
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc
from callsheet.v1.task_spec_pb2 import TaskSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from callsheet.v1.task_service_pb2_grpc import TaskServiceAsyncStub

NOWHERE = "3a2f6c1e-0000-4000-8000-000000000000"


@pytest.fixture
async def stub(fake: FakeTaskService) -> AsyncIterator[TaskServiceAsyncStub]:
    """The raw stub, without a key."""
    async with grpc.aio.insecure_channel(fake.address) as channel:
        yield task_service_pb2_grpc.TaskServiceStub(channel)


async def test_without_a_script_a_task_succeeds_with_an_empty_output(
    client: AsyncTaskClient,
) -> None:
    handle = await client.submit(PingInput())
    task = await handle.wait()
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert await handle.result() == PingOutput()
    assert (task.attempt, task.queue, task.max_attempts) == (1, "system", 3)
    assert task.HasField("start_time")
    assert task.HasField("end_time")


async def test_a_script_is_for_its_type_and_for_tasks_to_come(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    before = await client.submit(PingInput())
    fake.script("ping", fail())
    after = await client.submit(PingInput())
    other = await client.submit(GenerateImageInput(prompt="x"))
    states = [(await handle.wait()).state for handle in (before, after, other)]
    assert states == [
        task_pb2.TASK_STATE_SUCCEEDED,
        task_pb2.TASK_STATE_FAILED,
        task_pb2.TASK_STATE_SUCCEEDED,
    ]


async def test_a_failed_attempt_is_followed_by_another(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    fake.script(PingInput, progress(1, total=2), fail_attempt(), succeed(PingOutput(echo="2nd")))
    handle = await client.submit(PingInput())
    task = await handle.wait()
    assert (task.attempt, task.state) == (2, task_pb2.TASK_STATE_SUCCEEDED)
    assert [each.attempt for each in task.ended_attempts] == [1]


def test_a_script_for_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no task type nothing"):
        FakeTaskService().script("nothing")


def test_a_fake_that_was_not_started_has_no_address() -> None:
    with pytest.raises(RuntimeError, match="not started"):
        _ = FakeTaskService().address
    with pytest.raises(RuntimeError, match="not started"):
        FakeTaskService().cut_streams()


def test_a_hold_may_be_released_twice() -> None:
    gate = Hold(pending=False)
    gate.release()
    gate.release()


async def test_a_call_without_a_key_is_refused_with_details(
    fake: FakeTaskService, stub: TaskServiceAsyncStub
) -> None:
    # When a call has no key, then its details say why
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.GetTask(task_service_pb2.GetTaskRequest(task_id=NOWHERE))
    details = dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    status = Status.FromString(details)
    told = ErrorInfo()
    assert status.code == grpc.StatusCode.UNAUTHENTICATED.value[0]
    assert status.details[0].Unpack(told)
    assert (told.reason, told.domain) == ("KEY_MISSING", "callsheet.dev")


async def test_a_key_may_come_as_x_api_key(
    fake: FakeTaskService, stub: TaskServiceAsyncStub
) -> None:
    response = await stub.SubmitTask(
        task_service_pb2.SubmitTaskRequest(spec=TaskSpec(ping=PingInput())),
        metadata=(("x-api-key", fake.key),),
    )
    assert response.task.project == fake.project


async def test_a_submission_without_an_input_is_refused(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await client.submit(TaskSpec())
    assert [each.field for each in refused.value.violations] == ["spec.input"]
    assert not fake.submissions


async def test_ids_are_checked(client: AsyncTaskClient) -> None:
    with pytest.raises(TaskNotFound):
        await client.get(NOWHERE)
    with pytest.raises(InvalidArgument) as refused:
        await client.get("no id")
    assert refused.value.reason == "FIELD_INVALID"


async def test_a_page_token_of_another_list_is_refused(
    fake: FakeTaskService, stub: TaskServiceAsyncStub, client: AsyncTaskClient
) -> None:
    # Given the token of a list of all tasks
    await client.submit_many([PingInput(), PingInput()])
    key = (("x-api-key", fake.key),)
    page = await stub.ListTasks(task_service_pb2.ListTasksRequest(page_size=1), metadata=key)
    assert page.next_page_token
    # When it is used for a list with a filter, or is no token, then it is refused
    for token, task_type in ((page.next_page_token, "ping"), ("nonsense", "")):
        request = task_service_pb2.ListTasksRequest(page_token=token, task_type=task_type)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ListTasks(request, metadata=key)
        assert from_rpc_error(refused.value).reason == "PAGE_TOKEN_INVALID"


async def test_an_unknown_task_type_cannot_be_listed(client: AsyncTaskClient) -> None:
    with pytest.raises(InvalidArgument):
        await anext(client.list(task_type="nothing"))


async def test_the_facts_of_a_task_are_listed_from_any_on(
    fake: FakeTaskService, client: AsyncTaskClient, stub: TaskServiceAsyncStub
) -> None:
    fake.script("ping", progress(50))
    handle = await client.submit(PingInput())
    await handle.wait()
    request = task_service_pb2.ListTaskEventsRequest(task_id=handle.id, after_sequence=1)
    found = await stub.ListTaskEvents(request, metadata=(("x-api-key", fake.key),))
    assert [each.sequence for each in found.events] == [2, 3]


async def test_a_cursor_of_another_epoch_is_refused(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    handle = await client.submit(PingInput())
    await handle.wait()
    fake.change_epoch("fake-2")
    with pytest.raises(DataLoss) as lost:
        await anext(client.watch(handle.id, after_sequence=1, epoch="fake-1"))
    assert lost.value.reason == "EPOCH_CHANGED"


async def test_tasks_and_port_outlive_a_restart(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    address = fake.address
    handle = await client.submit(PingInput(), request_id="one")
    await fake.stop()
    await fake.start()
    again = await client.submit(PingInput(), request_id="one")
    assert (again.id, fake.address) == (handle.id, address)


async def test_calls_are_recorded_with_their_metadata(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    await client.submit(PingInput(echo="x"))
    (call,) = fake.calls
    assert call.method == "SubmitTask"
    assert isinstance(call.request, task_service_pb2.SubmitTaskRequest)
    assert call.metadata["authorization"] == f"Bearer {fake.key}"
