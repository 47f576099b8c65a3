"""What one watcher has not taken yet: bounded, newest signal first, never silently short."""

import pytest

from callsheet.control.inbox import Fact, Inbox, Signal
from callsheet.control.refusals import ShuttingDown


def _fact(sequence: int) -> Fact:
    return Fact(sequence, 0, is_final=False, payload=b"%d" % sequence)


async def test_facts_come_out_in_the_order_in_which_they_came_in() -> None:
    inbox = Inbox()
    for sequence in (1, 2, 3):
        inbox.put(_fact(sequence))
    await inbox.filled()
    assert [inbox.take(), inbox.take(), inbox.take(), inbox.take()] == [
        _fact(1),
        _fact(2),
        _fact(3),
        None,
    ]


async def test_one_fact_too_many_makes_the_watcher_read_the_store() -> None:
    inbox = Inbox(limit=3)
    for sequence in range(1, 100):
        inbox.put(_fact(sequence))
    await inbox.filled()
    assert inbox.take() is None
    assert inbox.catch_up()
    assert not inbox.catch_up()


async def test_facts_that_come_while_the_store_is_read_are_kept() -> None:
    inbox = Inbox(limit=3)
    inbox.fall_behind()
    await inbox.filled()
    assert inbox.catch_up()
    inbox.put(_fact(7))
    await inbox.filled()
    assert inbox.take() == _fact(7)


def test_only_the_newest_signal_counts() -> None:
    inbox = Inbox()
    inbox.tell(Signal(2, 1, b"old"))
    inbox.tell(Signal(2, 1, b"new"))
    assert inbox.take_signal(up_to=2) == Signal(2, 1, b"new")
    assert inbox.take_signal(up_to=2) is None


def test_a_signal_waits_for_the_fact_before_it() -> None:
    inbox = Inbox()
    inbox.tell(Signal(3, 1, b"early"))
    assert inbox.take_signal(up_to=2) is None
    assert inbox.take_signal(up_to=3) == Signal(3, 1, b"early")


async def test_an_end_is_told_before_anything_else_and_for_ever() -> None:
    inbox = Inbox()
    inbox.put(_fact(1))
    inbox.end(ShuttingDown())
    for _ in range(2):
        with pytest.raises(ShuttingDown):
            await inbox.filled()
