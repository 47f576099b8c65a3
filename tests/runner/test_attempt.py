"""One attempt in the runner: what its handler may ask, and how it ends."""

import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.message import Message

from callsheet.artifacts.store import ArtifactStore
from callsheet.internal.v1.pipe_pb2 import FromRunner, RunAttempt
from callsheet.media.limits import MediaLimits
from callsheet.runner.attempt import AttemptContext, Ending, end_of
from callsheet.runner.context import Handler, TaskContext, TaskStopped
from callsheet.runner.handlers import handler_for, unpack_input
from callsheet.runner.pipelines import Pipelines
from callsheet.runner.uploads import Uploads
from callsheet.runner.usage import UsageMeter
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.v1.task_pb2 import (
    FAILURE_REASON_INTERNAL,
    FAILURE_REASON_INVALID_INPUT,
    FAILURE_REASON_MODEL_NOT_FOUND,
    PROGRESS_PHASE_ENCODING,
    PROGRESS_PHASE_STEPS,
    PROGRESS_PHASE_UNSPECIFIED,
)
from tests.support.runners import attempt_of

MINUTE = timedelta(minutes=1)


class Bench:
    """An attempt's context, with what it sends and the means to stop it."""

    def __init__(self, tmp_path: Path, run: RunAttempt | None = None) -> None:
        self.sent: list[FromRunner] = []
        self.stop = threading.Event()
        self.run = run or attempt_of(PingInput(echo="hello"), attempt=3)
        self.store = ArtifactStore(tmp_path.as_uri())
        pipelines = Pipelines(
            load_catalogue(None), device="cpu", cache_dir=tmp_path, most_host_bytes=2**30
        )
        self.uploads = Uploads()
        self.meter = UsageMeter(pipelines, holds_device=True)
        self.context = AttemptContext(
            self.run,
            device="cpu",
            stop=self.stop,
            send=self.sent.append,
            pipelines=pipelines,
            artifacts=self.store,
            uploads=self.uploads,
            checkpoint_period=timedelta(microseconds=1),
            meter=self.meter,
            scratch=tmp_path,
            limits=MediaLimits(),
        )

    def end(self, handler: Handler) -> Ending:
        return end_of(self.run, self.context, resolve=lambda _: handler)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """The third attempt of a ping."""
    return Bench(tmp_path)


def test_progress_is_told_with_its_percentage(bench: Bench) -> None:
    bench.context.report(1, 8, "step 1 of 8")
    progress = bench.sent[0].progress
    assert progress.task_id == bench.run.task_id
    assert (progress.progress.current, progress.progress.total) == (1, 8)
    assert (progress.progress.percentage, progress.progress.message) == (12.5, "step 1 of 8")


def test_progress_of_an_unknown_total_has_no_percentage(bench: Bench) -> None:
    bench.context.report(0, 0, "loading the model")
    assert bench.sent[0].progress.progress.percentage == 0


def test_of_many_reports_few_are_sent_but_always_the_last(bench: Bench) -> None:
    for step in range(1, 1001):
        bench.context.report(step, 1000)
    currents = [frame.progress.progress.current for frame in bench.sent]
    assert currents[0] == 1
    assert currents[-1] == 1000
    assert len(currents) < 500


def check(context: TaskContext) -> None:
    context.check()


def report(context: TaskContext) -> None:
    context.report(1, 2)


def wait(context: TaskContext) -> None:
    context.wait(MINUTE)


def load(context: TaskContext) -> None:
    context.pipeline("")


def store(context: TaskContext) -> None:
    context.put(b"x", media_type="text/plain", suffix="txt")


@pytest.mark.parametrize("ask", [check, report, wait, load, store])
def test_whatever_a_stopped_attempt_asks_for_stops_it(
    bench: Bench, ask: Callable[[TaskContext], None]
) -> None:
    bench.stop.set()
    with pytest.raises(TaskStopped):
        ask(bench.context)
    assert bench.sent == []


def test_a_wait_returns_after_its_duration(bench: Bench) -> None:
    bench.context.wait(timedelta(milliseconds=1))


