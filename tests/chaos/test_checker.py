"""The checker itself: a good run passes, and each kind of bad one is caught by the right name."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.chaos.checker import check, check_folder
from tests.chaos.checker_bad import BAD, LOST, STOPPED, Spoil, nth_of, record, unfaulted
from tests.chaos.checker_runs import good_run, with_records, without
from tests.chaos.checks.report import Invariant
from tests.chaos.final_state import write_final
from tests.chaos.history import (
    CallAnswered,
    CallBegun,
    CallRefused,
    CallUnknown,
    FaultBegun,
    HistoryWriter,
    WorkEnded,
    WorkStarted,
)


def test_a_good_run_passes_and_every_invariant_was_checked() -> None:
    report = check(*good_run())
    assert report.violations == []
    assert all(report.counts().values())


@pytest.mark.parametrize(("invariant", "spoil"), BAD.values(), ids=BAD)
def test_a_bad_run_is_caught_by_the_name_of_what_is_broken(
    invariant: Invariant, spoil: Spoil
) -> None:
    report = check(*spoil(good_run()))
    assert invariant in report.broken(), report.violations


def test_every_invariant_has_several_bad_runs() -> None:
    counts = {each: sum(invariant is each for invariant, _ in BAD.values()) for each in Invariant}
    assert {each: count for each, count in counts.items() if count < 3} == {}


@pytest.mark.parametrize("invariant", Invariant)
def test_an_invariant_that_was_checked_nowhere_is_a_violation(invariant: Invariant) -> None:
    """A run without tasks proves nothing."""
    report = check([], replace(good_run()[1], tasks=[], brain=[], deliveries=[]))
    # The epoch can be looked at even so.
    assert invariant in report.broken() or invariant is Invariant.IN_ORDER


def test_a_reply_that_was_lost_proves_neither_that_a_task_is_there_nor_that_it_is_not() -> None:
    """Both outcomes of a request that nobody heard of are in order."""
    unheard = good_run()
    for _ in range(2):
        unheard = without(unheard, CallAnswered)
    assert check(*unheard).violations == []
    ghost = CallBegun(
        at=500.0, call="call-x", rpc="submit", project="alpha", request_id="request-ghost"
    )
    silence = CallUnknown(at=501.0, call="call-x", code="UNAVAILABLE")
    assert check(*with_records(unheard, ghost, silence)).violations == []


def test_a_zombie_may_go_on_beside_the_next_attempt_as_long_as_its_result_does_not_count() -> None:
    """The first attempt's worker was stopped; it goes on when the second attempt has begun."""
    run = good_run()
    zombie = next(each for each in run[0] if isinstance(each, WorkStarted) and each.task_id == LOST)
    end = WorkEnded(
        at=900.0,
        task_id=LOST,
        attempt=zombie.attempt,
        worker=zombie.worker,
        process=zombie.process,
        pid=zombie.pid,
        outcome="returned",
    )
    assert check(*with_records(run, end)).violations == []


def test_work_may_stop_later_when_the_word_to_stop_could_not_come_through() -> None:
    """Its worker was stopped from before the cancellation to long after it."""
    late_end = record(WorkEnded, nth_of(WorkEnded, task_id=STOPPED), at=400.0)(good_run())
    fault = FaultBegun(at=100.0, fault="stop-1", fault_kind="stop", target="worker-1")
    assert check(*late_end).broken() == {Invariant.STOPPED}
    assert check(*with_records(late_end, fault)).violations == []


def test_a_task_keeps_its_intent_when_its_request_id_comes_again_for_another_spec() -> None:
    """A poisonous task may kill its runner; what was refused under its request_id may not."""
    records, final = unfaulted(good_run())
    (task,) = (each for each in final.tasks if each.task_id == LOST)
    poisonous = [
        replace(each, intent="poison")
        if isinstance(each, CallBegun) and each.request_id == task.request_id
        else each
        for each in records
    ]
    other = CallBegun(
        at=500.0,
        call="call-x",
        rpc="submit",
        project=task.project,
        request_id=task.request_id,
        spec_digest="another",
        intent="refuse",
    )
    refused = CallRefused(at=501.0, call="call-x", code="ALREADY_EXISTS")
    run = with_records((poisonous, final), other, refused)
    assert Invariant.BOUNDED not in check(*run).broken()
    assert Invariant.BOUNDED in check(records, final).broken()


def test_a_run_is_read_back_from_its_folder_as_it_was_written(tmp_path: Path) -> None:
    """A line that an observer's death cut short is left out."""
    records, final = good_run()
    observers = [HistoryWriter(tmp_path, f"observer-{number}") for number in range(3)]
    for place, each in enumerate(records):
        observers[place % 3].write(each)
    for observer in observers:
        observer.close()
    with (tmp_path / "history" / "observer-1.jsonl").open("ab") as file:
        file.write(b'{"kind":"work_sta')
    write_final(tmp_path, final)
    read, written = check_folder(tmp_path), check(records, final)
    assert (read.counts(), read.violations) == (written.counts(), [])
