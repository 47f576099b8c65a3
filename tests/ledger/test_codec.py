"""What is stored is read back as it was, and what nobody here can read is refused."""

import struct
from datetime import datetime, timedelta
from typing import Final

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callsheet.internal.v1.record_pb2 import EventRecord, SignalRecord, TaskRecord
from callsheet.ledger import machine
from callsheet.ledger.codec import (
    UNSTAMPED,
    VERSION,
    decode_task,
    encode_event,
    encode_progress,
    encode_task,
    event_of,
    parse_event,
    parse_signal,
    progress_of,
    start_template,
)
from callsheet.ledger.errors import UnknownVersion
from callsheet.ledger.events import (
    AttemptFailed,
    AttemptReturned,
    AttemptStarted,
    CancelRequested,
    CheckpointSaved,
    ContextRetrieved,
    Event,
    MediaRegistered,
    TaskCancelled,
    TaskFailed,
    TaskSubmitted,
    TaskSucceeded,
)
from callsheet.ledger.instants import instant, microseconds
from callsheet.ledger.messages import duration, timestamp
from callsheet.ledger.model import (
    NO_TIME,
    NO_USAGE,
    Backoff,
    Checkpoint,
    Failure,
    FailureReason,
    Knowledge,
    PinnedModel,
    Progress,
    Quality,
    RegisteredMedia,
    ReuseTerms,
    SimilarTask,
    Submission,
    Task,
    TaskContext,
    TaskState,
    Usage,
)
from callsheet.ledger.store import Stored
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.v1.task_event_pb2 import AttemptStarted as AttemptStartedMessage
from callsheet.v1.task_spec_pb2 import TaskSpec

LARGEST: Final = (1 << 63) - 1
NOON: Final = 1_800_000_000_000_000

#: On a busy machine an example takes as long as it takes.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
lengths = st.timedeltas(NO_TIME, timedelta(days=30))
attempts = st.integers(1, 1000)
times = st.integers(1, 4_000_000_000_000_000)
operations = st.integers(1, LARGEST)
amounts = st.floats(0, 1e12)
counts = st.integers(0, LARGEST)


digests = st.binary(min_size=1, max_size=32).map(bytes.hex)
pinned = st.lists(st.builds(PinnedModel, texts, texts, texts), max_size=2).map(tuple)
#: What a float of 32 bits holds.
scores = st.floats(-1, 1, width=32)


