"""What clients may ask, on every store."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from callsheet.ledger import listing, machine
from callsheet.ledger.access import Principal, Role
from callsheet.ledger.errors import (
    IllegalTransition,
    LedgerError,
    LedgerFull,
    PageTokenInvalid,
    ProjectNotFound,
    RequestIdReused,
    RoleMissing,
    SequenceAhead,
    TaskNotFound,
)
from callsheet.ledger.ledger import ADMISSION_SHARE, SUBMISSIONS_A_LOOK, Ledger
from callsheet.ledger.listing import TaskFilter
from callsheet.ledger.model import Failure, FailureReason, Task, TaskState, Usage
from callsheet.ledger.store import Candidate
from tests.support.ledgers import OWNER, STRANGER, Cell, memory_cell, ping


async def claimed(plane: Cell, task: Task) -> Task:
    claims = await plane.attempts().claim(
        count=1, queues=("system",), candidates=[Candidate(0, task.id)], device="cpu"
    )
    return claims.tasks[0]


async def test_a_submitted_task_is_pending_under_its_types_terms(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping("hello", metadata={"a": "b"}))
    terms = plane.catalog["ping"]
    assert (task.state, task.sequence, task.attempt) == (TaskState.PENDING, 1, 0)
    assert task.submission.project == "default"
    assert (task.submission.queue, task.submission.max_attempts) == (terms.queue, 3)
    assert (await plane.ledger.get(OWNER, task.id)).task == task


async def test_a_request_repeated_with_its_id_answers_the_same_task(plane: Cell) -> None:
    first = await plane.ledger.submit(OWNER, ping("x", request_id="r-1", trace_parent="a"))
    again = await plane.ledger.submit(OWNER, ping("x", request_id="r-1", trace_parent="b"))
    assert again == first
    assert await plane.store.count(plane.keys.project("default")) == 1


async def test_a_repeated_request_answers_the_task_as_it_is_now(plane: Cell) -> None:
    first = await plane.ledger.submit(OWNER, ping(request_id="r-1"))
    await plane.ledger.cancel(OWNER, first.id, reason="")
    again = await plane.ledger.submit(OWNER, ping(request_id="r-1"))
    assert (again.id, again.state) == (first.id, TaskState.CANCELLED)


@pytest.mark.parametrize(
    "changed", [ping("y", request_id="r"), ping("x", request_id="r", priority=9)]
)
async def test_a_request_id_with_another_submission_is_refused(
    plane: Cell, changed: object
) -> None:
    first = await plane.ledger.submit(OWNER, ping("x", request_id="r"))
    with pytest.raises(RequestIdReused) as refusal:
        await plane.ledger.submit(OWNER, changed)  # pyright: ignore[reportArgumentType]  # parametrised values come untyped
    assert refusal.value.task_id == first.id
    assert (await plane.ledger.get(OWNER, first.id)).task == first


async def test_a_repeated_request_is_the_same_though_its_types_terms_have_changed(
    plane: Cell,
) -> None:
    """A deploy in between changes what the plane adds, not what the client asked for."""
    first = await plane.ledger.submit(OWNER, ping(request_id="r"))
    changed = replace(plane.catalog["ping"], max_attempts=9, time_limit=timedelta(seconds=1))
    deployed = Ledger(plane.writer, {"ping": changed})
    assert (await deployed.submit(OWNER, ping(request_id="r"))).id == first.id


async def test_two_projects_may_use_the_same_request_id(plane: Cell) -> None:
    mine = await plane.ledger.submit(OWNER, ping(request_id="r"))
    theirs = await plane.ledger.submit(STRANGER, ping(request_id="r"))
    assert mine.id != theirs.id


async def test_requests_without_an_id_make_a_task_each(plane: Cell) -> None:
    tasks = [await plane.ledger.submit(OWNER, ping()) for _ in range(2)]
    assert tasks[0].id != tasks[1].id


async def test_each_of_many_is_accepted_or_refused_on_its_own(plane: Cell) -> None:
    answers = await plane.ledger.submit_many(
        OWNER,
        [ping("a", request_id="r"), ping("b", project="elsewhere"), ping("b", request_id="r")],
    )
    assert isinstance(answers[0], Task)
    assert isinstance(answers[1], ProjectNotFound)
    assert isinstance(answers[2], RequestIdReused)
    assert await plane.store.count(plane.keys.project("default")) == 1


async def test_another_projects_task_does_not_exist(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    for question in (
        plane.ledger.get(STRANGER, task.id),
        plane.ledger.watchable(STRANGER, task.id, after=0),
        plane.ledger.cancel(STRANGER, task.id, reason=""),
        plane.ledger.retry(STRANGER, task.id, request_id="", trace_parent=""),
    ):
        with pytest.raises(TaskNotFound):
            await question
    page = await plane.ledger.page(STRANGER, TaskFilter(""), page_size=10, page_token="")
    assert page.tasks == ()
    with pytest.raises(ProjectNotFound):
        await plane.ledger.page(STRANGER, TaskFilter("default"), page_size=10, page_token="")


async def test_a_key_does_only_what_its_roles_allow(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    reader = Principal("r", frozenset({"default"}), frozenset({Role.READ}))
    submitter = Principal("s", frozenset({"default"}), frozenset({Role.SUBMIT}))
    await plane.ledger.get(reader, task.id)
    for refused in (
        plane.ledger.submit(reader, ping()),
        plane.ledger.cancel(reader, task.id, reason=""),
        plane.ledger.get(submitter, task.id),
    ):
        with pytest.raises(RoleMissing):
            await refused


async def test_a_key_of_several_projects_names_the_one_it_means(plane: Cell) -> None:
    both = Principal("b", frozenset({"default", "elsewhere"}), frozenset(Role))
    with pytest.raises(ProjectNotFound):
        await plane.ledger.submit(both, ping())
    task = await plane.ledger.submit(both, ping(project="elsewhere"))
    assert task.submission.project == "elsewhere"


async def test_lists_go_page_by_page_and_miss_nobody(plane: Cell) -> None:
    tasks = [await plane.ledger.submit(OWNER, ping(str(n))) for n in range(7)]
    token, seen = "", list[str]()
    while True:
        page = await plane.ledger.page(OWNER, TaskFilter(""), page_size=3, page_token=token)
        seen += (task.id for task in page.tasks)
        token = page.next_token
        if not token:
            break
    assert seen == [task.id for task in reversed(tasks)]


async def test_lists_are_filtered_by_state_and_type(plane: Cell) -> None:
    # Given one task in each of four states
    waiting = await plane.ledger.submit(OWNER, ping("waiting"))
    cancelled = await plane.ledger.submit(OWNER, ping("cancelled"))
    await plane.ledger.cancel(OWNER, cancelled.id, reason="")
    running = await claimed(plane, await plane.ledger.submit(OWNER, ping("running")))
    done = await claimed(plane, await plane.ledger.submit(OWNER, ping("done")))
    await plane.attempts().succeed(done, attempt=1, output=b"", usage=Usage())

    async def ids(state: TaskState | None, task_type: str = "") -> list[str]:
        wanted = TaskFilter("default", state, task_type)
        page = await plane.ledger.page(OWNER, wanted, page_size=10, page_token="")
        return [task.id for task in page.tasks]

    # Then each list shows what it is asked for
    assert await ids(TaskState.PENDING) == [waiting.id]
    assert await ids(TaskState.RUNNING) == [running.id]
    assert await ids(TaskState.CANCELLED) == [cancelled.id]
    assert await ids(TaskState.SUCCEEDED, "ping") == [done.id]
    assert await ids(TaskState.SUCCEEDED, "generate_image") == []
    assert await ids(None, "ping") == [done.id, running.id, cancelled.id, waiting.id]
    assert await ids(None, "generate_image") == []


async def test_what_runs_in_another_project_is_in_no_list(plane: Cell) -> None:
    """Leases are those of the whole cell: the list of what runs is read from them."""
    await claimed(plane, await plane.ledger.submit(OWNER, ping()))
    wanted = TaskFilter("", TaskState.RUNNING)
    page = await plane.ledger.page(STRANGER, wanted, page_size=10, page_token="")
    assert page.tasks == ()


async def test_a_page_token_of_another_list_is_refused(plane: Cell) -> None:
    for n in range(3):
        await plane.ledger.submit(OWNER, ping(str(n)))
    page = await plane.ledger.page(OWNER, TaskFilter(""), page_size=1, page_token="")
    for token in (page.next_token, "garbage", "ÿ", page.next_token[:-4]):
        wanted = TaskFilter("", TaskState.PENDING)
        with pytest.raises(PageTokenInvalid):
            await plane.ledger.page(OWNER, wanted, page_size=1, page_token=token)


async def test_a_final_task_cannot_be_cancelled(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    await plane.ledger.cancel(OWNER, task.id, reason="no")
    with pytest.raises(IllegalTransition):
        await plane.ledger.cancel(OWNER, task.id, reason="again")


@pytest.mark.parametrize("is_failed", [True, False])
async def test_a_task_that_ended_holds_no_lease(plane: Cell, *, is_failed: bool) -> None:
    running = await claimed(plane, await plane.ledger.submit(OWNER, ping()))
    assert await plane.store.count(plane.keys.leases) == 1
    if is_failed:
        hopeless = Failure(FailureReason.INVALID_INPUT, "no")
        await plane.attempts().fail(running, attempt=1, failure=hopeless)
    else:
        await plane.attempts().succeed(running, attempt=1, output=b"", usage=Usage())
    assert await plane.store.count(plane.keys.leases) == 0


async def test_a_retry_is_a_new_task_that_names_the_old_one(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping("x"))
    with pytest.raises(IllegalTransition):
        await plane.ledger.retry(OWNER, task.id, request_id="", trace_parent="")
    await plane.ledger.cancel(OWNER, task.id, reason="")
    again = await plane.ledger.retry(OWNER, task.id, request_id="r", trace_parent="")
    assert (again.submission.retry_of, again.state) == (task.id, TaskState.PENDING)
    assert again.submission.spec == task.submission.spec
    repeated = await plane.ledger.retry(OWNER, task.id, request_id="r", trace_parent="")
    assert repeated.id == again.id


async def test_a_watch_cannot_start_after_what_has_happened(plane: Cell) -> None:
    task = await plane.ledger.submit(OWNER, ping())
    assert (await plane.ledger.watchable(OWNER, task.id, after=1)).reading.task == task
    with pytest.raises(SequenceAhead):
        await plane.ledger.watchable(OWNER, task.id, after=2)


async def test_a_cancel_decided_on_an_old_view_is_decided_again(plane: Cell) -> None:
    """The refusal carries the task, so a claim in between costs one more round trip."""
    task = await plane.ledger.submit(OWNER, ping())
    running = await claimed(plane, task)
    changed = await plane.writer.change(
        task, lambda task: machine.request_cancel(task, reason="late")
    )
    assert changed.cancel_requested
    assert changed.state is TaskState.RUNNING
    ended = await plane.attempts().confirm_cancel(running, attempt=1)
    assert (ended.state, ended.cancel_reason) == (TaskState.CANCELLED, "late")


async def test_a_failed_attempt_waits_for_its_backoff_and_remembers_why(plane: Cell) -> None:
    running = await claimed(plane, await plane.ledger.submit(OWNER, ping()))
    failure = Failure(FailureReason.INTERNAL, "broken")
    task = await plane.attempts().fail(running, attempt=1, failure=failure)
    assert task.state is TaskState.PENDING
    assert task.ready_time is not None
    assert await plane.store.count(plane.keys.delayed) == 1
    read = (await plane.ledger.get(OWNER, task.id)).task
    assert read == task == await plane.folded(task.id)
    assert read.ended_attempts[0].failure.message == "broken"


async def test_nothing_is_accepted_when_memory_is_nearly_full() -> None:
    limit = 10_000
    plane = memory_cell(limit_bytes=limit)
    for _ in range(SUBMISSIONS_A_LOOK):
        await plane.ledger.submit(OWNER, ping("x" * 200))
    with pytest.raises(LedgerFull) as refusal:
        await plane.ledger.submit(OWNER, ping())
    assert refusal.value.used_bytes > ADMISSION_SHARE * limit
    assert await plane.store.count(plane.keys.project("default")) == SUBMISSIONS_A_LOOK
    assert issubclass(LedgerFull, LedgerError)


async def test_a_delay_and_an_expiry_stand_in_their_indexes(plane: Cell) -> None:
    hour = timedelta(hours=1)
    task = await plane.ledger.submit(OWNER, ping(delay=hour, expire_after=2 * hour))
    assert task.ready_time == task.create_time + hour
    assert task.expire_time == task.create_time + 2 * hour
    assert await plane.store.count(plane.keys.delayed) == 1
    assert await plane.store.count(plane.keys.expiring) == 1
    await plane.ledger.cancel(OWNER, task.id, reason="")
    assert await plane.store.count(plane.keys.delayed) == 0
    assert await plane.store.count(plane.keys.expiring) == 0


async def test_a_page_ends_early_when_its_tasks_are_large(
    plane: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a page always fits into one answer."""
    monkeypatch.setattr(listing, "PAGE_BYTES", 300)
    tasks = [await plane.ledger.submit(OWNER, ping("x" * 200)) for _ in range(5)]
    token, sizes = "", list[int]()
    seen: list[str] = []
    while True:
        page = await plane.ledger.page(OWNER, TaskFilter(""), page_size=4, page_token=token)
        sizes.append(len(page.tasks))
        seen += (task.id for task in page.tasks)
        token = page.next_token
        if not token:
            break
    assert max(sizes) == 2
    assert seen == [task.id for task in reversed(tasks)]
