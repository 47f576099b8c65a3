"""Attempts for runners of tests, and the environment that such runners live in."""

import asyncio
import os
import sys
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final, cast

from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from callsheet.broker.chooser import ChoiceRules
from callsheet.internal.v1.pipe_pb2 import AttemptEnded, RunAttempt
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1.task_pb2 import FailureReason, Progress
from callsheet.v1.task_spec_pb2 import TaskSpec
from callsheet.worker.runner_host import RunnerHost

PROJECT: Final = "test_project"
SCRIPTED: Final = (sys.executable, str(Path(__file__).with_name("scripted_runner.py")))

#: More than any test waits for on a busy machine; what fails by time fails by this.
LONG: Final = timedelta(seconds=90)
#: Of a worker that runs each task alone.
ALONE: Final = ChoiceRules(load_catalogue(None), bucket=1, patience=timedelta(seconds=30))


def environment(state_dir: Path, *, cache_dir: Path | None = None, **more: str) -> dict[str, str]:
    """Return the environment of a runner that keeps all it writes in a folder of the test."""
    ours = {name: value for name, value in os.environ.items() if "CALLSHEET_" not in name}
    return {
        **ours,
        "CALLSHEET_STATE_DIR": str(state_dir),
        "CALLSHEET_CACHE_DIR": str(cache_dir or state_dir / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        **more,
    }


def attempt_of(message: Message, *, task_id: str | None = None, attempt: int = 1) -> RunAttempt:
    """Return an attempt of a new task with the input, whose type its name says."""
    packed = Any()
    packed.Pack(message)
    arms = TaskSpec.DESCRIPTOR.oneofs_by_name["input"].fields
    task_type = {cast("Descriptor", arm.message_type).name: arm.name for arm in arms}
    return RunAttempt(
        task_id=task_id or str(uuid.uuid4()),
        attempt=attempt,
        project=PROJECT,
        task_type=task_type[message.DESCRIPTOR.name],
        input=packed,
    )


def scripted(echo: str) -> RunAttempt:
    """Return an attempt that does what the scripted runner knows by this word."""
    return attempt_of(PingInput(echo=echo))


def long_image() -> RunAttempt:
    """Return an attempt with more denoising steps than any test waits for."""
    return attempt_of(GenerateImageInput(prompt="a fox", steps=150, count=8, width=256, height=256))


def image_output(ended: AttemptEnded) -> GenerateImageOutput:
    """Return the output of an attempt that succeeded."""
    output = GenerateImageOutput()
    assert ended.output.Unpack(output), ended
    return output


class ProgressLog:
    """Collects progress, and wakes who waits for some of it."""

    def __init__(self) -> None:
        self.seen: list[Progress] = []
        self._news = asyncio.Condition()
        self._notifying: set[asyncio.Task[None]] = set()

    def __call__(self, progress: Progress) -> None:
        """Take one report."""
        self.seen.append(progress)
        task = asyncio.create_task(self._tell())
        self._notifying.add(task)
        task.add_done_callback(self._notifying.discard)

    async def until(self, condition: Callable[[Progress], bool]) -> None:
        """Return once a report meets the condition."""
        async with asyncio.timeout(LONG.total_seconds()), self._news:
            await self._news.wait_for(lambda: any(condition(seen) for seen in self.seen))

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


async def run(
    host: RunnerHost,
    attempt: RunAttempt,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    time_limit: timedelta = LONG,
    grace_period: timedelta = LONG,
    memory_limit_bytes: int | None = None,
) -> AttemptEnded:
    """Run an attempt with limits that nothing reaches unless the test says so."""
    return await host.run(
        attempt,
        time_limit=time_limit,
        grace_period=grace_period,
        memory_limit_bytes=memory_limit_bytes,
        on_progress=progress,
    )


def failure_reason(ended: AttemptEnded) -> str:
    """Return the name of the reason of an attempt that failed."""
    assert ended.WhichOneof("outcome") == "failure", ended
    return reason(ended.failure.reason)


def reason(value: FailureReason.ValueType) -> str:
    """Return the name of a reason, which says more than its number."""
    return FailureReason.Name(value)
