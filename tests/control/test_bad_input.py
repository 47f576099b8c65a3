"""Whatever is wrong with a request: a documented status with a reason, and nothing written."""

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from grpc import StatusCode

from callsheet.v1.task_service_pb2 import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    SubmitTaskRequest,
    SubmitTasksRequest,
    WaitTaskRequest,
)
from tests.support.controls import (
    Client,
    Plane,
    image_request,
    next_event,
    ping_request,
    refusal,
)

_MEBIBYTE = 1024 * 1024


def _with_callback(url: str) -> SubmitTaskRequest:
    request = ping_request()
    request.callback.url = url
    return request


def _with_metadata(**entries: str) -> SubmitTaskRequest:
    request = ping_request()
    request.metadata.update(entries)
    return request


def _with_delay(seconds: int) -> SubmitTaskRequest:
    request = ping_request()
    request.delay.FromTimedelta(timedelta(seconds=seconds))
    return request


def _with_expiry(seconds: int) -> SubmitTaskRequest:
    request = ping_request()
    request.expire_after.FromTimedelta(timedelta(seconds=seconds))
    return request


BAD_SUBMISSIONS: dict[str, tuple[Callable[[], SubmitTaskRequest], str]] = {
    "no spec": (SubmitTaskRequest, "spec"),
    "a spec without an arm": (
        lambda: SubmitTaskRequest.FromString(b"\x1a\x00"),
        "spec.input",
    ),
    "no prompt": (lambda: image_request(prompt=""), "spec.generate_image.prompt"),
    "a prompt over its limit": (
        lambda: image_request(prompt="x" * 2001),
        "spec.generate_image.prompt",
    ),
    "a width not divisible by 8": (
        lambda: image_request(width=65),
        "spec.generate_image.width",
    ),
    "a height over its limit": (
        lambda: image_request(height=4096),
        "spec.generate_image.height",
    ),
    "no steps": (lambda: image_request(steps=0), "spec.generate_image.steps"),
    "guidance that is no number": (
        lambda: image_request(guidance_scale=float("nan")),
        "spec.generate_image.guidance_scale",
    ),
    "a seed beyond 2^53": (lambda: image_request(seed=2**53), "spec.generate_image.seed"),
    "nine images": (lambda: image_request(count=9), "spec.generate_image.count"),
    "an unknown scheduler": (
        lambda: image_request(scheduler=99),
        "spec.generate_image.scheduler",
    ),
    "a malformed model name": (
        lambda: image_request(model="../etc"),
        "spec.generate_image.model",
    ),
    "a model that draws no images": (
        lambda: image_request(model="tiny-wan"),
        "spec.generate_image.model",
    ),
    "a width that the model does not take": (
        lambda: image_request(model="tiny-flux", width=72),
        "spec.generate_image.width",
    ),
    "a malformed project": (lambda: ping_request(project="a/b"), "project"),
    "a request_id with a space": (lambda: ping_request(request_id="a b"), "request_id"),
    "a request_id over its limit": (lambda: ping_request(request_id="x" * 129), "request_id"),
    "priority 10": (lambda: ping_request(priority=10), "priority"),
    "a delay before now": (lambda: _with_delay(-1), "delay"),
    "a delay over its limit": (lambda: _with_delay(31 * 86_400), "delay"),
    "an expiry of no time": (lambda: _with_expiry(0), "expire_after"),
    "an empty metadata key": (lambda: _with_metadata(**{"": "v"}), 'metadata[""]'),
    "a metadata value over its limit": (
        lambda: _with_metadata(shot="x" * 1025),
        'metadata["shot"]',
    ),
    "a metadata key with a quote": (
        lambda: _with_metadata(**{'a"b\n': "x" * 1025}),
        'metadata["a\\"b\\u000a"]',
    ),
    "33 metadata entries": (
        lambda: _with_metadata(**{f"k{number}": "v" for number in range(33)}),
        "metadata",
    ),
    "an empty callback": (lambda: _with_callback(""), "callback.url"),
    "a callback by ftp": (lambda: _with_callback("ftp://example.com/"), "callback.url"),
    "a callback to a private address": (
        lambda: _with_callback("https://10.0.0.1/hook"),
        "callback.url",
    ),
    "a callback to a cloud's metadata": (
        lambda: _with_callback("http://0xa9fea9fe/latest"),
        "callback.url",
    ),
    "a callback with a password": (
        lambda: _with_callback("https://u:p@example.com/"),
        "callback.url",
    ),
}


