"""What is tried when memory runs out, one rung after the other, and which rung worked before."""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from callsheet.runtime.memory_needs import ShapeBucket

_MOST_REMEMBERED: Final = 1024


class Economy(StrEnum):
    """What a loaded model can do to need less memory; each makes it slower."""

    TILES = "tiles"
    """Pictures are encoded and decoded in tiles, one after the other."""
    CHUNKS = "chunks"
    """Of a video, few frames are decoded at once."""
    OFFLOAD = "offload"
    """Only the part of the model that works is on the device; the others wait on the host."""


#: In the order in which they are tried: what costs least time first.
ORDER: Final = (Economy.TILES, Economy.CHUNKS, Economy.OFFLOAD)
#: Those that make something near, and not the same to the last bit.
INEXACT: Final = frozenset({Economy.TILES, Economy.CHUNKS})
_WORDS: Final = {
    Economy.TILES: "pictures are decoded in tiles",
    Economy.CHUNKS: "few frames are decoded at once",
    Economy.OFFLOAD: "idle parts of the model wait on the host",
}


@dataclass(frozen=True)
class Footing:
    """How a rendering is made to need less memory than it would take if it were let."""

    is_alone: bool = False
    """Whether every idle model had to leave the device before."""
    economies: frozenset[Economy] = frozenset()
    most_at_once: int = 0
    """How many items share a forward pass at the most; 0: all of them."""

    @property
    def words(self) -> str:
        """What is different about it, for people."""
        told = ["idle models were put away"] if self.is_alone else []
        told += [_WORDS[economy] for economy in ORDER if economy in self.economies]
        if self.most_at_once:
            told.append(f"at most {self.most_at_once} rendered at once")
        return ", ".join(told)


#: Everything at once, beside whatever else is warm.
FREE: Final = Footing()


def rung_below(
    footing: Footing, *, batch: int, economies: Collection[Economy], has_idle: bool
) -> Footing | None:
    """Return the footing to try after that one; None: none is left on this device.

    *batch* is how many items would share a pass, *economies* what the model can do, and *has_idle*
    whether there is anything to evict.
    """
    if has_idle and not footing.is_alone:
        return replace(footing, is_alone=True)
    for economy in ORDER:
        if economy in economies and economy not in footing.economies:
            return replace(footing, economies=footing.economies | {economy})
    at_once = footing.most_at_once or batch
    return replace(footing, most_at_once=at_once // 2) if at_once > 1 else None


class Ladder:
    """Remembers by model and size which footing worked, so that the next task starts there."""

    def __init__(self, *, most: int = _MOST_REMEMBERED) -> None:
        self._most = most
        self._footings: OrderedDict[ShapeBucket, Footing] = OrderedDict()

    def footing(self, bucket: ShapeBucket) -> Footing:
        """Return where to start."""
        return self._footings.get(bucket, FREE)

    def remember(self, bucket: ShapeBucket, footing: Footing) -> None:
        """Take note of what worked, or of the last that was tried; of the newest, so many."""
        self._footings[bucket] = footing
        self._footings.move_to_end(bucket)
        while len(self._footings) > self._most:
            self._footings.popitem(last=False)
