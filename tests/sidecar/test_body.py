"""The body of a webhook, byte for byte."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from msgspec.structs import replace

from callsheet.ledger.model import Failure, FailureReason, Submission, Task, TaskState, Usage
from callsheet.sidecar.body import final_body
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageOutput
from callsheet.tasks.v1.ping_pb2 import PingOutput
from callsheet.v1.task_spec_pb2 import TaskSpec

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
IMAGE = Artifact(
    uri="https://media.example/projects/test_project/tasks/t/1-ab.png",
    key="projects/test_project/tasks/t/1-ab.png",
    sha256="ab" * 32,
    media_type="image/png",
    size_bytes=1234,
    width=64,
    height=64,
)
IMAGES = GenerateImageOutput(images=[IMAGE, Artifact(uri="https://second")], seed=7, model="m")

GOLDEN = (
    '{"task_id":"f3b8d7ac-5a0f-4a60-9a0e-1f6b1f4a3c55","status":"completed",'
    '"project_id":"test_project",'
    '"result":{"media_url":"https://media.example/projects/test_project/tasks/t/1-ab.png",'
    '"payload_media_id":null,"metadata":{"processing_time":45.2,"tokens_used":1250,'
    '"output_data":{"images":[{"height":64,"key":"projects/test_project/tasks/t/1-ab.png",'
    f'"media_type":"image/png","sha256":"{"ab" * 32}","size_bytes":"1234",'
    '"uri":"https://media.example/projects/test_project/tasks/t/1-ab.png","width":64},'
    '{"uri":"https://second"}],"model":"m","seed":"7"}}},"error":null,'
    '"metadata":{"testResultId":"test_result_id","userId":"é"},'
    '"event":"completed","sequence":3,"attempt":1,"occurred_at":"2027-03-01T12:00:00.000000Z"}'
)


def task(state: TaskState, *, output: Message | None = None) -> Task:
    packed = AnyMessage()
    if output is not None:
        packed.Pack(output)
    submission = Submission(
        project="test_project",
        task_type="ping",
        spec=TaskSpec().SerializeToString(),
        queue="system",
        priority=5,
        max_attempts=3,
        time_limit=timedelta(minutes=1),
        metadata={"userId": "é", "testResultId": "test_result_id"},
    )
    return Task(
        id="f3b8d7ac-5a0f-4a60-9a0e-1f6b1f4a3c55",
        submission=submission,
        state=state,
        sequence=3,
        create_time=NOON - timedelta(minutes=1),
        start_time=NOON - timedelta(seconds=45.2),
        update_time=NOON,
        attempt=1,
        output=packed.SerializeToString(),
        usage=Usage(tokens=1250),
    )


def body(told: Task) -> dict[str, Any]:
    return json.loads(final_body(told))


def test_a_succeeded_task_is_told_as_the_platform_documents_it() -> None:
    assert final_body(task(TaskState.SUCCEEDED, output=IMAGES)).decode() == GOLDEN


def test_the_documented_fields_come_first_and_ours_after_them() -> None:
    told = body(task(TaskState.SUCCEEDED, output=IMAGES))
    documented = ["task_id", "status", "project_id", "result", "error", "metadata"]
    assert list(told) == [*documented, "event", "sequence", "attempt", "occurred_at"]
    assert list(told["result"]) == ["media_url", "payload_media_id", "metadata"]


def test_an_output_without_artifacts_has_no_media_url() -> None:
    result = body(task(TaskState.SUCCEEDED, output=PingOutput(echo="hello")))["result"]
    assert result["media_url"] is None
    assert result["metadata"]["output_data"] == {"echo": "hello"}


def test_a_failed_task_says_why() -> None:
    failure = Failure(FailureReason.OUT_OF_MEMORY, "the device has 8 GiB", retryable=True)
    told = body(replace(task(TaskState.FAILED), failure=failure))
    assert (told["status"], told["event"], told["result"]) == ("failed", "failed", None)
    assert told["error"] == {
        "reason": "OUT_OF_MEMORY",
        "message": "the device has 8 GiB",
        "retryable": True,
    }


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("", "the task was cancelled"),
        ("the scene was cut", "the task was cancelled: the scene was cut"),
    ],
)
def test_a_cancelled_task_is_failed_with_the_reason_cancelled(reason: str, message: str) -> None:
    waiting = replace(task(TaskState.CANCELLED), attempt=0, start_time=None)
    told = body(replace(waiting, cancel_reason=reason))
    assert (told["status"], told["event"], told["result"]) == ("failed", "cancelled", None)
    assert told["error"] == {"reason": "CANCELLED", "message": message, "retryable": False}


def test_the_order_of_metadata_does_not_change_the_bytes() -> None:
    one = task(TaskState.CANCELLED)
    turned = dict(reversed(list(one.submission.metadata.items())))
    other = replace(one, submission=replace(one.submission, metadata=turned))
    assert final_body(one) == final_body(other)


def test_a_task_that_is_not_final_has_no_body() -> None:
    with pytest.raises(ValueError, match="not final"):
        final_body(task(TaskState.RUNNING))


def test_an_output_of_an_unknown_type_is_refused() -> None:
    unknown = AnyMessage(type_url="type.googleapis.com/callsheet.tasks.v9.Dream")
    told = replace(task(TaskState.SUCCEEDED), output=unknown.SerializeToString())
    with pytest.raises(ValueError, match=r"callsheet\.tasks\.v9\.Dream"):
        final_body(told)
