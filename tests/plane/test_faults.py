"""Whole stories under faults: whatever dies, the task ends, once."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from callsheet.artifacts.store import ArtifactStore
from callsheet.client import AsyncTaskClient, AsyncTaskHandle
from callsheet.client.errors import Unavailable
from callsheet.client.webhooks import verify
from callsheet.ledger.model import FailureReason, TaskState
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.upkeep.artifact_sweeper import ArtifactSweeper
from callsheet.v1.task_event_pb2 import TaskEvent
from tests.support.eventually import eventually
from tests.support.planes import CELL, PROJECT, SECRET, Plane, whole_plane
from tests.support.receiver import Receiver

PATIENCE = timedelta(seconds=90)

pytestmark = [
    pytest.mark.timeout(240),  # processes start anew, and leases have to run out
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plane(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> AsyncGenerator[Plane]:
    """One plane for all faults: each test leaves it as whole as it found it."""
    folder = tmp_path_factory.mktemp("plane")
    # One runner: that of the device
    async with whole_plane(folder, cache=cache_dir, queues="gpu,system") as started:
        yield started


async def watched(
    handle: AsyncTaskHandle[GenerateImageOutput], running: asyncio.Event
) -> list[TaskEvent]:
    """Return all facts; sets *running* once the pipeline has made a step."""
    facts: list[TaskEvent] = []
    async for event in handle.watch(timeout=PATIENCE):
        if event.HasField("progress"):
            if event.progress.current > 0:
                running.set()
        else:
            facts.append(event)
    return facts


async def in_its_middle(
    client: AsyncTaskClient, receiver: Receiver, *, images: int
) -> tuple[AsyncTaskHandle[GenerateImageOutput], asyncio.Task[list[TaskEvent]]]:
    """Return a task of so many images in mid-inference, watched, with a webhook wanted."""
    handle = await client.submit(
        GenerateImageInput(prompt="a lighthouse", steps=150, count=images, seed=1),
        output=GenerateImageOutput,
        callback_url=receiver.url,
    )
    running = asyncio.Event()
    watching = asyncio.create_task(watched(handle, running))
    await asyncio.wait_for(running.wait(), PATIENCE.total_seconds())
    return handle, watching


async def check_it_ended_once(
    handle: AsyncTaskHandle[GenerateImageOutput],
    watching: asyncio.Task[list[TaskEvent]],
    receiver: Receiver,
    *,
    images: int,
    attempts: int,
) -> None:
    """The task succeeded; its watcher saw every fact once and in order; one webhook tells of it."""
    task = await handle.wait(timeout=PATIENCE)
    assert task.attempt == attempts
    assert len((await handle.result()).images) == images
    facts = await watching
    assert [fact.sequence for fact in facts] == list(range(1, task.sequence + 1))
    assert facts[-1].HasField("task_succeeded")
    webhooks = await receiver.arrived()
    told = verify(webhooks[0].body, webhooks[0].headers, SECRET)
    assert (told.task_id, told.status) == (handle.id, "completed")
    assert {webhook.id for webhook in webhooks} == {told.id}


async def test_a_task_ends_once_though_all_but_its_worker_are_killed_in_its_middle(
    plane: Plane,
) -> None:
    async with Receiver() as receiver, plane.client() as client:
        handle, watching = await in_its_middle(client, receiver, images=2)
        # When each is killed with -9, and started anew as its supervisor would
        for victim in ("control", "upkeep", "sidecar"):
            await asyncio.to_thread(plane.restart, victim)
        # Then no attempt is lost
        await check_it_ended_once(handle, watching, receiver, images=2, attempts=1)


async def test_a_task_ends_once_though_its_runner_is_killed_in_its_middle(plane: Plane) -> None:
    async with Receiver() as receiver, plane.client() as client:
        handle, watching = await in_its_middle(client, receiver, images=1)
        (runner,) = plane.runners()
        runner.kill()
        await check_it_ended_once(handle, watching, receiver, images=1, attempts=2)
        stored = await plane.ledger.writer.read(handle.id)
        assert stored.ended_attempts[0].failure.reason is FailureReason.WORKER_LOST


async def test_a_task_ends_once_though_its_worker_is_killed_and_what_it_left_is_swept(
    plane: Plane,
) -> None:
    """Killed between an upload and the commit that would have referred to it."""
    folder = Path(plane.environment["CALLSHEET_STATE_DIR"]) / "artifacts"
    store = ArtifactStore(folder.as_uri())
    async with Receiver() as receiver, plane.client() as client:
        # Of the two the first is uploaded, while the second is drawn
        handle, watching = await in_its_middle(client, receiver, images=2)

        async def uploaded() -> list[str]:
            # A file that is being written has a name of its own, with a number behind a "#".
            return [key for key in store.list_keys(PROJECT, handle.id) if "#" not in key]

        lost = await eventually(uploaded, within=PATIENCE)
        await asyncio.to_thread(plane.restart, "worker")
        await check_it_ended_once(handle, watching, receiver, images=2, attempts=2)
        output = await handle.result()
        files = (*output.images, *output.thumbnails, *output.provenance)
        kept = sorted(file.key for file in files)
    assert set(lost).isdisjoint(kept)
    assert set(lost) < set(store.list_keys(PROJECT, handle.id))
    # The sweeper leaves what the result refers to, and nothing else.
    later = datetime.now(UTC) + timedelta(hours=2)  # noqa: TID251  # files bear the system's time
    ledger = plane.ledger
    sweeper = ArtifactSweeper(
        ledger.store, store, cell=CELL, identity=ledger.log.identity, clock=lambda: later
    )
    await sweeper.run_once()
    assert sorted(store.list_keys(PROJECT, handle.id)) == kept


async def test_an_outage_of_redis_refuses_submissions_and_burns_no_attempt(plane: Plane) -> None:
    """The outage is longer than a lease: nothing may be taken from a worker that lives."""
    async with plane.client() as client:
        # Given a running task, and one that was accepted but cannot run yet
        running = await client.submit(PingInput(duration=Duration(seconds=12)), output=PingOutput)
        await plane.ledger.until(running.id, lambda task: task.state is TaskState.RUNNING)
        delayed = await client.submit(
            PingInput(echo="later"), output=PingOutput, delay=timedelta(seconds=1)
        )
        # When Redis is gone for longer than a lease
        plane.valkey.kill()
        with pytest.raises(Unavailable) as refusal:
            await plane_call(plane)
        assert refusal.value.reason == "LEDGER_UNAVAILABLE"
        assert refusal.value.retry_delay is not None
        await asyncio.to_thread(outlast_a_lease)
        plane.restart_valkey()
        # Then everything accepted ends, each in its first attempt
        for handle in (running, delayed):
            task = await handle.wait(timeout=PATIENCE)
            assert (task.attempt, len(task.ended_attempts)) == (1, 0)
        assert (await delayed.result()).echo == "later"
        # And new work is accepted again
        assert (await (await client.submit(PingInput(echo="x"), output=PingOutput)).result()).echo


async def plane_call(plane: Plane) -> None:
    """Submit once, without the patience that clients have."""
    async with plane.client() as client:
        await client.submit(PingInput())


def outlast_a_lease() -> None:
    """Let real time pass: a lease ends by Redis's clock, and nothing else can make it."""
    threading.Event().wait(4)