@pytest.mark.parametrize("name", BAD_SUBMISSIONS)
async def test_a_bad_submission_is_refused_by_field_and_nothing_is_written(
    plane: Plane, client: Client, name: str
) -> None:
    make, field = BAD_SUBMISSIONS[name]
    before = await plane.written()
    told = await refusal(client.tasks.SubmitTask(make(), metadata=client.metadata))
    assert (told.code, told.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert field in told.fields
    assert await plane.written() == before


async def test_an_unknown_model_is_refused_with_the_known_ones(
    plane: Plane, client: Client
) -> None:
    before = await plane.written()
    request = image_request(model="sdxl-turbo")
    told = await refusal(client.tasks.SubmitTask(request, metadata=client.metadata))
    assert (told.code, told.reason) == (StatusCode.INVALID_ARGUMENT, "MODEL_NOT_FOUND")
    assert told.fields == ("spec.generate_image.model",)
    assert told.metadata["model"] == "sdxl-turbo"
    assert told.metadata["known"].split(",")[:2] == ["tiny-animatediff", "tiny-flux"]
    assert await plane.written() == before


async def test_an_unknown_project_is_not_found(plane: Plane, client: Client) -> None:
    before = await plane.written()
    request = ping_request(project="elsewhere")
    told = await refusal(client.tasks.SubmitTask(request, metadata=client.metadata))
    assert (told.code, told.reason) == (StatusCode.NOT_FOUND, "PROJECT_NOT_FOUND")
    assert told.metadata == {"project": "elsewhere"}
    assert await plane.written() == before


async def test_a_key_of_several_projects_has_to_name_one(plane: Plane) -> None:
    client = await plane.newcomer(projects=frozenset({"a", "b"}))
    told = await refusal(client.tasks.SubmitTask(ping_request(), metadata=client.metadata))
    assert (told.code, told.reason) == (StatusCode.NOT_FOUND, "PROJECT_NOT_FOUND")


async def test_a_request_id_reused_for_another_spec_is_refused(
    plane: Plane, client: Client
) -> None:
    first = await client.submit(ping_request("one", request_id="r-1"))
    before = await plane.written()
    request = ping_request("two", request_id="r-1")
    told = await refusal(client.tasks.SubmitTask(request, metadata=client.metadata))
    assert (told.code, told.reason) == (StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert told.metadata == {"request_id": "r-1", "task_id": first}
    assert await plane.written() == before


async def test_cancelling_a_final_task_is_refused(plane: Plane, client: Client) -> None:
    task_id = await client.submit()
    request = CancelTaskRequest(task_id=task_id)
    await client.tasks.CancelTask(request, metadata=client.metadata)
    before = await plane.written()
    told = await refusal(client.tasks.CancelTask(request, metadata=client.metadata))
    assert (told.code, told.reason) == (StatusCode.FAILED_PRECONDITION, "ILLEGAL_TRANSITION")
    assert told.metadata == {"task_id": task_id, "state": "CANCELLED", "command": "cancel"}
    assert await plane.written() == before


async def test_watching_an_unknown_task_is_not_found(plane: Plane, client: Client) -> None:
    before = await plane.written()
    told = await refusal(next_event(client.watch(str(uuid4()))))
    assert (told.code, told.reason) == (StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
    assert await plane.written() == before


async def test_watching_from_a_sequence_that_is_not_yet_is_out_of_range(client: Client) -> None:
    task_id = await client.submit()
    told = await refusal(next_event(client.watch(task_id, after=7)))
    assert (told.code, told.reason) == (StatusCode.OUT_OF_RANGE, "SEQUENCE_AHEAD")
    assert told.metadata == {"task_id": task_id, "sequence": "7", "last": "1"}


async def test_the_page_token_of_another_list_is_refused(client: Client) -> None:
    for _ in range(3):
        await client.submit()
    page = await client.tasks.ListTasks(ListTasksRequest(page_size=1), metadata=client.metadata)
    request = ListTasksRequest(task_type="ping", page_token=page.next_page_token)
    told = await refusal(client.tasks.ListTasks(request, metadata=client.metadata))
    assert (told.code, told.reason) == (StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")
    assert told.fields == ("page_token",)


@pytest.mark.parametrize("token", ["nonsense", "ä", "=", "MS4uNQ=="])
async def test_a_page_token_that_is_none_is_refused(client: Client, token: str) -> None:
    request = ListTasksRequest(page_token=token)
    told = await refusal(client.tasks.ListTasks(request, metadata=client.metadata))
    assert (told.code, told.reason) == (StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")


async def test_a_list_of_an_unknown_task_type_is_refused(client: Client) -> None:
    request = ListTasksRequest(task_type="make_coffee")
    told = await refusal(client.tasks.ListTasks(request, metadata=client.metadata))
    assert (told.code, told.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert told.fields == ("task_type",)


async def test_ids_that_are_no_uuids_are_refused(client: Client) -> None:
    for call in (
        client.tasks.GetTask(GetTaskRequest(task_id="x"), metadata=client.metadata),
        client.tasks.WaitTask(WaitTaskRequest(task_id=""), metadata=client.metadata),
        next_event(client.watch("../../etc/passwd")),
    ):
        told = await refusal(call)
        assert (told.code, told.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
        assert told.fields == ("task_id",)


MALFORMED = {
    "truncated": b"\x1a\x10abc",
    "invalid UTF-8": b"\x12\x02\xff\xfe",
    "a wrong wire type": b"\x1f",
    "nested without end": b"\x1a\x02\x0a" * 400,
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_bytes_are_refused_without_a_traceback(
    plane: Plane, client: Client, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = await plane.written()
    told = await refusal(client.raw("TaskService/SubmitTask", MALFORMED[name]))
    assert (told.code, told.reason) == (StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED")
    assert told.metadata == {"message": "callsheet.v1.SubmitTaskRequest"}
    assert await plane.written() == before
    assert "Traceback" not in "".join(capfd.readouterr())


async def test_malformed_bytes_of_a_watch_are_refused_too(client: Client) -> None:
    told = await refusal(client.raw_stream("TaskService/WatchTask", b"\x0a\xff"))
    assert (told.code, told.reason) == (StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED")


async def test_a_key_is_asked_for_before_bytes_are_looked_at(plane: Plane) -> None:
    nobody = Client(plane.client.channel, "")
    told = await refusal(nobody.raw("TaskService/SubmitTask", b"\xff"))
    assert told.code is StatusCode.UNAUTHENTICATED


async def test_a_message_over_the_limit_is_refused_by_grpc_itself(
    plane: Plane, client: Client
) -> None:
    before = await plane.written()
    told = await refusal(client.raw("TaskService/SubmitTask", b"\0" * (16 * _MEBIBYTE + 1)))
    assert told.code is StatusCode.RESOURCE_EXHAUSTED
    assert await plane.written() == before


async def test_metadata_over_the_limit_is_refused_by_grpc_itself(client: Client) -> None:
    metadata = (*client.metadata, ("x-padding", "x" * 20_000))
    told = await refusal(client.tasks.SubmitTask(ping_request(), metadata=metadata))
    assert told.code is StatusCode.RESOURCE_EXHAUSTED


async def test_a_batch_takes_one_to_a_thousand(plane: Plane, client: Client) -> None:
    before = await plane.written()
    for count in (0, 1001):
        request = SubmitTasksRequest(requests=[ping_request()] * count)
        told = await refusal(client.tasks.SubmitTasks(request, metadata=client.metadata))
        assert (told.code, told.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
        assert told.fields == ("requests",)
    assert await plane.written() == before


async def test_capital_letters_in_a_task_id_mean_the_same_task(client: Client) -> None:
    task_id = await client.submit()
    request = GetTaskRequest(task_id=task_id.upper())
    found = await client.tasks.GetTask(request, metadata=client.metadata)
    assert found.task.id == task_id
