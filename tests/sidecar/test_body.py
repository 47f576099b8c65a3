"""The body of a webhook, byte for byte."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from callsheet.internal.v1.record_pb2 import EventRecord, SignalRecord
from callsheet.ledger.delivery_model import DeliveryRecord
from callsheet.ledger.instants import microseconds
from callsheet.sidecar.body import FactsGone, body_of, story_of
from callsheet.sidecar.wishes import ASKED_EVENTS, FINAL_EVENTS
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageOutput
from callsheet.tasks.v1.ping_pb2 import PingOutput
from callsheet.v1.task_event_pb2 import (
    AttemptFailed,
    AttemptReturned,
    AttemptStarted,
    CancelRequested,
    MediaRegistered,
    TaskCancelled,
    TaskFailed,
    TaskSubmitted,
    TaskSucceeded,
)
from callsheet.v1.task_pb2 import (
    FAILURE_REASON_OUT_OF_MEMORY,
    Failure,
    Progress,
    RegisteredMedia,
    Usage,
)

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
CREATED = NOON - timedelta(minutes=1)
STARTED = NOON - timedelta(seconds=45.2)
TASK = "f3b8d7ac-5a0f-4a60-9a0e-1f6b1f4a3c55"
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

SUBMITTED = TaskSubmitted(
    project="test_project", metadata={"userId": "é", "testResultId": "test_result_id"}
)
START = AttemptStarted(attempt=1)
OUT_OF_MEMORY = Failure(
    reason=FAILURE_REASON_OUT_OF_MEMORY, message="the device has 8 GiB", retryable=True
)

#: One arm of EventRecord's oneof: its name and its message.
Fact = tuple[str, Message]


def stored(sequence: int, fact: Fact, *, time: datetime) -> bytes:
    name, message = fact
    record = EventRecord(version=1, sequence=sequence, time=microseconds(time))
    getattr(record, name).CopyFrom(message)
    return record.SerializeToString()


def facts_of(*facts: Fact) -> dict[int, bytes]:
    """A task's facts: accepted, started, and then these; the last one at noon."""
    every = (("task_submitted", SUBMITTED), *facts)
    times = [CREATED, STARTED, *([NOON] * len(every))]
    return {n: stored(n, fact, time=times[n - 1]) for n, fact in enumerate(every, start=1)}


def delivery(
    sequence: int, event: str, *, as_of: int = 0, signal: SignalRecord | None = None
) -> DeliveryRecord:
    return DeliveryRecord(
        task_id=TASK,
        sequence=sequence,
        epoch="e",
        url="https://a.example/",
        create_time=NOON,
        project="test_project",
        event=event,
        task_create_time=microseconds(CREATED),
        as_of=as_of,
        signal=signal,
    )


def told(record: DeliveryRecord, facts: dict[int, bytes]) -> bytes:
    return body_of(record, story_of(record, facts))


def body(*facts: Fact, event: str) -> dict[str, Any]:
    """What is told of the last of these facts."""
    return json.loads(told(delivery(1 + len(facts), event), facts_of(*facts)))


def started(attempt: int = 1) -> Fact:
    return "attempt_started", AttemptStarted(attempt=attempt)


def succeeded(output: Message | None) -> Fact:
    packed = AnyMessage()
    if output is not None:
        packed.Pack(output)
    usage = Usage(tokens=1250)
    return "task_succeeded", TaskSucceeded(attempt=1, output=packed, usage=usage)


def test_a_succeeded_task_is_told_as_the_platform_documents_it() -> None:
    facts = facts_of(started(), succeeded(IMAGES))
    assert told(delivery(3, "completed"), facts).decode() == GOLDEN


def test_the_documented_fields_come_first_and_ours_after_them() -> None:
    told = body(started(), succeeded(IMAGES), event="completed")
    documented = ["task_id", "status", "project_id", "result", "error", "metadata"]
    assert list(told) == [*documented, "event", "sequence", "attempt", "occurred_at"]
    assert list(told["result"]) == ["media_url", "payload_media_id", "metadata"]


def test_an_output_without_artifacts_has_no_media_url() -> None:
    result = body(started(), succeeded(PingOutput(echo="hello")), event="completed")["result"]
    assert result["media_url"] is None
    assert result["metadata"]["output_data"] == {"echo": "hello"}


def test_media_that_was_registered_in_time_is_told() -> None:
    """And what was registered later is not: the same id always has the same bytes."""
    media = MediaRegistered(
        media=[
            RegisteredMedia(uri=IMAGE.uri, payload_media_id="42"),
            RegisteredMedia(uri="https://second", payload_media_id="43"),
        ]
    )
    facts = facts_of(started(), succeeded(IMAGES), ("media_registered", media))
    in_time = json.loads(told(delivery(3, "completed", as_of=4), facts))
    too_late = json.loads(told(delivery(3, "completed"), facts))
    assert in_time["result"]["payload_media_id"] == "42"
    assert too_late["result"]["payload_media_id"] is None
    in_time["result"]["payload_media_id"] = None
    assert in_time == too_late


