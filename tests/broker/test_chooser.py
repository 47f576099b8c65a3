"""A claimer that chooses claims the tasks that are best run next, and leaves some to others."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Final

import pytest
from msgspec.structs import replace

from callsheet.broker.chooser import LOOKED_AT, ChoiceRules, Chooser
from callsheet.broker.claimer import Claimer
from callsheet.broker.slots import Slots
from callsheet.ledger.acceptance import SubmitCommand
from callsheet.ledger.model import Failure, FailureReason, Task, TaskState
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput
from callsheet.tasks.v1.media_pb2 import REPRODUCIBILITY_STRICT
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.support.ledgers import OWNER, Cell, memory_cell

CATALOGUE: Final = load_catalogue(None)
QUEUES: Final = ("gpu",)


class Device:
    """A device whose attempts end when the test says: the claims that were made for it."""

    def __init__(self, plane: Cell, *, warm: Collection[str], bucket: int, patience: timedelta):
        self.plane, self.warm = plane, warm
        self.attempts = plane.attempts("w")
        self.slots = Slots(1)
        self.claims: asyncio.Queue[Sequence[Task]] = asyncio.Queue()
        self.left: set[str] = set()
        rules = ChoiceRules(CATALOGUE, bucket, patience)
        self.chooser = Chooser(self.attempts, rules, warm=lambda: self.warm, leaves=self._is_left)

    @asynccontextmanager
    async def claiming(self) -> AsyncGenerator[None]:
        """Have its claimer run."""
        claimer = Claimer(
            self.attempts,
            self.plane.store,
            self.slots,
            queues=QUEUES,
            device="cuda:0",
            deliver=self.claims.put_nowait,
            shuffle=list,
            chooser=self.chooser,
        )
        running = asyncio.create_task(claimer.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def next(self) -> list[str]:
        """Return the prompts of what is claimed next, and let the slot be free again."""
        async with asyncio.timeout(60):
            tasks = await self.claims.get()
        assert self.slots.free == 0
        self.slots.release()
        return [prompt_of(task) for task in tasks]

    async def _is_left(self, task: Task) -> bool:
        return prompt_of(task) in self.left


def device(
    plane: Cell,
    *,
    warm: Collection[str] = (),
    bucket: int = 4,
    patience: timedelta = timedelta(minutes=1),
) -> Device:
    return Device(plane, warm=warm, bucket=bucket, patience=patience)


def prompt_of(task: Task) -> str:
    return TaskSpec.FromString(task.submission.spec).generate_image.prompt


async def submit(plane: Cell, *prompts: str, **fields: object) -> list[Task]:
    tasks: list[Task] = []
    for prompt in prompts:
        asked = GenerateImageInput(prompt=prompt, **fields)  # pyright: ignore[reportArgumentType]  # each test gives what fits
        spec = TaskSpec(generate_image=asked).SerializeToString()
        command = SubmitCommand(spec=spec, task_type="generate_image")
        tasks.append(await plane.ledger.submit(OWNER, command))
    return tasks


async def test_tasks_that_may_share_a_pass_are_claimed_together() -> None:
    plane = memory_cell()
    await submit(plane, "a", "b")
    await submit(plane, "other", steps=9)
    await submit(plane, "c", "d", "e")
    await submit(plane, "strict", reproducibility=REPRODUCIBILITY_STRICT)
    gpu = device(plane, bucket=4)
    async with gpu.claiming():
        # Up to the bucket, and in one slot
        assert await gpu.next() == ["a", "b", "c", "d"]
        assert await gpu.next() == ["other"]
        assert await gpu.next() == ["e"]
        assert await gpu.next() == ["strict"]
    # The other one was overtaken once, however many did
    assert gpu.chooser.overtaken_count == 1


async def test_what_needs_no_loading_goes_first_for_a_while() -> None:
    plane = memory_cell()
    await submit(plane, "sd15", model="tiny-sd15")
    await submit(plane, "sdxl 1", "sdxl 2", "sdxl 3")
    gpu = device(plane, warm=["tiny-random"], bucket=1)
    async with gpu.claiming():
        assert await gpu.next() == ["sdxl 1"]
        assert await gpu.next() == ["sdxl 2"]
        gpu.warm = ["tiny-sd15"]
        assert await gpu.next() == ["sd15"]
        assert await gpu.next() == ["sdxl 3"]
    # He was overtaken twice, and is counted once
    assert gpu.chooser.overtaken_count == 1


async def test_nobody_is_overtaken_for_longer_than_the_limit() -> None:
    plane = memory_cell()
    await submit(plane, "sd15", model="tiny-sd15")
    await submit(plane, "sdxl 1", "sdxl 2")
    gpu = device(plane, warm=["tiny-random"], bucket=1, patience=timedelta(microseconds=1))
    async with gpu.claiming():
        assert await gpu.next() == ["sdxl 1"]
        assert await gpu.next() == ["sd15"]
        assert await gpu.next() == ["sdxl 2"]


async def test_what_was_tried_before_runs_alone() -> None:
    plane = memory_cell()
    (tried,) = await submit(plane, "tried")
    gpu = device(plane)
    async with gpu.claiming():
        async with asyncio.timeout(60):
            (task,) = await gpu.claims.get()
        lost = Failure(FailureReason.WORKER_LOST, "it was lost")
        await gpu.attempts.fail(task, attempt=1, failure=lost)
        await submit(plane, "new 1", "new 2")
        gpu.slots.release()
        assert await gpu.next() == ["tried"]
        assert await gpu.next() == ["new 1", "new 2"]
    assert (await plane.writer.read(tried.id)).attempt == 2


async def test_what_is_left_to_others_is_not_claimed() -> None:
    plane = memory_cell()
    theirs, _ = await submit(plane, "theirs", "mine")
    gpu = device(plane)
    gpu.left = {"theirs", "theirs too"}
    async with gpu.claiming():
        assert await gpu.next() == ["mine"]
        # Nothing but theirs is left: that is no reason to ask again and again
        await submit(plane, "theirs too")
        gpu.left = {"theirs"}
        assert await gpu.next() == ["theirs too"]
    assert (await plane.writer.read(theirs.id)).state is TaskState.PENDING


async def test_a_task_of_a_type_that_only_newer_workers_know_ends_no_claimer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plane = memory_cell()
    await submit(plane, "strange", "known")
    gpu = device(plane)
    look = gpu.attempts.look

    async def strange(task_ids: Sequence[str]) -> dict[str, Task | None]:
        return {
            task_id: replace(task, submission=replace(task.submission, task_type="no_such_type"))
            if task is not None and prompt_of(task) == "strange"
            else task
            for task_id, task in (await look(task_ids)).items()
        }

    monkeypatch.setattr(gpu.attempts, "look", strange)
    async with gpu.claiming():
        # It is claimed alone; the worker gives it back
        assert await gpu.next() == ["strange"]
        assert await gpu.next() == ["known"]


async def test_more_is_looked_at_while_all_that_was_looked_at_is_left_to_others() -> None:
    plane = memory_cell()
    theirs = [f"theirs {number}" for number in range(LOOKED_AT)]
    await submit(plane, *theirs)
    gpu = device(plane)
    gpu.left = {*theirs}
    async with gpu.claiming():
        await submit(plane, "mine")
        assert await gpu.next() == ["mine"]


async def test_devices_that_choose_alike_take_different_tasks() -> None:
    plane = memory_cell()
    await submit(plane, *(f"{number}" for number in range(12)))
    devices = [device(plane, bucket=1) for _ in range(4)]
    async with AsyncExitStack() as stack:
        for gpu in devices:
            await stack.enter_async_context(gpu.claiming())
        # Whoever found the one that he would have liked best taken, took another one
        first = [await gpu.next() for gpu in devices]
        assert len({prompt for claim in first for prompt in claim}) == 4
