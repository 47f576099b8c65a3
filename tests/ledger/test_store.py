"""What every store does."""

from datetime import timedelta

import pytest

from callsheet.ledger import machine
from callsheet.ledger.codec import decode_task, event_of, parse_event
from callsheet.ledger.errors import CursorLost
from callsheet.ledger.events import AttemptStarted, CancelRequested, TaskCancelled
from callsheet.ledger.index import Move, Op, lease_member, prune_moves
from callsheet.ledger.instants import instant
from callsheet.ledger.log import LOG_START
from callsheet.ledger.model import TaskState
from callsheet.ledger.store import Applied, Candidate, Commit, Guard, Refused
from tests.support.ledgers import LEASE, Cell
from tests.support.store_steps import NOW, claim_of, ids, started, submission, submitted

SOON = timedelta(milliseconds=20)
LATER = timedelta(seconds=5)


async def test_what_was_committed_is_read_back(plane: Cell) -> None:
    task = await submitted(plane, "t-1")
    (stored,) = await plane.store.read(["t-1"])
    assert stored is not None
    assert decode_task(stored) == task
    assert await plane.folded("t-1") == task


async def test_an_unknown_task_is_none(plane: Cell) -> None:
    assert await plane.store.read(["nobody"]) == [None]
    assert await plane.store.facts("nobody", after=0, limit=10) == []


async def test_the_second_of_two_writers_is_refused_and_told_the_task(plane: Cell) -> None:
    # Given two writers that saw the same task
    task = await submitted(plane, "t-1")
    first = plane.writer.commit("t-1", task, TaskCancelled("first"), operation=1)
    second = plane.writer.commit("t-1", task, TaskCancelled("second"), operation=2)
    # When both commit
    answers = await plane.store.commit([first, second])
    # Then one stands, and the other one learns what stands
    assert isinstance(answers[0], Applied)
    assert isinstance(answers[1], Refused)
    assert answers[1].stored is not None
    assert decode_task(answers[1].stored).cancel_reason == "first"
    assert len(await plane.store.facts("t-1", after=0, limit=10)) == 2


async def test_a_repeated_commit_is_applied_once(plane: Cell) -> None:
    task = await submitted(plane, "t-1")
    commit = plane.writer.commit("t-1", task, TaskCancelled(""), operation=5)
    first, second = await plane.store.commit([commit]), await plane.store.commit([commit])
    assert first == second
    assert len(await plane.store.facts("t-1", after=0, limit=10)) == 2


async def test_a_repeated_commit_is_recognised_behind_other_writers(plane: Cell) -> None:
    # Given a commit that was applied, and another writer after it
    await submitted(plane, "t-1")
    task = await started(plane, "t-1")
    commit = plane.writer.commit("t-1", task, CancelRequested("mine"), operation=5)
    (applied,) = await plane.store.commit([commit])
    asked = machine.evolve(task, CancelRequested("mine"), time=task.update_time)
    confirmed = plane.writer.commit("t-1", asked, TaskCancelled("mine"), operation=6)
    assert isinstance((await plane.store.commit([confirmed]))[0], Applied)
    # When the first one is repeated, then it is recognised all the same
    assert await plane.store.commit([commit]) == [applied]


async def test_a_guard_that_no_longer_holds_refuses(plane: Cell) -> None:
    # Given a lease that was renewed after the rescuer looked
    await submitted(plane, "t-1")
    task = await started(plane, "t-1", lease=NOW)
    time, due = await plane.store.due(plane.keys.leases, limit=10)
    assert due == [lease_member("t-1", 1)]
    assert await plane.store.renew([("t-1", 1)], lease=LEASE) == [task.sequence]
    # When the rescuer commits under its guard
    guard = Guard(plane.keys.leases, due[0], time)
    commit = plane.writer.commit("t-1", task, TaskCancelled(""), operation=9, guard=guard)
    (answer,) = await plane.store.commit([commit])
    # Then nothing was written
    assert isinstance(answer, Refused)
    assert answer.stored is not None
    assert answer.stored.sequence == task.sequence