def test_a_failed_task_says_why() -> None:
    failed = ("task_failed", TaskFailed(attempt=1, failure=OUT_OF_MEMORY))
    told = body(started(), failed, event="failed")
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
    told = body(("task_cancelled", TaskCancelled(reason=reason)), event="cancelled")
    assert (told["status"], told["event"], told["result"]) == ("failed", "cancelled", None)
    assert told["error"] == {"reason": "CANCELLED", "message": message, "retryable": False}
    assert told["attempt"] == 0


def test_an_accepted_task_is_queued_and_a_started_one_is_processing() -> None:
    queued, running = body(event="queued"), body(started(), event="started")
    assert (queued["status"], queued["sequence"], queued["attempt"]) == ("queued", 1, 0)
    assert queued["occurred_at"] == "2027-03-01T11:59:00.000000Z"
    assert (running["status"], running["sequence"], running["attempt"]) == ("processing", 2, 1)
    for told in (queued, running):
        assert (told["result"], told["error"], "progress" in told) == (None, None, False)


def test_a_task_that_is_tried_again_says_why() -> None:
    failed = ("attempt_failed", AttemptFailed(attempt=1, failure=OUT_OF_MEMORY))
    told = body(started(), failed, event="retrying")
    assert (told["status"], told["attempt"]) == ("queued", 1)
    assert told["error"]["reason"] == "OUT_OF_MEMORY"
    returned = ("attempt_returned", AttemptReturned(attempt=2, reason="shutdown"))
    told = body(started(), failed, started(2), returned, event="retrying")
    assert (told["status"], told["attempt"], told["error"]) == ("queued", 2, None)


def test_a_task_that_was_asked_to_stop_has_not_ended() -> None:
    asked = ("cancel_requested", CancelRequested(reason="enough"))
    told = body(started(), asked, event="cancelled")
    assert (told["status"], told["error"]) == ("processing", None)


def test_progress_is_told_with_the_time_at_which_it_was_made() -> None:
    signal = SignalRecord(
        version=1,
        task_id=TASK,
        attempt=1,
        sequence=2,
        time=microseconds(NOON),
        progress=Progress(current=1, total=3, percentage=33.333, message="denoising"),
    )
    record = delivery(2, "progress", signal=signal)
    shown = json.loads(told(record, facts_of(started())))
    assert (shown["status"], shown["event"], shown["sequence"]) == ("processing", "progress", 2)
    assert shown["occurred_at"] == "2027-03-01T12:00:00.000000Z"
    assert shown["progress"] == {
        "current": 1,
        "total": 3,
        "percentage": 33.33,
        "message": "denoising",
    }
    assert record.id == f"e_{TASK}_2-{microseconds(NOON)}"


def test_the_order_of_metadata_does_not_change_the_bytes() -> None:
    turned = TaskSubmitted(project="test_project")
    for name in sorted(SUBMITTED.metadata):
        turned.metadata[name] = SUBMITTED.metadata[name]
    facts = facts_of(("task_cancelled", TaskCancelled()))
    other = facts | {1: stored(1, ("task_submitted", turned), time=CREATED)}
    record = delivery(2, "cancelled")
    assert told(record, facts) == told(record, other)


def test_every_fact_that_is_told_has_a_body() -> None:
    names = {*FINAL_EVENTS, *ASKED_EVENTS}
    for name in names - {"task_submitted"}:
        message = getattr(EventRecord(), name)
        assert body((name, message), event="told")["status"]


def test_a_fact_that_nobody_is_told_of_has_no_body() -> None:
    with pytest.raises(ValueError, match="media_registered"):
        body(started(), ("media_registered", MediaRegistered()), event="")


def test_an_output_of_an_unknown_type_is_refused() -> None:
    unknown = AnyMessage(type_url="type.googleapis.com/callsheet.tasks.v9.Dream")
    dream = ("task_succeeded", TaskSucceeded(attempt=1, output=unknown))
    with pytest.raises(ValueError, match=r"callsheet\.tasks\.v9\.Dream"):
        body(started(), dream, event="completed")


def test_what_was_pruned_or_is_of_a_later_task_is_gone() -> None:
    facts = facts_of(started(), succeeded(None))
    for kept in ({}, {1: facts[1]}, {3: facts[3]}):
        with pytest.raises(FactsGone):
            story_of(delivery(3, "completed"), kept)
    later = facts | {1: stored(1, ("task_submitted", SUBMITTED), time=NOON)}
    with pytest.raises(FactsGone):
        story_of(delivery(3, "completed"), later)
