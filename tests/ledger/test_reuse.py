"""Submissions answered with what equal ones made, or are making: in every store."""

from datetime import timedelta
from typing import cast

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from msgspec.structs import replace
from redis.asyncio import Redis

from callsheet.ledger import index
from callsheet.ledger.acceptance import Accepted, Outcome, ReuseWish
from callsheet.ledger.codec import event_of, parse_event
from callsheet.ledger.errors import LedgerError, RequestIdReused
from callsheet.ledger.events import TaskSubmitted, TaskSucceeded
from callsheet.ledger.ledger import Ledger
from callsheet.ledger.model import NO_USAGE, PinnedModel, Task, TaskState
from callsheet.ledger.pins import ran
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.store import Applied, Commit, Guard
from callsheet.tasks.v1.ping_pb2 import PingOutput
from callsheet.upkeep.pruner import Pruner
from tests.support.ledgers import (
    OWNER,
    STRANGER,
    Cell,
    memory_cell,
    redis_cell,
)
from tests.support.reusing import SCORE, accept, fail, image, made, succeed

HOOK = "https://example.com/hook"
HOUR = timedelta(hours=1)
#: Packed outputs of a type that is not known here, and of one that names no model.
UNKNOWN = AnyMessage(type_url="type.googleapis.com/no.such.Type").SerializeToString()
SAYS_NOTHING = AnyMessage(
    type_url=f"type.googleapis.com/{PingOutput.DESCRIPTOR.full_name}"
).SerializeToString()


async def prune(plane: Cell, task: Task) -> bool:
    moves = index.prune_moves(plane.keys, task)
    (answer,) = await plane.store.commit([Commit(task.id, task.sequence, moves=moves)])
    return isinstance(answer, Applied)


async def counted(plane: Cell) -> dict[str, int]:
    return await plane.store.counts(plane.keys.reuse_counts)


async def test_an_equal_submission_is_answered_with_the_output_at_once(plane: Cell) -> None:
    # Given a task that succeeded
    source = await succeed(plane, (await made(plane, image())).id)
    # When an equal one is submitted, with words of its own
    task, outcome = await accept(plane, image(metadata={"shot": "2"}, callback_url=HOOK))
    # Then it has succeeded by the same output, and took nothing
    assert outcome is Outcome.REUSED
    assert task.id != source.id
    assert (task.state, task.output, task.quality) == (TaskState.SUCCEEDED, source.output, SCORE)
    assert (task.attempt, task.usage, task.reused_from) == (0, NO_USAGE, source.id)
    assert task.submission.metadata == {"shot": "2"}
    # And its facts are two, and fold to it
    facts = await plane.store.facts(task.id, after=0, limit=9)
    told = [type(event_of(parse_event(fact))) for fact in facts]
    assert told == [TaskSubmitted, TaskSucceeded]
    assert await plane.folded(task.id) == task == (await plane.ledger.get(OWNER, task.id)).task


async def test_a_reused_task_stands_in_the_lists_of_ended_tasks_and_nowhere_else(
    plane: Cell,
) -> None:
    await succeed(plane, (await made(plane, image())).id)
    task, _ = await accept(plane, image(expire_after=HOUR))
    keys, project = plane.keys, "default"
    for key, there in {
        keys.project(project): True,
        keys.project_type(project, "generate_image"): True,
        keys.project_final(project, TaskState.SUCCEEDED): True,
        keys.final: True,
        keys.project_live(project): False,
        keys.ready("gpu"): False,
        keys.delayed: False,
        keys.expiring: False,
    }.items():
        assert (await plane.store.rank(key, task.id) is not None) is there, key


async def test_both_facts_are_in_the_log(plane: Cell) -> None:
    await succeed(plane, (await made(plane, image())).id)
    task, _ = await accept(plane, image())
    entries = await plane.log.after("0-0", limit=99, timeout=timedelta(0))
    told = [parse_event(entry.event) for entry in entries if entry.task_id == task.id]
    assert [event.sequence for event in told] == [1, 2]
    assert told[1].task_succeeded.reused_from == task.reused_from


async def test_another_project_never_gets_a_hit(plane: Cell) -> None:
    await succeed(plane, (await made(plane, image())).id)
    running = await made(plane, image("bb", joins=True))
    for command in (image(), image("bb", joins=True)):
        task, outcome = await plane.ledger.accept(STRANGER, command)
        assert outcome is Outcome.CREATED
        assert (task.submission.project, task.reused_from) == ("elsewhere", "")
        assert task.id != running.id


@pytest.mark.parametrize("joins", [False, True])
async def test_another_digest_is_another_task(plane: Cell, *, joins: bool) -> None:
    await succeed(plane, (await made(plane, image("aa", joins=joins))).id)
    await made(plane, image("bb", joins=joins))


