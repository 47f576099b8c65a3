"""What a fault is while it lasts, and how it is seen to have taken effect."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import psutil

from tests.chaos.faults import Fault
from tests.chaos.plane import Plane
from tests.support.eventually import eventually

#: How long an effect may take to be seen; a link has to be used before anything happens to it.
SEEN_WITHIN: Final = timedelta(seconds=12)


class NotFired(Exception):
    """The fault did nothing: what it was to hit was not there, or was not used."""


@dataclass
class Effect:
    """What was seen of a fault at its beginning and, once it is over, at its end."""

    begun: str
    ended: str = ""


#: Begins a fault, yields what was seen of it, and ends it. Raises NotFired.
Inflict = Callable[[Plane, Fault], AbstractAsyncContextManager[Effect]]


async def seen(is_so: Callable[[], bool], *, within: timedelta = SEEN_WITHIN) -> None:
    """Return when it is so. Raises NotFired when it is not within that time."""

    async def look() -> bool:
        return is_so()

    try:
        await eventually(look, within=within)
    except TimeoutError:
        raise NotFired("no effect was seen") from None
    except psutil.NoSuchProcess:
        raise NotFired("the process went away by itself") from None
