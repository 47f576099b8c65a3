"""Turns: one at a time for each name, and nothing left behind."""

import asyncio

from callsheet.gateway.rooms.turns import Turns


async def test_the_same_name_waits_and_another_does_not() -> None:
    turns = Turns()
    seen: list[str] = []
    first_may_end = asyncio.Event()

    async def first() -> None:
        async with turns.of("a"):
            seen.append("first began")
            await first_may_end.wait()
            seen.append("first ended")

    async def second() -> None:
        async with turns.of("a"):
            seen.append("second")

    async with asyncio.TaskGroup() as group:
        group.create_task(first())
        group.create_task(second())
        async with turns.of("b"):
            seen.append("other")
        first_may_end.set()
    assert seen.index("first ended") < seen.index("second")
    assert seen.index("other") < seen.index("first ended")


async def test_a_turn_that_fails_or_is_given_up_leaves_nothing() -> None:
    turns = Turns()

    async def waits() -> None:
        async with turns.of("a"):
            await asyncio.Event().wait()

    tasks = [asyncio.ensure_future(waits()) for _ in range(3)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert turns._locks == {}  # pyright: ignore[reportPrivateUsage]  # what is left is what is tested
