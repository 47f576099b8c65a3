"""What one connection has not been sent yet: a bounded number of envelopes, or its end."""

import asyncio
from collections import deque
from dataclasses import dataclass

from callsheet.gateway.rooms.limits import CloseCode


@dataclass(slots=True)
class _Waiting:
    text: str
    is_signal: bool


class Closed(Exception):
    """The connection is to be ended, with this code."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Outbox:
    """One connection's. Nothing here waits but `taken`, and memory is bounded.

    A signal takes the place of the one before it in the same room. When half of the room is taken,
    signals are dropped; when all of it is, the reader is too slow, and the connection ends.
    """

    def __init__(self, *, envelopes: int, characters: int) -> None:
        self._most = envelopes
        self._most_characters = characters
        self._waiting: deque[_Waiting] = deque()
        self._characters = 0
        #: The signal of each room that a newer one may replace.
        self._signals: dict[str, _Waiting] = {}
        self._end: Closed | None = None
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        """Return how many envelopes wait."""
        return len(self._waiting)

    @property
    def end(self) -> Closed | None:
        """Why it takes nothing any more. None: it does."""
        return self._end

    def put(self, text: str, *, room: str = "") -> None:
        """Add an envelope that must not be lost; a newer signal of its room comes after it."""
        if self._end is not None:
            return
        if self._is_full(text, share=1):
            self._drop_signals()
            if self._is_full(text, share=1):
                self._waiting.clear()
                self.close(CloseCode.SLOW_READER, "messages came faster than they were taken")
                return
        self._signals.pop(room, None)
        self._add(_Waiting(text, is_signal=False))

    def put_signal(self, text: str, *, room: str) -> None:
        """Add an envelope of which only the newest counts, or drop it where much waits."""
        waiting = self._signals.get(room)
        if waiting is not None:
            self._characters += len(text) - len(waiting.text)
            waiting.text = text
        elif self._end is None and not self._is_full(text, share=2):
            self._signals[room] = waiting = _Waiting(text, is_signal=True)
            self._add(waiting)

    def close(self, code: CloseCode, reason: str) -> None:
        """Take nothing more; what waits is still sent. Closing again changes nothing."""
        if self._end is None:
            self._end = Closed(code, reason)
            self._filled.set()

    async def taken(self) -> list[str]:
        """Wait for envelopes and take them all. Raises Closed when none will come any more."""
        await self._filled.wait()
        if not self._waiting and self._end is not None:
            raise self._end
        texts = [each.text for each in self._waiting]
        self._waiting.clear()
        self._signals.clear()
        self._characters = 0
        if self._end is None:
            self._filled.clear()
        return texts

    def _add(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        self._characters += len(waiting.text)
        self._filled.set()

    def _is_full(self, text: str, *, share: int) -> bool:
        # One that is larger than all there is room for may still wait alone.
        many = self._characters + len(text) > self._most_characters // share
        return len(self._waiting) >= self._most // share or (many and bool(self._waiting))

    def _drop_signals(self) -> None:
        kept = [each for each in self._waiting if not each.is_signal]
        self._waiting = deque(kept)
        self._characters = sum(len(each.text) for each in kept)
        self._signals.clear()
