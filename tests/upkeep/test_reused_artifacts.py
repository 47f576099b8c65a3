"""An artifact is kept as long as any task that is kept refers to it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from google.protobuf.any_pb2 import Any as AnyMessage
from msgspec.structs import replace

from callsheet.artifacts.store import ArtifactStore
from callsheet.ledger.acceptance import Outcome
from callsheet.ledger.catalog import TaskType
from callsheet.ledger.ledger import Ledger
from callsheet.ledger.model import Usage
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageOutput
from callsheet.upkeep.artifact_sweeper import ArtifactSweeper
from callsheet.upkeep.pruner import Pruner
from tests.support.ledgers import OWNER, RETENTION, Cell, SettableClock, memory_cell
from tests.support.reusing import image
from tests.support.work import started

DAY = timedelta(days=1)


async def drawn(plane: Cell, store: ArtifactStore, task_id: str) -> str:
    """Have a worker draw the task's image; return its key."""
    attempts, task = await started(plane, task_id)
    stored = store.put(
        b"a picture",
        project="default",
        task_id=task_id,
        attempt=1,
        media_type="image/png",
        suffix="png",
    )
    packed = AnyMessage()
    packed.Pack(GenerateImageOutput(images=[Artifact(uri=stored.uri, key=stored.key)]))
    output = packed.SerializeToString(deterministic=True)
    await attempts.succeed(task, attempt=1, output=output, usage=Usage())
    return stored.key


async def test_the_artifact_of_a_task_outlives_it_no_sooner_than_those_that_use_it(
    tmp_path: Path,
) -> None:
    clock = SettableClock()
    plane, store = memory_cell(clock), ArtifactStore((tmp_path / "artifacts").as_uri())
    long: TaskType = replace(plane.catalog["generate_image"], cache_ttl=RETENTION)
    ledger = Ledger(plane.writer, {"generate_image": long})
    pruner = Pruner(plane.writer)
    sweeper = ArtifactSweeper(
        plane.store,
        store,
        cell=plane.keys.cell,
        identity=plane.log.identity,
        clock=lambda: datetime.now(UTC) + 99 * DAY,  # noqa: TID251  # files bear the system's time
    )

    async def upkeep() -> None:
        await pruner.run_once()
        await sweeper.run_once()

    # Given an output that was used again a day before its task would have been forgotten
    source = await ledger.submit(OWNER, image())
    key = await drawn(plane, store, source.id)
    clock.advance(RETENTION - DAY)
    reused, outcome = await ledger.accept(OWNER, image())
    assert outcome is Outcome.REUSED
    # When the time of the first has passed, then its artifact is there for the second
    clock.advance(RETENTION - timedelta(minutes=1))
    await upkeep()
    assert (await plane.store.read([reused.id]))[0] is not None
    assert store.get(key) == b"a picture"
    # When the second is forgotten, then the first and its artifact go a little later
    clock.advance(timedelta(minutes=2))
    await upkeep()
    assert (await plane.store.read([reused.id]))[0] is None
    assert store.get(key) == b"a picture"
    clock.advance(timedelta(hours=1))
    await upkeep()
    assert await plane.store.read([source.id]) == [None]
    assert store.list_keys("default", source.id) == []
