"""Facts as the brain reads them: what applies is there, and the embedded brain takes them all."""

from collections.abc import Iterator

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration

from callsheet.embedded.brain import messages
from callsheet.internal.v1.record_pb2 import EventRecord
from callsheet.sidecar.brain_facts import LARGEST_MESSAGE_BYTES, UNTOLD, fact_of
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput
from callsheet.tasks.v1.ping_pb2 import PingOutput
from callsheet.v1 import task_event_pb2, task_pb2
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.support.sinks import output

NOON = 1_803_902_400_000_000
SUBMITTED = task_event_pb2.TaskSubmitted(
    project="film",
    spec=TaskSpec(generate_image=GenerateImageInput(prompt="a ship", model="tiny-random", seed=7)),
    queue="gpu",
    metadata={"scene": "12", "act": "2"},
    retry_of="00000000-0000-4000-8000-000000000001",
)
FAILURE = task_pb2.Failure(
    reason=task_pb2.FAILURE_REASON_OUT_OF_MEMORY, message="no room", retryable=True
)


def _output() -> AnyMessage:
    packed = AnyMessage()
    packed.ParseFromString(output())
    return packed


def every_fact() -> Iterator[EventRecord]:
    """Yield one record of every kind of fact that the brain is told."""
    facts = {
        "task_submitted": SUBMITTED,
        "attempt_started": task_event_pb2.AttemptStarted(
            attempt=1, worker="worker-1", device="cuda:0", lease=Duration(seconds=15)
        ),
        "attempt_failed": task_event_pb2.AttemptFailed(attempt=1, failure=FAILURE),
        "attempt_returned": task_event_pb2.AttemptReturned(attempt=1, reason="shutdown"),
        "cancel_requested": task_event_pb2.CancelRequested(reason="enough"),
        "task_succeeded": task_event_pb2.TaskSucceeded(
            attempt=2,
            output=_output(),
            usage=task_pb2.Usage(gpu_seconds=1.5, peak_vram_bytes=2**40),
            quality=task_pb2.Quality(measure="image-1", score=0.5, parts={"focus": 0.25}),
        ),
        "task_failed": task_event_pb2.TaskFailed(attempt=0, failure=FAILURE),
        "task_cancelled": task_event_pb2.TaskCancelled(),
        "media_registered": task_event_pb2.MediaRegistered(
            media=[
                task_pb2.RegisteredMedia(uri="https://media.example/a.png", payload_media_id="9")
            ]
        ),
        "context_retrieved": task_event_pb2.ContextRetrieved(
            attempt=1,
            context=task_pb2.TaskContext(
                knowledge=[task_pb2.Knowledge(source="bible", text="left-handed", score=0.5)],
                similar_tasks=[task_pb2.SimilarTask(task_id="t0", text="a boat", score=0.25)],
            ),
        ),
    }
    assert set(facts) | UNTOLD == {
        field.name for field in EventRecord.DESCRIPTOR.oneofs_by_name["fact"].fields
    }
    for sequence, (arm, fact) in enumerate(facts.items(), start=1):
        record = EventRecord(version=1, sequence=sequence, time=NOON + sequence)
        getattr(record, arm).CopyFrom(fact)
        yield record


@pytest.mark.parametrize("record", list(every_fact()), ids=lambda record: record.WhichOneof("fact"))
@pytest.mark.parametrize("alone", [False, True])
def test_the_embedded_brain_takes_every_fact(record: EventRecord, *, alone: bool) -> None:
    fact = fact_of(record, SUBMITTED, task_id="t1", epoch="e1", alone=alone)
    taken = messages.TaskEventWrite.model_validate(fact)
    assert (taken.sequence, taken.project, taken.task_type) == (
        record.sequence,
        "film",
        "generate_image",
    )


def of(arm: str, *, alone: bool = False) -> dict[str, object]:
    """Return the fact of that kind."""
    record = next(each for each in every_fact() if each.WhichOneof("fact") == arm)
    return dict(fact_of(record, SUBMITTED, task_id="t1", epoch="e1", alone=alone))


def test_a_submission_tells_what_was_asked_for() -> None:
    assert of("task_submitted") == {
        "epoch": "e1",
        "task_id": "t1",
        "sequence": 1,
        "project": "film",
        "event": "submitted",
        "status": "queued",
        "time": "2027-03-01T12:00:00.000001Z",
        "task_type": "generate_image",
        "text": "a ship",
        "spec": {"prompt": "a ship", "model": "tiny-random", "seed": "7"},
        "model": {"name": "tiny-random"},
        "retry_of": "00000000-0000-4000-8000-000000000001",
        "derived_from": "00000000-0000-4000-8000-000000000001",
        "metadata": {"act": "2", "scene": "12"},
    }


def test_a_success_tells_what_was_made_and_how_well_and_at_what_cost() -> None:
    fact = of("task_succeeded")
    assert fact["usage"] == {"gpu_seconds": 1.5, "peak_vram_bytes": 2**40}
    assert fact["quality"] == {"measure": "image-1", "score": 0.5, "parts": {"focus": 0.25}}
    assert fact["model"] == {"name": "tiny-random", "revision": "abc"}
    artifact = {
        "uri": "https://media.example/a.png",
        "sha256": "0" * 64,
        "media_type": "image/png",
        "size_bytes": 9,
    }
    assert fact["artifacts"] == [artifact]
    assert "text" not in fact
    assert of("task_succeeded", alone=True)["text"] == "a ship"
    assert of("task_succeeded", alone=True)["model"] == fact["model"]


def test_an_output_that_is_used_again_is_the_other_tasks() -> None:
    record = next(each for each in every_fact() if each.HasField("task_succeeded"))
    record.task_succeeded.reused_from = "earlier"
    fact = fact_of(record, SUBMITTED, task_id="t1", epoch="e1")
    assert fact.get("derived_from") == "earlier"
    assert "output" in fact
    assert not {"artifacts", "quality"} & set(fact)


def test_a_context_is_told_by_names_and_scores_and_no_text() -> None:
    assert of("context_retrieved")["context"] == {
        "knowledge": [{"source": "bible", "score": 0.5}],
        "similar_tasks": [{"task_id": "t0", "score": 0.25}],
    }


def test_failures_are_told_with_their_reasons() -> None:
    told = {"reason": "OUT_OF_MEMORY", "message": "no room", "retryable": True}
    assert of("attempt_failed")["failure"] == told
    assert of("task_failed")["failure"] == told
    assert "attempt" not in of("task_failed")
    assert of("task_cancelled")["failure"] == {
        "reason": "CANCELLED",
        "message": "the task was cancelled",
        "retryable": False,
    }


def test_an_output_of_an_unknown_type_or_size_stays_out() -> None:
    record = EventRecord(version=1, sequence=3, time=NOON)
    record.task_succeeded.output.type_url = "type.googleapis.com/later.Output"
    fact = fact_of(record, SUBMITTED, task_id="t1", epoch="e1")
    assert (fact["event"], "output" in fact) == ("succeeded", False)
    record.task_succeeded.output.Pack(PingOutput(echo="x" * LARGEST_MESSAGE_BYTES))
    assert "output" not in fact_of(record, SUBMITTED, task_id="t1", epoch="e1")
