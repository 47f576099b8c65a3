"""The real pipeline in a real runner; all with one host, because torch takes seconds to import."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from callsheet.artifacts.store import ArtifactStore
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput
from callsheet.v1.task_pb2 import (
    FAILURE_REASON_WORKER_LOST,
    PROGRESS_PHASE_LOADING,
    PROGRESS_PHASE_STEPS,
)
from callsheet.worker.runner_host import RunnerHost
from tests.support.runners import (
    ProgressLog,
    attempt_of,
    environment,
    failure_reason,
    image_output,
    long_image,
    reason,
    run,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runners of real_host keep what they write."""
    return tmp_path_factory.mktemp("state")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real_host(state_dir: Path, cache_dir: Path) -> AsyncIterator[RunnerHost]:
    """A host of the product's own runners."""
    host = RunnerHost("cpu", environment=environment(state_dir, cache_dir=cache_dir))
    yield host
    await host.close()


async def test_an_image_is_rendered_with_progress_to_the_last_step(
    real_host: RunnerHost, state_dir: Path
) -> None:
    progress = ProgressLog()
    attempt = attempt_of(GenerateImageInput(prompt="a fox", seed=7, count=2))
    ended = await run(real_host, attempt, progress=progress)
    output = image_output(ended)
    # The real pipeline told its steps, over both images
    assert [(p.current, p.total, p.percentage) for p in progress.seen][-1] == (16, 16, 100)
    assert progress.seen[-1].message == "image 2 of 2, step 8 of 8"
    # The artifacts are there, as they are named
    store = ArtifactStore((state_dir / "artifacts").as_uri())
    assert all(store.get(image.key).startswith(b"\x89PNG") for image in output.images)
    assert len(output.images) == 2
    # And what was used was measured
    assert ended.usage.gpu_seconds >= ended.usage.run_seconds > 0
    assert ended.usage.model_load_seconds > 0
    assert 0 < ended.usage.step_seconds < ended.usage.run_seconds
    assert 0 < ended.usage.encode_seconds < ended.usage.run_seconds
    assert {p.phase for p in progress.seen} >= {PROGRESS_PHASE_LOADING, PROGRESS_PHASE_STEPS}
    assert ended.usage.peak_rss_bytes > 50 * 2**20
    assert ended.usage.peak_vram_bytes == 0
    # And what is warm on the device was told
    assert real_host.report is not None
    report, age = real_host.report
    assert (list(report.loaded_models), report.memory_total_bytes) == (["tiny-random"], 0)
    assert age >= timedelta(0)
    # As was how good the images are
    assert ended.quality.measure == "image-focus-exposure-1"
    assert 0 < ended.quality.score < 1


async def test_a_warm_pipeline_is_loaded_once(real_host: RunnerHost) -> None:
    await run(real_host, attempt_of(GenerateImageInput(prompt="a fox", steps=1)))
    pid = real_host.pid
    second = await run(real_host, attempt_of(GenerateImageInput(prompt="a hen", steps=1)))
    assert real_host.pid == pid
    assert second.usage.model_load_seconds < second.usage.run_seconds


async def test_the_same_seed_gives_the_same_bytes_in_another_process(
    real_host: RunnerHost, tmp_path: Path, cache_dir: Path
) -> None:
    fresh = RunnerHost("cpu", environment=environment(tmp_path, cache_dir=cache_dir))
    digests: list[list[str]] = []
    for host in (real_host, fresh):
        attempt = attempt_of(
            GenerateImageInput(prompt="a fox", seed=7, count=2, steps=3),
            task_id="01234567-89ab-4cde-8f01-23456789abcd",  # which is a part of them
        )
        ended = await run(host, attempt)
        digests.append([image.sha256 for image in image_output(ended).images])
    await fresh.close()
    assert digests[0] == digests[1]
    assert digests[0][0] != digests[0][1]


async def test_a_stop_is_heard_within_a_step_and_the_pipeline_stays_usable(
    real_host: RunnerHost,
) -> None:
    # Given an image of 1,200 steps in mid-inference
    progress = ProgressLog()
    attempt = long_image()
    running = asyncio.create_task(run(real_host, attempt, progress=progress))
    await progress.until(lambda seen: seen.current > 0)
    pid = real_host.pid
    # When it is asked to stop
    assert real_host.stop(attempt.task_id)
    ended = await running
    # Then it stops by itself, long before the last step
    assert ended.stopped
    assert progress.seen[-1].current < 1200
    # And the same process, still warm, runs the next
    after = await run(real_host, attempt_of(GenerateImageInput(prompt="a fox", steps=1)))
    assert image_output(after).images
    assert real_host.pid == pid


async def test_a_runner_killed_in_inference_fails_only_its_attempt(real_host: RunnerHost) -> None:
    progress = ProgressLog()
    running = asyncio.create_task(run(real_host, long_image(), progress=progress))
    await progress.until(lambda seen: seen.current > 0)
    assert real_host.pid is not None
    os.kill(real_host.pid, signal.SIGKILL)
    ended = await running
    assert failure_reason(ended) == reason(FAILURE_REASON_WORKER_LOST)
    assert "was killed by SIGKILL" in ended.failure.message
    assert ended.usage.gpu_seconds > 0
    after = await run(real_host, attempt_of(GenerateImageInput(prompt="a fox", steps=1)))
    assert image_output(after).images
