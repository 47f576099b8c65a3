"""Positions in the log, compared."""

import re
from typing import Final, NamedTuple

#: Redis keeps each number in 64 bits.
_HIGHEST: Final = (1 << 64) - 1
_TEXT: Final = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?", re.ASCII)


class Position(NamedTuple):
    """A place in the log: milliseconds since 1970, and a number within them."""

    time: int
    number: int

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Return the position that the log's text names. Raises ValueError."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no position")
        position = cls(int(found[1]), int(found[2] or 0))
        if max(position) > _HIGHEST:
            raise ValueError(f"{text!r} is beyond every log")
        return position

    @property
    def before(self) -> "Position":
        """The last position before this one. The very first one has none before itself."""
        if self.number:
            return Position(self.time, self.number - 1)
        return Position(self.time - 1, _HIGHEST) if self.time else self

    def __str__(self) -> str:
        return f"{self.time}-{self.number}"