def test_an_artifact_bears_task_and_attempt(bench: Bench) -> None:
    artifact = bench.context.put(b"pixels", media_type="image/png", suffix="png", width=4, height=2)
    assert artifact.key.startswith(f"projects/test_project/tasks/{bench.run.task_id}/3-")
    assert bench.store.get(artifact.key) == b"pixels"
    assert (artifact.size_bytes, artifact.width, artifact.height) == (6, 4, 2)
    assert not bench.context.put(b"x", media_type="a/b", suffix="c").HasField("width")


def test_a_model_that_is_in_no_catalogue_is_a_failure_with_its_reason(bench: Bench) -> None:
    def ask(_: Message, context: TaskContext) -> Message:
        context.pipeline("nope")
        raise AssertionError

    failure = bench.end(ask).frame.failure
    assert failure.reason == FAILURE_REASON_MODEL_NOT_FOUND
    assert failure.message.startswith("there is no model 'nope'; the catalogue has: tiny-anim")


def test_an_output_is_packed(bench: Bench) -> None:
    ending = end_of(bench.run, bench.context, resolve=handler_for)
    output = PingOutput()
    assert ending.frame.output.Unpack(output)
    assert output.echo == "hello"
    assert ending.error is None


def test_a_stopped_attempt_ends_stopped_before_its_handler_runs(bench: Bench) -> None:
    def run(_: Message, __: TaskContext) -> Message:
        raise AssertionError

    bench.stop.set()
    assert bench.end(run).frame.stopped


def test_no_except_of_a_handler_swallows_a_stop(bench: Bench) -> None:
    def run(_: Message, context: TaskContext) -> Message:
        try:
            bench.stop.set()
            context.check()
        except Exception:  # noqa: BLE001 - as careless handlers do
            return PingOutput()
        raise AssertionError

    assert bench.end(run).frame.stopped


def test_a_handler_of_another_contract_fails_its_attempt(bench: Bench) -> None:
    def run(_: Message, __: TaskContext) -> Message:
        return PingInput()

    failure = bench.end(run).frame.failure
    assert failure.reason == FAILURE_REASON_INTERNAL
    assert "the handler of ping gave a callsheet.tasks.v1.PingInput" in failure.message


def test_an_input_of_another_type_is_invalid(tmp_path: Path) -> None:
    run = attempt_of(GenerateImageInput(prompt="a fox"))
    run.task_type = "ping"
    failure = Bench(tmp_path, run).end(handler_for("ping")).frame.failure
    assert failure.reason == FAILURE_REASON_INVALID_INPUT
    assert failure.message == "a ping takes no callsheet.tasks.v1.GenerateImageInput"


@pytest.mark.parametrize("task_type", ["", "nope", "input", "../ping", "os"])
def test_a_task_type_without_a_handler_fails_its_attempt(tmp_path: Path, task_type: str) -> None:
    run = attempt_of(PingInput())
    run.task_type = task_type
    bench = Bench(tmp_path, run)
    failure = end_of(run, bench.context, resolve=handler_for).frame.failure
    assert failure.reason == FAILURE_REASON_INTERNAL
    assert "there is no handler for the task type" in failure.message


def test_an_input_comes_back_as_its_own_message() -> None:
    run = attempt_of(PingInput(echo="hello"))
    assert unpack_input("ping", run.input) == PingInput(echo="hello")


def test_loading_is_no_running(bench: Bench) -> None:
    with bench.meter.loading():
        threading.Event().wait(0.01)
    usage = bench.meter.usage()
    assert usage.model_load_seconds >= 0.01
    assert usage.gpu_seconds == pytest.approx(usage.run_seconds + usage.model_load_seconds)
    assert usage.peak_rss_bytes > 2**20


def test_steps_and_encoding_are_parts_of_running_and_unset_where_there_were_none(
    bench: Bench,
) -> None:
    assert not bench.meter.usage().HasField("step_seconds")
    bench.context.enter(PROGRESS_PHASE_STEPS)
    threading.Event().wait(0.01)
    with bench.meter.loading():
        threading.Event().wait(0.01)
    bench.context.enter(PROGRESS_PHASE_UNSPECIFIED)
    usage = bench.meter.usage()
    assert 0.01 <= usage.step_seconds <= usage.run_seconds
    assert usage.model_load_seconds >= 0.01
    assert not usage.HasField("encode_seconds")
    bench.context.enter(PROGRESS_PHASE_ENCODING)
    assert bench.meter.usage().HasField("encode_seconds")