@st.composite
def specs(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return a task type and a spec of it."""
    if draw(st.booleans()):
        spec = TaskSpec(ping=PingInput(echo=draw(texts)))
    else:
        spec = TaskSpec(generate_image=GenerateImageInput(prompt=draw(texts)))
    return spec.WhichOneof("input") or "", spec.SerializeToString(deterministic=True)


@st.composite
def submissions(draw: st.DrawFn) -> Submission:
    task_type, spec = draw(specs())
    return Submission(
        project=draw(texts),
        task_type=task_type,
        spec=spec,
        queue=draw(texts),
        priority=draw(st.integers(0, 9)),
        max_attempts=draw(st.integers(1, 5)),
        time_limit=draw(lengths),
        delay=draw(lengths),
        expire_after=draw(st.none() | lengths),
        callback_url=draw(texts),
        metadata=draw(st.dictionaries(texts, texts, max_size=3)),
        trace_parent=draw(texts),
        retry_of=draw(texts),
        reuse=draw(st.none() | st.builds(ReuseTerms, digests, lengths, pinned)),
    )


failures = st.builds(
    Failure,
    st.sampled_from(FailureReason),
    texts,
    retryable=st.booleans(),
    retry_delay=st.none() | lengths,
    memory_needed_bytes=st.just(0) | st.integers(1, 2**63),
)
qualities = st.builds(Quality, texts, amounts, st.dictionaries(texts, amounts, max_size=3))
contexts = st.builds(
    TaskContext,
    st.lists(st.builds(Knowledge, texts, texts, scores), max_size=3).map(tuple),
    st.lists(st.builds(SimilarTask, texts, texts, texts, texts, scores), max_size=3).map(tuple),
)
checkpoints = st.builds(
    Checkpoint,
    texts,
    texts,
    counts,
    st.integers(0, (1 << 32) - 1),
    st.integers(0, (1 << 32) - 1),
    st.integers(0, (1 << 32) - 1),
)
usages = st.builds(Usage, amounts, amounts, amounts, amounts, counts, counts, counts)

steps = st.integers(0, (1 << 32) - 1)
progresses = st.builds(Progress, steps, steps, texts, st.builds(instant, times))


@st.composite
def outputs(draw: st.DrawFn) -> bytes:
    packed = AnyMessage()
    if draw(st.booleans()):
        packed.Pack(PingOutput(echo=draw(texts)))
    return packed.SerializeToString(deterministic=True)


media = st.lists(st.builds(RegisteredMedia, texts, texts), min_size=1, max_size=3).map(tuple)

events: st.SearchStrategy[Event] = st.one_of(
    st.builds(TaskSubmitted, submissions()),
    st.builds(AttemptStarted, attempts, texts, texts, lengths),
    st.builds(AttemptFailed, attempts, failures),
    st.builds(AttemptReturned, attempts, texts),
    st.builds(CancelRequested, texts),
    st.builds(TaskSucceeded, attempts, outputs(), usages, st.none() | qualities, texts),
    st.builds(ContextRetrieved, attempts, contexts),
    st.builds(CheckpointSaved, attempts, checkpoints),
    st.builds(TaskFailed, attempts, failures),
    st.builds(TaskCancelled, texts),
    st.builds(MediaRegistered, media),
)


def stamped(event: bytes, *, sequence: int, time: int) -> bytes:
    """Return what a store makes of an event's record."""
    return event + struct.pack("<BQBQ", 17, sequence, 25, time)


@unhurried
@given(events, operations, st.integers(1, LARGEST), times)
def test_every_event_is_read_back_with_its_stamps(
    event: Event, operation: int, sequence: int, time: int
) -> None:
    content = stamped(encode_event(event, operation=operation), sequence=sequence, time=time)
    record = parse_event(content)
    assert event_of(record) == event
    assert (record.operation, record.sequence, record.time) == (operation, sequence, time)
    assert record.version == VERSION


@unhurried
@given(texts, texts, lengths, operations, st.integers(1, (1 << 32) - 1))
def test_a_claims_template_takes_the_attempt(
    worker: str, device: str, lease: timedelta, operation: int, attempt: int
) -> None:
    template = start_template(worker=worker, device=device, lease=lease, operation=operation)
    content = stamped(template, sequence=2, time=NOON) + struct.pack("<BBBI", 90, 5, 13, attempt)
    record = parse_event(content)
    assert event_of(record) == AttemptStarted(attempt, worker, device, lease)
    assert record.sequence == 2
    # The claim script finds its own starts by these eight bytes.
    assert struct.pack("<Q", operation) in content


@pytest.mark.parametrize(
    ("message", "field", "number", "kind"),
    [
        (EventRecord.DESCRIPTOR, "sequence", 2, FieldDescriptor.TYPE_FIXED64),
        (EventRecord.DESCRIPTOR, "time", 3, FieldDescriptor.TYPE_SFIXED64),
        (EventRecord.DESCRIPTOR, "operation", 4, FieldDescriptor.TYPE_FIXED64),
        (EventRecord.DESCRIPTOR, "attempt_started", 11, FieldDescriptor.TYPE_MESSAGE),
        (AttemptStartedMessage.DESCRIPTOR, "attempt", 1, FieldDescriptor.TYPE_FIXED32),
        (TaskRecord.DESCRIPTOR, "update_time", 2, FieldDescriptor.TYPE_SFIXED64),
    ],
)
def test_what_a_script_stamps_has_the_width_and_number_it_packs(
    message: Descriptor, field: str, number: int, kind: int
) -> None:
    found = message.fields_by_name[field]
    assert (found.number, found.type) == (number, kind)


class History:
    """One task's life as a store keeps it: each step decided, stored and read back."""

    def __init__(self, submission: Submission, time: int) -> None:
        self.facts = list[bytes]()
        self.record = b""
        self.task = self.happen(None, machine.submit(submission), time)

    def happen(self, before: Task | None, event: Event, time: int) -> Task:
        """Store what a commit stores, and return what is read back."""
        self.facts.append(
            stamped(encode_event(event, operation=7), sequence=len(self.facts) + 1, time=time)
        )
        # A claim leaves the record as it is.
        if not isinstance(event, AttemptStarted):
            after = machine.evolve(before, event, time=UNSTAMPED, task_id="t")
            self.record = encode_task(after) + struct.pack("<BQ", 17, time)
        self.task = decode_task(
            Stored("t", len(self.facts), self.record, self.facts[0], self.facts[-1])
        )
        assert self.task == machine.evolve(before, event, time=instant(time), task_id="t")
        return self.task

    def folded(self) -> Task:
        records = [parse_event(fact) for fact in self.facts]
        return machine.fold("t", [(event_of(each), instant(each.time)) for each in records])


@st.composite
def following(draw: st.DrawFn, task: Task) -> Event:
    """Return something that may happen to the task."""
    attempt, failure = task.attempt, draw(failures)
    if task.state is TaskState.PENDING:
        return draw(
            st.sampled_from(
                [
                    machine.start(task, worker="w", device="cpu", lease=draw(lengths)),
                    TaskCancelled(draw(texts)),
                    machine.expire(task),
                    TaskSucceeded(0, draw(outputs()), NO_USAGE, draw(qualities), "another"),
                ]
            )
        )
    backoff = Backoff(draw(lengths), draw(st.floats(1, 10)), draw(lengths))
    jitter = draw(st.floats(0, 1, exclude_max=True))
    return draw(
        st.sampled_from(
            [
                machine.succeed(
                    task,
                    attempt=attempt,
                    output=draw(outputs()),
                    usage=draw(usages),
                    quality=draw(st.none() | qualities),
                ),
                ContextRetrieved(attempt, draw(contexts)),
                CheckpointSaved(attempt, draw(checkpoints)),
                machine.fail(
                    task, attempt=attempt, failure=failure, backoff=backoff, jitter=jitter
                ),
                machine.hand_back(task, attempt=attempt, reason=draw(texts)),
                machine.request_cancel(task, reason=draw(texts)) or TaskCancelled(""),
            ]
        )
    )


@unhurried
@given(st.data(), submissions())
def test_a_task_is_read_back_at_every_stage_of_its_life(
    data: st.DataObject, submission: Submission
) -> None:
    time = NOON
    history = History(submission, time)
    for _ in range(8):
        if history.task.is_final:
            break
        time += data.draw(st.integers(0, 10_000_000))
        history.happen(history.task, data.draw(following(history.task)), time)
        assert history.folded() == history.task
    if history.task.state is TaskState.SUCCEEDED:
        ended = history.task.end_time
        history.happen(history.task, MediaRegistered(data.draw(media)), time + 1)
        assert history.folded() == history.task
        assert history.task.end_time == ended


@unhurried
@given(attempts, st.integers(1, LARGEST), progresses)
def test_progress_is_read_back(attempt: int, sequence: int, progress: Progress) -> None:
    record = parse_signal(
        encode_progress("t", attempt=attempt, sequence=sequence, progress=progress)
    )
    assert progress_of(record) == progress
    assert (record.task_id, record.attempt, record.sequence) == ("t", attempt, sequence)


@unhurried
@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)), lengths)  # noqa: DTZ001  # hypothesis asks for bounds without a zone
def test_moments_and_lengths_are_exact(naive: datetime, length: timedelta) -> None:
    moment = instant(0) + (naive - datetime(1970, 1, 1))  # noqa: DTZ001  # both without a zone
    assert instant(timestamp(moment).ToMicroseconds()) == moment
    assert instant(microseconds(moment)) == moment
    assert duration(length).ToTimedelta() == length


