"""Faults of links: cut, slow, silent, and cut behind what was executed."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from tests.chaos.effects import Effect, seen
from tests.chaos.faults import Fault
from tests.chaos.plane import Plane
from tests.chaos.proxy import Link

_REPLIES_LOST: Final = 3
_DELAY: Final = timedelta(milliseconds=250)


@asynccontextmanager
async def cut(plane: Plane, fault: Fault) -> AsyncGenerator[Effect]:
    """Cut all connections of a link at once."""
    link = plane.links[fault.target]
    await seen(lambda: link.cut() > 0)
    yield Effect("connections were reset")


@asynccontextmanager
async def cut_after(plane: Plane, fault: Fault) -> AsyncGenerator[Effect]:
    """Have requests executed, and cut the line instead of their replies."""
    link = plane.links[fault.target]
    async with _disturbed(link, "cut_after", lambda: link.lose_replies(_REPLIES_LOST)) as effect:
        yield effect


@asynccontextmanager
async def delayed(plane: Plane, fault: Fault) -> AsyncGenerator[Effect]:
    """Hold up all that is said over a link."""
    link = plane.links[fault.target]
    async with _disturbed(link, "delay", lambda: link.delay(_DELAY)) as effect:
        yield effect


@asynccontextmanager
async def dropped(plane: Plane, fault: Fault) -> AsyncGenerator[Effect]:
    """Lose all that is said over a link without a word."""
    link = plane.links[fault.target]
    async with _disturbed(link, "drop", link.drop) as effect:
        yield effect


@asynccontextmanager
async def _disturbed(link: Link, count: str, begin: Callable[[], None]) -> AsyncGenerator[Effect]:
    before = link.done[count]
    begin()
    try:
        await seen(lambda: link.done[count] > before)
        effect = Effect(f"the proxy counted {count}")
        yield effect
        effect.ended = f"{link.done[count] - before} times {count}"
    finally:
        link.heal()
