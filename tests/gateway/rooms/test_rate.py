"""The bucket of one connection: full at first, and filled by time."""

from datetime import timedelta

from callsheet.gateway.rooms.rate import Bucket


def test_a_burst_is_let_through_and_then_so_many_a_second() -> None:
    bucket = Bucket(per_second=10, burst=3, now=0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [None, None, None]
    assert bucket.take(0.0) == timedelta(seconds=0.1)
    assert bucket.take(0.1) is None
    assert bucket.take(0.1) is not None


def test_it_never_holds_more_than_a_burst() -> None:
    bucket = Bucket(per_second=10, burst=2, now=0.0)
    assert [bucket.take(1000.0) is None for _ in range(3)] == [True, True, False]