@pytest.mark.parametrize("version", [0, VERSION + 1])
def test_an_event_of_an_unknown_version_is_refused(version: int) -> None:
    record = EventRecord(version=version)
    record.task_cancelled.SetInParent()
    with pytest.raises(UnknownVersion) as refusal:
        parse_event(record.SerializeToString())
    assert (refusal.value.kind, refusal.value.version) == ("event", version)


def test_an_event_with_an_unknown_fact_is_refused() -> None:
    """A fact from the future, of the same version, is a field that is not known here."""
    content = EventRecord(version=VERSION).SerializeToString() + b"\xfa\x01\x00"
    with pytest.raises(UnknownVersion):
        parse_event(content)


@pytest.mark.parametrize("version", [0, VERSION + 1])
def test_a_task_of_an_unknown_version_is_refused(version: int) -> None:
    submission = Submission(
        project="p",
        task_type="ping",
        spec=TaskSpec(ping=PingInput()).SerializeToString(),
        queue="q",
        priority=5,
        max_attempts=1,
        time_limit=NO_TIME,
    )
    first = stamped(encode_event(TaskSubmitted(submission), operation=1), sequence=1, time=NOON)
    record = TaskRecord(version=version, sequence=1).SerializeToString()
    with pytest.raises(UnknownVersion):
        decode_task(Stored("t", 1, record, first, first))


@pytest.mark.parametrize("version", [0, VERSION + 1])
def test_a_signal_of_an_unknown_version_is_refused(version: int) -> None:
    with pytest.raises(UnknownVersion):
        parse_signal(SignalRecord(version=version).SerializeToString())


def test_a_failure_for_a_reason_from_the_future_is_internal() -> None:
    record = EventRecord(version=VERSION)
    record.task_failed.failure.reason = 99  # pyright: ignore[reportAttributeAccessIssue]  # open enums take any number on the wire
    event = event_of(parse_event(record.SerializeToString()))
    assert isinstance(event, TaskFailed)
    assert event.failure.reason is FailureReason.INTERNAL