async def test_claim_appends_what_start_decides(plane: Cell) -> None:
    """The one rule outside the machine is the same rule."""
    pending = await submitted(plane, "t-1")
    claimed = await plane.store.claim(claim_of("t-1"))
    (stored,) = claimed.started
    decided = machine.start(pending, worker="w", device="cpu", lease=LEASE)
    record = parse_event(stored.last)
    assert event_of(record) == decided
    assert (record.sequence, record.operation) == (2, 77)
    assert record.time == claimed.time
    evolved = machine.evolve(pending, decided, time=instant(record.time))
    assert decode_task(stored) == evolved == await plane.folded("t-1")


async def test_later_attempts_are_stamped_as_start_decides(plane: Cell) -> None:
    await submitted(plane, "t-1")
    for attempt in range(1, 4):
        task = await started(plane, "t-1")
        assert task.attempt == attempt
        handed_back = machine.hand_back(task, attempt=attempt, reason="again")
        commit = plane.writer.commit("t-1", task, handed_back, operation=attempt)
        assert isinstance((await plane.store.commit([commit]))[0], Applied)
        pending = machine.evolve(task, handed_back, time=task.update_time)
        assert machine.start(pending, worker="w", device="cpu", lease=LEASE) == AttemptStarted(
            attempt + 1, "w", "cpu", LEASE
        )


async def test_a_claim_takes_no_more_than_its_count(plane: Cell) -> None:
    for number in range(4):
        await submitted(plane, f"t-{number}")
    claimed = await plane.store.claim(claim_of("t-0", "t-1", "t-2", count=2))
    assert [stored.task_id for stored in claimed.started] == ["t-0", "t-1"]
    assert ids(claimed) == ["t-2", "t-3"]


async def test_a_candidate_that_somebody_took_is_left_out(plane: Cell) -> None:
    await submitted(plane, "t-1")
    await submitted(plane, "t-2")
    await started(plane, "t-1")
    claimed = await plane.store.claim(claim_of("t-1", "t-2", operation=78))
    assert [stored.task_id for stored in claimed.started] == ["t-2"]


async def test_a_repeated_claim_answers_what_it_started(plane: Cell) -> None:
    await submitted(plane, "t-1")
    first = await plane.store.claim(claim_of("t-1"))
    again = await plane.store.claim(claim_of("t-1"))
    assert again.started == first.started
    assert len(await plane.store.facts("t-1", after=0, limit=10)) == 2


async def test_a_repeated_claim_starts_nothing_else_instead(plane: Cell) -> None:
    """Or what it started at first would run nowhere, until its lease has expired."""
    # Given a claim that found its first candidate taken, and started the second one
    await submitted(plane, "t-1")
    await submitted(plane, "t-2")
    taken = await started(plane, "t-1")
    claim = claim_of("t-1", "t-2", count=1, operation=78)
    first = await plane.store.claim(claim)
    # When the first candidate has come back, and the claim is repeated
    back = machine.hand_back(taken, attempt=1, reason="")
    await plane.store.commit([plane.writer.commit("t-1", taken, back, operation=79)])
    again = await plane.store.claim(claim)
    # Then it answers what it answered
    assert [stored.task_id for stored in first.started] == ["t-2"]
    assert again.started == first.started
    assert ids(again) == ["t-1"]


async def test_a_claim_repeated_late_starts_no_task_again(plane: Cell) -> None:
    """Its answer was lost, and the lease was over before it was asked again."""
    # Given an attempt of which its worker never heard, and that was given up
    await submitted(plane, "t-1")
    claim = claim_of("t-1")
    (stored,) = (await plane.store.claim(claim)).started
    task = decode_task(stored)
    gone = machine.hand_back(task, attempt=1, reason="")
    await plane.store.commit([plane.writer.commit("t-1", task, gone, operation=79)])
    # When the claim is repeated
    again = await plane.store.claim(claim)
    # Then the task waits for another claim
    assert (again.started, ids(again)) == ((), ["t-1"])
    (stored,) = (await plane.store.claim(claim_of("t-1", operation=80))).started
    assert decode_task(stored).attempt == 2


async def test_urgent_tasks_are_ready_first_and_equals_in_order_of_submission(plane: Cell) -> None:
    for name, priority in (("late", 0), ("a", 5), ("b", 5), ("urgent", 9)):
        await submitted(plane, name, priority)
    assert ids(await plane.store.claim(claim_of())) == ["urgent", "a", "b", "late"]


