"""Submitting: the right arm, a request_id always, and tries that cost nothing twice."""

from __future__ import annotations

import socket
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.empty_pb2 import Empty

from callsheet.client import (
    AlreadyExists,
    AsyncTaskClient,
    AsyncTaskHandle,
    BackoffPolicy,
    CallError,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Submission,
    Unauthenticated,
    Unavailable,
)
from callsheet.client.batch import MOST_ITEMS, batches
from callsheet.client.task_types import task_types, to_spec
from callsheet.client.testing import FakeTaskService
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.v1 import operations_service_pb2, task_service_pb2
from callsheet.v1.task_spec_pb2 import TaskSpec

if TYPE_CHECKING:
    from types import ModuleType

    from google.protobuf.message import Message

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FULL = ResourceExhausted("full", reason="LEDGER_FULL", retry_delay=timedelta(milliseconds=1))
AWAY = Unavailable("away", reason="LEDGER_UNAVAILABLE", retry_delay=timedelta(milliseconds=1))


@pytest.mark.parametrize("name", task_types())
def test_every_input_finds_its_arm(name: str) -> None:
    """No table by hand: the descriptors know."""
    spec = to_spec(task_types()[name].input_class())
    assert spec.WhichOneof("input") == name


def test_a_message_that_is_no_input_is_refused() -> None:
    with pytest.raises(TypeError, match=r"google\.protobuf\.Empty is the input of no task type"):
        to_spec(Empty())


@pytest.mark.parametrize("name", task_types())
def test_every_task_type_names_an_output_that_this_client_knows(name: str) -> None:
    assert task_types()[name].output_class.DESCRIPTOR.full_name.startswith("callsheet.tasks.")


@pytest.mark.parametrize("contract", [task_service_pb2, operations_service_pb2])
def test_the_contract_lets_every_method_be_repeated(contract: ModuleType) -> None:
    """What the client repeats after a lost answer must be declared as safe to repeat."""
    file = FileDescriptorProto.FromString(contract.DESCRIPTOR.serialized_pb)
    methods = [method for service in file.service for method in service.method]
    assert methods
    for method in methods:
        assert method.options.idempotency_level, method.name


async def test_what_was_said_arrives(fake: FakeTaskService, client: AsyncTaskClient) -> None:
    handle = await client.submit(
        GenerateImageInput(prompt="a red kite", width=64),
        project="test_project",
        priority=9,
        delay=timedelta(seconds=1.5),
        expire_after=timedelta(hours=1),
        callback_url="http://127.0.0.1:9/hook",
        metadata={"user": "ada"},
        request_id="mine",
    )
    (request,) = fake.submissions
    assert request.spec.generate_image.prompt == "a red kite"
    assert request.project == "test_project"
    assert request.priority == 9
    assert request.delay.ToTimedelta() == timedelta(seconds=1.5)
    assert request.expire_after.ToTimedelta() == timedelta(hours=1)
    assert request.callback.url == "http://127.0.0.1:9/hook"
    assert request.metadata == {"user": "ada"}
    assert request.request_id == "mine"
    assert handle.task.task_type == "generate_image"


async def test_what_was_not_said_is_unset(fake: FakeTaskService, client: AsyncTaskClient) -> None:
    await client.submit(PingInput())
    (request,) = fake.submissions
    assert request.spec.WhichOneof("input") == "ping"
    for name in ("priority", "delay", "expire_after", "callback"):
        assert not request.HasField(name), name