async def test_who_does_not_ask_neither_takes_nor_gives(plane: Cell) -> None:
    await succeed(plane, (await made(plane, image(reuse=None))).id)
    await succeed(plane, (await made(plane, image())).id)
    assert (await accept(plane, image(reuse=None))).outcome is Outcome.CREATED
    assert (await accept(plane, image())).outcome is Outcome.REUSED


async def test_a_submission_without_reuse_makes_no_key_of_its_own(redis: Redis, cell: str) -> None:
    plane = redis_cell(RedisConnection(redis), cell)
    await succeed(plane, (await made(plane, image(reuse=None))).id)
    found = await RedisConnection(redis).command("KEYS", f"{plane.keys.prefix}*")
    keys = [key.decode() for key in cast("list[bytes]", found)]
    assert keys
    assert [key for key in keys if "reuse" in key or "joined" in key] == []


async def test_who_asks_for_something_newer_makes_it_for_all(plane: Cell) -> None:
    first = await succeed(plane, (await made(plane, image())).id)
    second = await succeed(plane, (await made(plane, image(max_age=timedelta(0)))).id)
    assert (await accept(plane, image())).task.reused_from == second.id != first.id
    assert (await accept(plane, image(max_age=HOUR))).task.reused_from == second.id


async def test_an_output_past_the_time_of_its_type_is_not_used(plane: Cell) -> None:
    moment = timedelta(microseconds=1)
    kind = replace(plane.catalog["generate_image"], cache_ttl=moment)
    hasty = Ledger(plane.writer, {"generate_image": kind})
    task, _ = await hasty.accept(OWNER, image())
    await succeed(plane, task.id)
    assert (await hasty.accept(OWNER, image())).outcome is Outcome.CREATED


async def test_a_type_without_such_a_time_is_never_answered(plane: Cell) -> None:
    kind = replace(plane.catalog["generate_image"], cache_ttl=None)
    ledger = Ledger(plane.writer, {"generate_image": kind})
    task, _ = await ledger.accept(OWNER, image(joins=True))
    assert (await ledger.accept(OWNER, image(joins=True))).outcome is Outcome.CREATED
    await succeed(plane, task.id)
    assert (await ledger.accept(OWNER, image())).outcome is Outcome.CREATED


@pytest.mark.parametrize("end", ["fail", "cancel"])
async def test_what_did_not_succeed_answers_nobody(plane: Cell, end: str) -> None:
    task = await made(plane, image(joins=True))
    if end == "fail":
        await fail(plane, task.id)
    else:
        await plane.ledger.cancel(OWNER, task.id, reason="")
    await made(plane, image(joins=True))


async def test_a_request_is_answered_with_the_same_task_when_it_is_repeated(plane: Cell) -> None:
    # Given requests that made, joined and reused
    first, joins = image(joins=True, request_id="r-1"), image(joins=True, request_id="r-2")
    task = await made(plane, first)
    assert (await accept(plane, joins)).outcome is Outcome.JOINED
    await succeed(plane, task.id)
    reuses = image(request_id="r-3")
    reused = (await accept(plane, reuses)).task
    before = await counted(plane)
    # When each is repeated, then it is answered with the same task, and nothing is written
    for command, task_id, outcome in (
        (first, task.id, Outcome.REPEATED),
        (joins, task.id, Outcome.JOINED),
        (reuses, reused.id, Outcome.REPEATED),
    ):
        again = await accept(plane, command)
        assert (again.task.id, again.outcome) == (task_id, outcome)
    assert await counted(plane) == before


async def test_a_request_that_made_another_task_is_refused_although_there_is_a_result(
    plane: Cell,
) -> None:
    await succeed(plane, (await made(plane, image())).id)
    other = await made(plane, image("bb", request_id="r-1", metadata={"shot": "1"}))
    with pytest.raises(RequestIdReused):
        await accept(plane, image(request_id="r-1"))
    assert (await plane.writer.read(other.id)).state is TaskState.PENDING


async def test_a_batch_is_answered_item_by_item(plane: Cell) -> None:
    await succeed(plane, (await made(plane, image("aa"))).id)
    commands = [
        image("aa"),
        image("bb", joins=True),
        image(reuse=None),
        image("bb", joins=True),
        image("aa", project="elsewhere"),
        image("aa", joins=True),
    ]
    answers = await plane.ledger.accept_many(OWNER, commands)
    outcomes = [each.outcome if isinstance(each, Accepted) else type(each) for each in answers]
    assert outcomes[:4] == [Outcome.REUSED, Outcome.CREATED, Outcome.CREATED, Outcome.JOINED]
    assert isinstance(answers[4], LedgerError)
    assert outcomes[5] is Outcome.REUSED


