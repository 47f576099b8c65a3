"""What waits goes together, in order, and every caller gets its own answer."""

import asyncio
from collections.abc import Sequence

import pytest

from callsheet.ledger.errors import LedgerBusy, LedgerUnavailable
from callsheet.ledger.lane import CommitLane


class Sender:
    """Answers each number with its tenfold, when it may; remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.sent = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.failure: BaseException | None = None

    async def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        self.sent.set()
        await self.may_answer.wait()
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return [10 * item for item in items]


async def busy(lane: CommitLane[int, int], sender: Sender) -> asyncio.Task[int]:
    """Put a first item, and return when it is on its way."""
    first = asyncio.create_task(lane.put(0))
    await asyncio.wait_for(sender.sent.wait(), 10)
    return first


def putting(lane: CommitLane[int, int], items: Sequence[int]) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(lane.put(item)) for item in items]


async def waiting() -> None:
    """Return when every caller made before has put its item: in the loop's next turn."""
    await asyncio.sleep(0)


async def test_an_item_that_comes_alone_is_sent_at_once() -> None:
    sender = Sender()
    sender.may_answer.set()
    assert await CommitLane(sender).put(1) == 10
    assert sender.batches == [[1]]


async def test_what_waits_is_sent_together_in_order() -> None:
    sender = Sender()
    lane = CommitLane(sender)
    first = await busy(lane, sender)
    others = putting(lane, range(1, 6))
    await waiting()
    sender.may_answer.set()
    assert await asyncio.gather(first, *others) == [0, 10, 20, 30, 40, 50]
    assert sender.batches == [[0], [1, 2, 3, 4, 5]]


async def test_a_batch_is_bounded() -> None:
    sender = Sender()
    sender.may_answer.set()
    lane = CommitLane(sender, batch=4)
    assert await lane.put_all(range(10)) == [10 * item for item in range(10)]
    assert sender.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_one_batch_is_on_its_way_at_a_time() -> None:
    sender = Sender()
    lane = CommitLane(sender, batch=1)
    putting_all = asyncio.create_task(lane.put_all([1, 2]))
    await asyncio.wait_for(sender.sent.wait(), 10)
    assert sender.batches == [[1]]
    sender.may_answer.set()
    assert await putting_all == [10, 20]
    assert sender.batches == [[1], [2]]


async def test_a_caller_that_goes_away_while_its_item_waits_has_no_effect() -> None:
    sender = Sender()
    lane = CommitLane(sender)
    first = await busy(lane, sender)
    gone, stays = putting(lane, [1, 2])
    await waiting()
    gone.cancel()
    await asyncio.wait({gone})
    sender.may_answer.set()
    assert await asyncio.gather(first, stays) == [0, 20]
    assert sender.batches == [[0], [2]]


async def test_a_caller_that_goes_away_while_its_item_is_sent_harms_nobody() -> None:
    sender = Sender()
    lane = CommitLane(sender)
    first = await busy(lane, sender)
    second = asyncio.create_task(lane.put(1))
    await waiting()
    first.cancel()
    await asyncio.wait({first})
    sender.may_answer.set()
    assert await second == 10
    assert sender.batches == [[0], [1]]


async def test_an_error_reaches_all_of_its_batch_and_nobody_else() -> None:
    sender = Sender()
    lane = CommitLane(sender, batch=2)
    sender.failure = LedgerUnavailable("away")
    sender.may_answer.set()
    answers = await asyncio.gather(*putting(lane, [1, 2, 3]), return_exceptions=True)
    assert [type(answer) for answer in answers] == [LedgerUnavailable, LedgerUnavailable, int]
    assert sender.batches == [[1, 2], [3]]


async def test_an_error_of_one_of_many_is_raised_to_whoever_put_them() -> None:
    sender = Sender()
    sender.failure = LedgerUnavailable("away")
    sender.may_answer.set()
    with pytest.raises(LedgerUnavailable):
        await CommitLane(sender, batch=2).put_all([1, 2, 3])


async def test_a_sender_that_is_stopped_stops_those_who_wait_for_it() -> None:
    sender = Sender()
    lane = CommitLane(sender)
    first = await busy(lane, sender)
    sender.failure = asyncio.CancelledError()
    sender.may_answer.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await lane.put(1) == 10


async def test_more_than_may_wait_is_refused_and_none_of_it_is_sent() -> None:
    sender = Sender()
    lane = CommitLane(sender, waiting=2)
    first = await busy(lane, sender)
    others = putting(lane, [1])
    await waiting()
    with pytest.raises(LedgerBusy) as refusal:
        await lane.put_all([2, 3])
    assert refusal.value.waiting == 1
    others += putting(lane, [4])
    await waiting()
    with pytest.raises(LedgerBusy):
        await lane.put(5)
    sender.may_answer.set()
    assert await asyncio.gather(first, *others) == [0, 10, 40]
    assert sender.batches == [[0], [1, 4]]
