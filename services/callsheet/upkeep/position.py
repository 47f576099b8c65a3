"""Positions in the log, compared."""

from typing import Final, NamedTuple

_HIGHEST: Final = (1 << 64) - 1


class Position(NamedTuple):
    """A place in the log: milliseconds since 1970, and a number within them."""

    time: int
    number: int

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Return the position that the log's text names. Raises ValueError."""
        time, _, number = text.partition("-")
        return cls(int(time), int(number or 0))

    @property
    def before(self) -> "Position":
        """The last position before this one. The very first one has none before itself."""
        if self.number:
            return Position(self.time, self.number - 1)
        return Position(self.time - 1, _HIGHEST) if self.time else self

    def __str__(self) -> str:
        return f"{self.time}-{self.number}"