async def test_a_whole_spec_may_be_submitted(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    await client.submit(TaskSpec(ping=PingInput(echo="spec")))
    assert fake.submissions[0].spec.ping.echo == "spec"


async def test_every_submission_has_a_request_id_of_its_own(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    await client.submit(PingInput())
    await client.submit(PingInput(), request_id="")
    ids = [uuid.UUID(request.request_id) for request in fake.submissions]
    assert len(set(ids)) == 2


async def test_the_clients_project_stands_for_what_names_none(fake: FakeTaskService) -> None:
    async with AsyncTaskClient(fake.address, key=fake.key, project="elsewhere") as client:
        with pytest.raises(NotFound) as refused:
            await client.submit(PingInput())
        await client.submit(PingInput(), project=fake.project)
    assert refused.value.reason == "PROJECT_NOT_FOUND"


async def test_an_output_of_another_type_is_refused_before_anything_is_sent(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    with pytest.raises(TypeError, match=r"the output of ping is callsheet\.tasks\.v1\.PingOutput"):
        await client.submit(PingInput(), output=GenerateImageOutput)
    assert not fake.calls


async def test_a_lost_answer_costs_no_second_task(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    # Given a plane whose first two answers are lost after they took effect
    fake.lose_replies("SubmitTask", times=2)
    # When a task is submitted
    handle = await client.submit(PingInput())
    # Then the third try got the task of the first one
    assert [call.method for call in fake.calls] == ["SubmitTask"] * 3
    assert [task.id for task in fake.tasks] == [handle.id]


@pytest.mark.parametrize("error", [AWAY, FULL], ids=["away", "full"])
async def test_a_plane_that_asks_for_patience_gets_it(
    fake: FakeTaskService, client: AsyncTaskClient, error: CallError
) -> None:
    fake.refuse("SubmitTask", error, times=3)
    await client.submit(PingInput())
    assert len(fake.calls) == 4
    assert len(fake.tasks) == 1


@pytest.mark.parametrize(
    "error",
    [InvalidArgument("no"), AlreadyExists("no"), Internal("no"), ResourceExhausted("no")],
    ids=lambda error: type(error).__name__,
)
async def test_a_refusal_is_not_tried_again(
    fake: FakeTaskService, client: AsyncTaskClient, error: CallError
) -> None:
    fake.refuse("SubmitTask", error)
    with pytest.raises(type(error)):
        await client.submit(PingInput())
    assert len(fake.calls) == 1


async def test_a_plane_that_stays_away_is_given_up_in_time(fake: FakeTaskService) -> None:
    fake.refuse("SubmitTask", AWAY, times=10_000)
    quick = BackoffPolicy(initial=timedelta(milliseconds=1), maximum=timedelta(milliseconds=2))
    async with AsyncTaskClient(
        fake.address, key=fake.key, timeout=timedelta(seconds=1), backoff=quick
    ) as client:
        with pytest.raises(Unavailable) as refused:
            await client.submit(PingInput())
    assert refused.value.reason == "LEDGER_UNAVAILABLE"
    assert len(fake.calls) > 1


async def test_a_plane_that_is_not_there_is_unavailable(fake: FakeTaskService) -> None:
    address = fake.address
    await fake.stop()
    async with AsyncTaskClient(address, key=fake.key, timeout=timedelta(seconds=1)) as client:
        with pytest.raises(Unavailable) as refused:
            await client.submit(PingInput())
    assert refused.value.reason == ""


async def test_a_plane_that_never_answers_meets_the_deadline() -> None:
    # Given a listener whose connections nobody ever serves
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port: int = silent.getsockname()[1]
        async with AsyncTaskClient(
            f"127.0.0.1:{port}", key="key", timeout=timedelta(milliseconds=300)
        ) as client:
            # Then the call ends all the same
            with pytest.raises((DeadlineExceeded, Unavailable)):
                await client.submit(PingInput())


async def test_a_reused_request_id_is_refused(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    first = await client.submit(PingInput(echo="a"), request_id="one")
    again = await client.submit(PingInput(echo="a"), request_id="one")
    with pytest.raises(AlreadyExists) as refused:
        await client.submit(PingInput(echo="b"), request_id="one")
    assert again.id == first.id
    assert refused.value.reason == "REQUEST_ID_REUSED"
    assert len(fake.tasks) == 1


async def test_the_given_trace_context_is_sent_on_every_try(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    fake.refuse("SubmitTask", AWAY)
    await client.submit(PingInput(), trace_parent=TRACE)
    assert [call.metadata["traceparent"] for call in fake.calls] == [TRACE, TRACE]
    assert fake.tasks[0].trace_parent == TRACE


async def test_without_a_trace_context_one_is_made_for_all_tries(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    fake.refuse("SubmitTask", AWAY)
    await client.submit(PingInput())
    await client.submit(PingInput())
    first, again, other = (call.metadata["traceparent"] for call in fake.calls)
    assert first == again != other
    assert len(first) == len(TRACE)


@pytest.mark.parametrize(
    "text",
    ["", "00-1-2-3", TRACE.upper(), TRACE.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32)],
)
async def test_what_is_no_trace_context_is_refused(client: AsyncTaskClient, text: str) -> None:
    with pytest.raises(ValueError, match="traceparent"):
        await client.submit(PingInput(), trace_parent=text)


@pytest.mark.parametrize("key", ["", "two words", "new\nline", "schlüssel"])
def test_a_key_that_cannot_be_one_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="API key"):
        AsyncTaskClient("127.0.0.1:1", key=key)


async def test_a_closed_client_says_so(fake: FakeTaskService) -> None:
    client = AsyncTaskClient(fake.address, key=fake.key)
    await client.close()
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await client.submit(PingInput())


async def test_many_get_an_answer_each(fake: FakeTaskService, client: AsyncTaskClient) -> None:
    # Given a batch whose second request_id was used before
    await client.submit(PingInput(echo="other"), request_id="used")
    submissions: list[Submission | Message] = [
        PingInput(echo="1"),
        Submission(PingInput(echo="2"), options={"request_id": "used"}),
        Submission(GenerateImageInput(prompt="3"), options={"priority": 8}),
    ]
    # When it is submitted
    first, second, third = await client.submit_many(submissions)
    # Then two are handles, and the other is the error that submit would have raised
    assert isinstance(first, AsyncTaskHandle)
    assert isinstance(second, AlreadyExists)
    assert second.reason == "REQUEST_ID_REUSED"
    assert isinstance(third, AsyncTaskHandle)
    assert isinstance(await first.result(), PingOutput)
    assert fake.submissions[-1].priority == 8


async def test_items_refused_for_a_while_are_tried_again_alone(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    # Given a ledger that is full for the first two items
    fake.refuse("SubmitTask", FULL, times=2)
    submitted = await client.submit_many([PingInput(echo=str(each)) for each in range(4)])
    # Then all four were accepted, once each, and only two were sent again
    assert all(isinstance(each, AsyncTaskHandle) for each in submitted)
    sent = [call.request for call in fake.calls]
    sizes = [
        len(request.requests)
        for request in sent
        if isinstance(request, task_service_pb2.SubmitTasksRequest)
    ]
    assert sizes == [4, 2]
    assert len(fake.tasks) == 4


async def test_a_lost_answer_of_many_costs_no_second_task(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    fake.lose_replies("SubmitTasks")
    submitted = await client.submit_many([PingInput(), PingInput()])
    ids = [each.id for each in submitted if isinstance(each, AsyncTaskHandle)]
    assert sorted(ids) == sorted(task.id for task in fake.tasks)


async def test_a_refused_batch_refuses_each_item(fake: FakeTaskService) -> None:
    async with AsyncTaskClient(fake.address, key="wrong") as stranger:
        submitted = await stranger.submit_many([PingInput(), PingInput()])
    assert [type(each) for each in submitted] == [Unauthenticated, Unauthenticated]


async def test_nothing_is_submitted_when_one_of_many_is_no_input(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    with pytest.raises(TypeError):
        await client.submit_many([PingInput(), Empty()])
    assert not fake.calls


async def test_more_than_a_call_may_carry_goes_in_several(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    submitted = await client.submit_many([PingInput()] * (MOST_ITEMS + 1))
    assert len(submitted) == len(fake.tasks) == MOST_ITEMS + 1
    assert [call.method for call in fake.calls] == ["SubmitTasks"] * 2


def test_no_batch_is_larger_than_the_wire_allows() -> None:
    large = task_service_pb2.SubmitTaskRequest(
        spec=to_spec(GenerateImageInput(prompt="x" * 1_000_000))
    )
    assert len(list(batches([large] * 7))) == 3
    assert not list(batches([]))