def test_progress_tells_what_the_attempt_is_at_and_when_that_changes(bench: Bench) -> None:
    bench.context.report(0, 0, "loading the model")
    bench.context.enter(PROGRESS_PHASE_STEPS)
    for step in range(4):
        bench.context.enter(PROGRESS_PHASE_STEPS)
        bench.context.report(step, 4)
    bench.context.enter(PROGRESS_PHASE_ENCODING)
    told = [frame.progress.progress for frame in bench.sent]
    phases = [phase for phase, _ in groupby(each.phase for each in told)]
    assert phases == [PROGRESS_PHASE_UNSPECIFIED, PROGRESS_PHASE_STEPS, PROGRESS_PHASE_ENCODING]
    assert told[-1].total == 4


def test_nothing_is_told_of_a_phase_before_there_is_progress(bench: Bench) -> None:
    bench.context.enter(PROGRESS_PHASE_ENCODING)
    assert bench.sent == []


def test_a_task_type_without_a_device_holds_none(tmp_path: Path) -> None:
    pipelines = Pipelines(load_catalogue(None), device="cpu", cache_dir=tmp_path, most_host_bytes=1)
    usage = UsageMeter(pipelines, holds_device=False).usage()
    assert usage.gpu_seconds == 0


def test_controls_report_in_the_words_of_the_handler_and_stop_with_the_attempt(
    bench: Bench,
) -> None:
    controls = bench.context.controls(words=lambda step, of: f"frame {step} of {of}")
    controls.on_step(8, 8)
    (told,) = bench.sent
    assert (told.progress.progress.current, told.progress.progress.total) == (8, 8)
    assert told.progress.progress.message == "frame 8 of 8"
    assert controls.previews is None
    bench.stop.set()
    with pytest.raises(TaskStopped):
        controls.check()


def test_the_first_step_tells_of_a_checkpoint_that_is_of_no_use(bench: Bench) -> None:
    controls = bench.context.controls()
    assert controls.checkpoints is not None
    controls.checkpoints.refuse("it is of another model")
    controls.on_step(0, 8)
    controls.on_step(8, 8)
    assert [frame.progress.progress.message for frame in bench.sent] == [
        "step 0 of 8 (starting anew: it is of another model)",
        "step 8 of 8",
    ]


def test_each_rendering_of_an_attempt_has_its_own_checkpoints(tmp_path: Path) -> None:
    first = Bench(tmp_path)
    for part in range(2):
        slot = first.context.controls().checkpoints
        assert slot is not None
        slot.save(b"state of %d" % part, step=4, of=8)
        assert first.uploads.finish(within=MINUTE)
    run = attempt_of(PingInput(), task_id=first.run.task_id, attempt=4)
    run.checkpoint.CopyFrom(first.sent[-1].checkpoint.checkpoint)
    after = Bench(tmp_path, run)
    found = [after.context.controls().checkpoints for _ in range(2)]
    assert [slot.load() for slot in found if slot is not None] == [None, b"state of 1"]


def test_a_preview_is_told_at_once_and_with_what_is_told_after_it(bench: Bench) -> None:
    bench.context.report(1, 8, "step 1 of 8")
    sink = bench.context.controls(preview_every_steps=2).previews
    assert sink is not None
    assert sink.every_steps == 2
    sink.show((np.zeros((8, 8, 3), np.uint8),), step=2, of=8)
    assert bench.uploads.finish(within=MINUTE)
    bench.context.report(8, 8, "step 8 of 8")
    before, shown, after = (frame.progress.progress for frame in bench.sent)
    assert not before.HasField("preview")
    assert (shown.current, shown.message) == (1, "step 1 of 8")
    assert shown.preview == after.preview
    assert bench.store.get(shown.preview.key)[8:12] == b"WEBP"
    bench.context.close(succeeded=True)
    assert bench.uploads.finish(within=MINUTE)
    assert bench.store.list_keys(bench.run.project, bench.run.task_id) == []
