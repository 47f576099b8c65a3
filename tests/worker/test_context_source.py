"""What the brain knows at the start of an attempt: bounded, in time, or not at all."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from callsheet.brain.brain import Brain
from callsheet.brain.errors import BrainUnavailable
from callsheet.brain.records import KnowledgeItem, Status, TaskEventWrite, TaskMemory
from callsheet.ledger.model import Knowledge, SimilarTask, Task, TaskContext
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput
from callsheet.v1.task_spec_pb2 import TaskSpec
from callsheet.worker.context_source import (
    LONGEST_NAME,
    LONGEST_TEXT,
    LONGEST_TEXTS,
    MOST,
    ContextSource,
)
from tests.support.brains import TOKEN, SmallBrainProcess, client_of, connected, fact
from tests.support.eventually import eventually
from tests.support.ledgers import OWNER, memory_cell
from tests.support.reusing import image

LONG = timedelta(seconds=30)
SHORT = timedelta(milliseconds=50)


@pytest.fixture(scope="module")
def brain_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallBrainProcess]:
    process = SmallBrainProcess(tmp_path_factory.mktemp("brain"), token=TOKEN)
    asyncio.run(process.start())
    yield process
    process.kill()


@pytest.fixture
async def brain(brain_process: SmallBrainProcess) -> AsyncIterator[Brain]:
    """A client, connected to a brain that knows nothing and behaves."""
    brain_process.forget()
    async with client_of(brain_process.url) as brain:
        await connected(brain)
        yield brain


def remembered(task_id: str, status: Status, text: str) -> TaskEventWrite:
    """Return what makes the small brain remember a task that is as it says."""
    return fact(task_id, 1, status=status, text=text)


async def task_of(prompt: str = "a fox") -> Task:
    spec = TaskSpec(generate_image=GenerateImageInput(prompt=prompt))
    command = image(spec=spec.SerializeToString(deterministic=True), reuse=None)
    return await memory_cell().ledger.submit(OWNER, command)


async def test_what_is_known_and_what_resembles_the_task_comes(brain: Brain) -> None:
    # Given knowledge, and tasks of the project that ended, wait, or are of another one
    await brain.store_knowledge("default", source="bible", text="the fox is red")
    await brain.store_task_events(
        [
            remembered("t-1", "completed", "a red fox"),
            remembered("t-2", "queued", "a fox that waits"),
            remembered("t-3", "failed", "a blue fox"),
            {**remembered("t-4", "completed", "not ours"), "project": "elsewhere"},
        ]
    )
    # When a task asks, then it is told of what ended, as the brain has it
    context = await ContextSource(brain, budget=LONG).about(await task_of())
    assert context is not None
    (known,) = context.knowledge
    assert (known.source, known.text) == ("bible", "the fox is red")
    assert known.score == pytest.approx(0.9)
    assert [(each.task_id, each.status, each.text) for each in context.similar_tasks] == [
        ("t-1", "completed", "a red fox"),
        ("t-3", "failed", "a blue fox"),
    ]


async def test_a_task_does_not_resemble_itself(brain: Brain) -> None:
    task = await task_of()
    await brain.store_task_events([remembered(task.id, "completed", "a fox")])
    assert await ContextSource(brain, budget=LONG).about(task) is None


async def test_a_brain_that_knows_nothing_says_nothing(brain: Brain) -> None:
    assert await ContextSource(brain, budget=LONG).about(await task_of()) is None


async def test_a_brain_that_is_late_again_and_again_is_left_alone(
    brain: Brain, brain_process: SmallBrainProcess
) -> None:
    source, task = ContextSource(brain, budget=SHORT), await task_of()
    brain_process.feels(hang=True)

    async def rests() -> bool:
        assert await source.about(task) is None
        return brain.connection.is_resting

    assert await eventually(rests)
    asked = len(brain_process.calls())
    assert await source.about(task) is None
    assert len(brain_process.calls()) == asked


@pytest.mark.parametrize("mood", [{"fail": True}, {"malformed": True}])
async def test_a_brain_that_answers_nonsense_is_no_hindrance(
    brain: Brain, brain_process: SmallBrainProcess, mood: dict[str, object]
) -> None:
    brain_process.feels(**mood)
    assert await ContextSource(brain, budget=LONG).about(await task_of()) is None


async def test_a_brain_that_is_away_is_not_waited_for(tmp_path: Path) -> None:
    brain = client_of("ws://127.0.0.1:9/mcp")
    assert await ContextSource(brain, budget=LONG).about(await task_of()) is None


class Connected:
    """A connection that is there."""

    is_connected = True


class Talkative:
    """A brain that says more than it should."""

    connection = Connected()

    def __init__(self, items: list[KnowledgeItem], tasks: list[TaskMemory] | None) -> None:
        self._items, self._tasks = items, tasks

    async def query_knowledge(self, *_: object, **__: object) -> list[KnowledgeItem]:
        """Answer all there is."""
        return self._items

    async def search_similar_tasks(self, *_: object, **__: object) -> list[TaskMemory]:
        """Answer all there is, or be away."""
        if self._tasks is None:
            raise BrainUnavailable("away")
        return self._tasks


async def told(items: list[KnowledgeItem], tasks: list[TaskMemory] | None) -> TaskContext | None:
    brain = cast("Brain", Talkative(items, tasks))
    return await ContextSource(brain, budget=LONG).about(await task_of())


async def test_what_is_told_is_bounded_however_much_it_is() -> None:
    items = [KnowledgeItem("k" * 10_000, source="s" * 10_000, score=9.0)] * 50
    tasks = [TaskMemory(f"t-{n}", status="completed", text="t" * 10_000) for n in range(50)]
    context = await told(items, tasks)
    assert context is not None
    assert len(context.knowledge) == MOST
    assert len(context.similar_tasks) <= MOST
    texts = [each.text for each in (*context.knowledge, *context.similar_tasks)]
    assert max(map(len, texts)) <= LONGEST_TEXT
    assert sum(map(len, texts)) <= LONGEST_TEXTS
    assert len(context.knowledge[0].source) == LONGEST_NAME
    assert context.knowledge[0].score == 1


async def test_what_no_message_can_hold_is_made_harmless() -> None:
    items = [KnowledgeItem("half \ud83d a character", source="\udc00", score=math.nan)]
    context = await told(items, [TaskMemory("t-1", status="completed", text="", score=math.inf)])
    assert context == TaskContext((Knowledge("?", "half ? a character", 0.0),), ())


async def test_one_answer_is_told_without_the_other() -> None:
    context = await told([KnowledgeItem("the fox is red")], None)
    assert context is not None
    assert [each.text for each in context.knowledge] == ["the fox is red"]
    tasks = [TaskMemory("t-1", task_type="ping", status="failed", text="a fox", score=0.5)]
    context = await told([], tasks)
    assert context == TaskContext((), (SimilarTask("t-1", "ping", "failed", "a fox", 0.5),))