async def test_a_cancelled_image_stops_within_a_step_and_a_full_disk_fails_clearly(
    plane: Plane,
) -> None:
    async with plane.client() as client:
        handle = await client.submit(
            GenerateImageInput(prompt="x", steps=150, count=8), output=GenerateImageOutput
        )
        running = asyncio.Event()
        watching = asyncio.create_task(watched(handle, running))
        await asyncio.wait_for(running.wait(), PATIENCE.total_seconds())
        (runner,) = plane.runners()
        await handle.cancel(reason="changed my mind")
        facts = await watching
        assert [fact.WhichOneof("event") for fact in facts[-2:]] == [
            "cancel_requested",
            "task_cancelled",
        ]
        # The same warm runner takes the next task.
        after = await client.submit(
            GenerateImageInput(prompt="y", steps=2), output=GenerateImageOutput
        )
        assert (await after.result(timeout=PATIENCE)).steps == 2
        assert [process.pid for process in plane.runners()] == [runner.pid]
        # Given an artifact folder that nothing can be written into
        artifacts = Path(plane.environment["CALLSHEET_STATE_DIR"]) / "artifacts"
        aside = artifacts.rename(artifacts.with_name("aside"))
        artifacts.write_text("a file, where a folder must be")
        handle = await client.submit(
            GenerateImageInput(prompt="x", steps=1), output=GenerateImageOutput
        )
        stored = await plane.ledger.until(handle.id, lambda task: bool(task.ended_attempts))
        assert stored.ended_attempts[0].failure.reason.value == "ARTIFACT_STORE"
        # When it can be written again, then the next attempt succeeds
        artifacts.unlink()
        aside.rename(artifacts)
        task = await handle.wait(timeout=PATIENCE)
        assert task.attempt == 2