async def test_an_output_is_used_from_where_it_was_made(plane: Cell) -> None:
    """There are no chains: so an output is never used longer than its own time."""
    source = await succeed(plane, (await made(plane, image())).id)
    for _ in range(2):
        assert (await accept(plane, image())).task.reused_from == source.id


async def test_a_task_is_kept_longer_than_those_that_use_its_output(plane: Cell) -> None:
    source = await succeed(plane, (await made(plane, image())).id)
    (_, before), *_ = await plane.store.members(plane.keys.final, limit=9)
    task, _ = await accept(plane, image())
    places = dict(await plane.store.members(plane.keys.final, limit=9))
    assert before < places[task.id]
    assert places[source.id] - places[task.id] == index.OUTLIVES


async def test_a_task_that_is_forgotten_answers_nobody(plane: Cell) -> None:
    source = await succeed(plane, (await made(plane, image())).id)
    assert await prune(plane, source)
    await made(plane, image())


async def test_forgetting_an_older_task_leaves_the_newer_ones_output(plane: Cell) -> None:
    older = await succeed(plane, (await made(plane, image())).id)
    newer = await succeed(plane, (await made(plane, image(max_age=timedelta(0)))).id)
    assert await prune(plane, older)
    assert (await accept(plane, image())).task.reused_from == newer.id


async def test_the_pruner_leaves_a_task_whose_output_was_used_meanwhile() -> None:
    """It looked before, and commits after: the task has moved, and is not forgotten."""
    plane = memory_cell()
    source = await succeed(plane, (await made(plane, image())).id)
    time = dict(await plane.store.members(plane.keys.final, limit=9))[source.id]
    found = Commit(
        source.id,
        expected=source.sequence,
        moves=index.prune_moves(plane.keys, source),
        guard=Guard(plane.keys.final, source.id, time),
    )
    await accept(plane, image())
    (answer,) = await plane.store.commit([found])
    assert not isinstance(answer, Applied)
    assert await Pruner(plane.writer).run_once()
    assert (await accept(plane, image())).outcome is Outcome.REUSED


async def test_what_was_answered_is_counted_by_type(plane: Cell) -> None:
    task = await made(plane, image(joins=True))
    await accept(plane, image(joins=True))
    await succeed(plane, task.id)
    for _ in range(3):
        await accept(plane, image())
    assert await counted(plane) == {
        "generate_image:misses": 1,
        "generate_image:joins": 1,
        "generate_image:hits": 3,
    }


async def test_a_retried_task_offers_its_output_to_nobody(plane: Cell) -> None:
    """The models it was digested by may be others by now."""
    failed = await fail(plane, (await made(plane, image())).id)
    again = await plane.ledger.retry(OWNER, failed.id, request_id="", trace_parent="")
    await succeed(plane, again.id)
    await made(plane, image())


PINNED = ReuseWish("aa", joins=True, models=(PinnedModel("model", "sdxl", "f" * 40),))


async def test_an_output_of_the_pinned_model_is_offered(plane: Cell) -> None:
    task = await made(plane, image(reuse=PINNED))
    source = await succeed(plane, task.id, model="sdxl", revision="f" * 40)
    answered = (await accept(plane, image(reuse=PINNED))).task
    assert answered.reused_from == source.id
    assert answered.submission.reuse == task.submission.reuse


@pytest.mark.parametrize(
    ("model", "revision"), [("sdxl", "e" * 40), ("sdxl", ""), ("other", "f" * 40), ("", "")]
)
async def test_an_output_of_another_model_answers_nobody(
    plane: Cell, model: str, revision: str
) -> None:
    """As of a worker that read another catalogue than control had at the submission."""
    task = await made(plane, image(reuse=PINNED))
    ended = await succeed(plane, task.id, model=model, revision=revision)
    assert ended.state is TaskState.SUCCEEDED
    await made(plane, image(reuse=PINNED))


@pytest.mark.parametrize("output", [b"", b"no message", UNKNOWN, SAYS_NOTHING])
def test_an_output_that_does_not_tell_its_model_answers_nobody(output: bytes) -> None:
    assert not ran(PINNED.models, output)
    assert ran((), output)


async def test_a_commit_of_two_facts_repeated_is_applied_once(plane: Cell) -> None:
    source = await succeed(plane, (await made(plane, image())).id)
    prepared, _ = plane.writer.submission("00000000-0000-4000-8000-000000000001", source.submission)
    task, commit = plane.writer.reused(prepared, source)
    first, second = await plane.store.commit([commit, commit])
    assert isinstance(first, Applied)
    assert (first.sequence, first) == (1, second)
    assert await plane.store.commit([commit]) == [first]
    assert (await plane.writer.read(task.id)).sequence == 2
    assert len(await plane.store.facts(task.id, after=0, limit=9)) == 2