async def test_a_task_that_comes_back_keeps_its_place(plane: Cell) -> None:
    await submitted(plane, "first")
    await submitted(plane, "second")
    task = await started(plane, "first")
    commit = plane.writer.commit(
        "first", task, machine.hand_back(task, attempt=1, reason=""), operation=3
    )
    await plane.store.commit([commit])
    assert ids(await plane.store.claim(claim_of())) == ["first", "second"]


async def test_a_lost_lease_is_not_renewed(plane: Cell) -> None:
    await submitted(plane, "t-1")
    task = await started(plane, "t-1")
    assert await plane.store.renew([("t-1", 1), ("t-1", 2), ("x", 1)], lease=LEASE) == [
        task.sequence,
        0,
        0,
    ]


async def test_an_expired_lease_that_nobody_took_is_renewed(plane: Cell) -> None:
    await submitted(plane, "t-1")
    task = await started(plane, "t-1", lease=NOW)
    assert await plane.store.renew([("t-1", 1)], lease=LEASE) == [task.sequence]
    assert (await plane.store.due(plane.keys.leases, limit=10))[1] == []


async def test_a_delayed_task_is_not_ready_before_its_time(plane: Cell) -> None:
    await submitted(plane, "t-1", delay=timedelta(hours=1))
    assert ids(await plane.store.claim(claim_of())) == []
    assert await plane.store.count(plane.keys.delayed) == 1
    assert (await plane.store.due(plane.keys.delayed, limit=10))[1] == []


async def test_a_submission_wakes_one_waiter_of_its_queue(plane: Cell) -> None:
    await submitted(plane, "t-1")
    assert await plane.store.await_wake(["system"], timeout=LATER) == Candidate(0, "t-1")
    assert await plane.store.await_wake(["system"], timeout=SOON) is None


async def test_a_claim_that_finds_a_queue_empty_forgets_its_wake_ups(plane: Cell) -> None:
    await submitted(plane, "t-1")
    await started(plane, "t-1")
    assert await plane.store.await_wake(["system"], timeout=SOON) is None


async def test_a_word_to_a_worker_waits_on_its_control_list(plane: Cell) -> None:
    await submitted(plane, "t-1")
    task = await started(plane, "t-1")
    commit = plane.writer.commit("t-1", task, CancelRequested(""), operation=4)
    await plane.store.commit([commit])
    assert await plane.store.await_control("w", timeout=LATER) == ("t-1", 1)
    assert await plane.store.await_control("other", timeout=SOON) is None


async def test_progress_is_kept_only_while_the_task_stands_still(plane: Cell) -> None:
    await submitted(plane, "t-1")
    task = await started(plane, "t-1")
    kept = Commit("t-1", expected=task.sequence, progress=b"half")
    late = Commit("t-1", expected=task.sequence - 1, progress=b"late")
    answers = await plane.store.commit([kept, late])
    assert isinstance(answers[0], Applied)
    assert isinstance(answers[1], Refused)
    (stored,) = await plane.store.read(["t-1"])
    assert stored is not None
    assert (stored.progress, stored.sequence) == (b"half", task.sequence)


async def test_moves_without_an_event_take_no_sequence(plane: Cell) -> None:
    task = await submitted(plane, "t-1", delay=timedelta(hours=1))
    moves = (Move(Op.REMOVE, plane.keys.delayed, "t-1"),)
    assert isinstance(
        (await plane.store.commit([Commit("t-1", expected=1, moves=moves)]))[0], Applied
    )
    assert await plane.folded("t-1") == task
    assert await plane.store.count(plane.keys.delayed) == 0


async def test_pages_go_from_the_newest_to_the_oldest_and_miss_nobody(plane: Cell) -> None:
    commits = [plane.writer.submission(f"t-{n}", submission())[1] for n in range(10)]
    await plane.store.commit(commits)
    key, below, seen = plane.keys.project("default"), None, list[str]()
    while page := await plane.store.page(key, below=below, limit=3):
        seen += (member for member, _ in page)
        below = page[-1][1]
    assert seen == [f"t-{n}" for n in reversed(range(10))]


