"""The outbox: facts in order, the newest signal, and an end for who is too slow."""

import pytest

from callsheet.gateway.rooms.limits import CloseCode
from callsheet.gateway.rooms.outbox import Closed, Outbox


def outbox(envelopes: int = 8, characters: int = 1000) -> Outbox:
    return Outbox(envelopes=envelopes, characters=characters)


async def test_envelopes_are_taken_in_order_and_together() -> None:
    box = outbox()
    box.put("1", room="a")
    box.put("2", room="b")
    assert await box.taken() == ["1", "2"]
    assert len(box) == 0


async def test_a_newer_signal_takes_the_place_of_the_one_before_it() -> None:
    box = outbox()
    box.put_signal("10 %", room="a")
    box.put_signal("other", room="b")
    box.put_signal("20 %", room="a")
    assert await box.taken() == ["20 %", "other"]


async def test_a_signal_never_comes_before_the_fact_it_followed() -> None:
    box = outbox()
    box.put_signal("10 %", room="a")
    box.put("attempt 2", room="a")
    box.put_signal("5 %", room="a")
    assert await box.taken() == ["10 %", "attempt 2", "5 %"]


async def test_signals_are_dropped_first() -> None:
    box = outbox(envelopes=4)
    box.put_signal("s1", room="a")
    box.put_signal("s2", room="b")
    box.put_signal("s3", room="c")  # half is taken
    for fact in ("1", "2", "3", "4"):
        box.put(fact)
    assert box.end is None
    assert await box.taken() == ["1", "2", "3", "4"]


async def test_one_fact_too_many_ends_the_connection_and_frees_what_waited() -> None:
    box = outbox(envelopes=2)
    for fact in ("1", "2", "3"):
        box.put(fact)
    assert len(box) == 0
    with pytest.raises(Closed) as closed:
        await box.taken()
    assert closed.value.code is CloseCode.SLOW_READER


async def test_characters_have_a_limit_too() -> None:
    box = outbox(characters=10)
    box.put("x" * 8)
    box.put("y" * 8)
    assert box.end is not None


async def test_an_envelope_larger_than_the_limit_may_wait_alone() -> None:
    box = outbox(characters=10)
    box.put("x" * 100)
    assert await box.taken() == ["x" * 100]


async def test_what_waits_is_sent_before_the_end() -> None:
    box = outbox()
    box.put("goodbye")
    box.close(CloseCode.UNAUTHENTICATED, "revoked")
    box.put("too late")
    box.close(CloseCode.SILENT, "another reason")
    assert await box.taken() == ["goodbye"]
    with pytest.raises(Closed) as closed:
        await box.taken()
    assert closed.value.code is CloseCode.UNAUTHENTICATED


async def test_a_signal_that_grows_counts_as_large_as_it_is() -> None:
    box = outbox(characters=100)
    box.put_signal("x", room="a")
    box.put_signal("x" * 90, room="a")
    box.put("y" * 50)
    assert box.end is None
    assert await box.taken() == ["y" * 50]