async def test_ranks_and_members_count_from_the_lowest(plane: Cell) -> None:
    await submitted(plane, "a")
    await submitted(plane, "b")
    key = plane.keys.ready("system")
    assert await plane.store.rank(key, "b") == 1
    assert await plane.store.rank(key, "nobody") is None
    assert [member for member, _ in await plane.store.members(key, limit=1)] == ["a"]


async def test_a_pruned_task_is_gone_from_everywhere(plane: Cell) -> None:
    await submitted(plane, "t-1")
    task = await plane.writer.change(
        await plane.writer.read("t-1"), lambda task: machine.request_cancel(task, reason="")
    )
    forget = Commit("t-1", expected=task.sequence, moves=prune_moves(plane.keys, task))
    assert isinstance((await plane.store.commit([forget]))[0], Applied)
    assert await plane.store.read(["t-1"]) == [None]
    for key in (
        plane.keys.final,
        plane.keys.project("default"),
        plane.keys.project_type("default", "ping"),
        plane.keys.project_live("default"),
        plane.keys.project_final("default", TaskState.CANCELLED),
        plane.keys.ready("system"),
    ):
        assert await plane.store.count(key) == 0


async def test_the_log_tells_every_fact_once_in_order(plane: Cell) -> None:
    await submitted(plane, "t-1")
    await submitted(plane, "t-2")
    await started(plane, "t-1")
    entries = await plane.log.after(LOG_START, limit=10, timeout=NOW)
    seen = [(entry.task_id, parse_event(entry.event).sequence) for entry in entries]
    assert seen == [("t-1", 1), ("t-2", 1), ("t-1", 2)]
    rest = await plane.log.after(entries[1].position, limit=10, timeout=NOW)
    assert rest == entries[2:]
    assert await plane.log.end() == entries[-1].position


async def test_a_reader_at_the_end_of_the_log_waits_and_gets_nothing(plane: Cell) -> None:
    await submitted(plane, "t-1")
    assert await plane.log.after(await plane.log.end(), limit=10, timeout=SOON) == []


async def test_a_cursor_behind_the_trimmed_log_is_lost_loudly(plane: Cell) -> None:
    for number in range(3):
        await submitted(plane, f"t-{number}")
    entries = await plane.log.after(LOG_START, limit=10, timeout=NOW)
    assert await plane.log.trim(entries[2].position) == 2
    with pytest.raises(CursorLost):
        await plane.log.after(entries[0].position, limit=10, timeout=NOW)
    assert await plane.log.after(entries[2].position, limit=10, timeout=NOW) == []


async def test_a_cursor_ahead_of_the_log_is_lost_loudly(plane: Cell) -> None:
    """A log that lost its tail would otherwise stay silent for ever."""
    await submitted(plane, "t-1")
    for position in ("99999999999999-0", "nonsense"):
        with pytest.raises(CursorLost):
            await plane.log.after(position, limit=10, timeout=NOW)


async def test_cursors_are_remembered(plane: Cell) -> None:
    await plane.log.save_cursor("sidecar", "5-0")
    await plane.log.save_cursor("sidecar", "6-0")
    assert await plane.log.cursors() == {"sidecar": "6-0"}


async def test_an_epoch_stays_until_it_is_changed(plane: Cell) -> None:
    first = await plane.log.epoch()
    assert await plane.log.epoch() == first
    await plane.log.change_epoch("restored")
    assert await plane.log.epoch() == "restored"


async def test_a_role_has_one_holder_until_it_is_given_up(plane: Cell) -> None:
    assert await plane.registry.hold("upkeep", "a", duration=LEASE)
    assert not await plane.registry.hold("upkeep", "b", duration=LEASE)
    assert await plane.registry.hold("upkeep", "a", duration=LEASE)
    await plane.registry.release("upkeep", "b")
    assert not await plane.registry.hold("upkeep", "b", duration=LEASE)
    await plane.registry.release("upkeep", "a")
    assert await plane.registry.hold("upkeep", "b", duration=NOW)
    assert await plane.registry.hold("upkeep", "c", duration=LEASE)


async def test_workers_are_known_while_they_are_heard_of(plane: Cell) -> None:
    await plane.registry.heartbeat("w", b"record")
    assert [record for record, _ in await plane.registry.workers(seen_within=LATER)] == [b"record"]
    await plane.registry.forget_worker("w")
    assert await plane.registry.workers(seen_within=LATER) == []
