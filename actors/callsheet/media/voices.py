"""Sound that is heard together: each with its place, its loudness and its fades, block by block."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from callsheet.media.sound_decoding import BLOCK, Waveform

#: Starts a sound from its beginning, as pieces of any length.
Begin: TypeAlias = Callable[[], Iterator[Waveform]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """How loud a sound is from its first sample to its last; all in samples."""

    gain: float = 1.0
    fade_in: int = 0
    fade_out: int = 0
    length: int | None = None
    """How long it is. None: nobody knows yet, so it cannot fade out."""

    def shaped(self, samples: Waveform, *, place: int) -> Waveform:
        """Return samples from the place on as loud as they are to be; fades are straight lines."""
        if self.gain == 1.0 and not self._fades(samples.shape[1], place):
            return samples
        levels = np.ones(samples.shape[1], dtype=np.float64) * self.gain
        at = np.arange(samples.shape[1], dtype=np.float64) + place
        if self.fade_in:
            levels *= np.minimum(1.0, at / self.fade_in)
        if self.fade_out and self.length is not None:
            levels *= np.clip((self.length - 1 - at) / self.fade_out, 0.0, 1.0)
        return np.asarray(samples * levels, dtype=np.float32)

    def _fades(self, count: int, place: int) -> bool:
        if self.fade_in and place < self.fade_in:
            return True
        return bool(
            self.fade_out
            and self.length is not None
            and place + count > self.length - self.fade_out - 1
        )


class Voice:
    """One sound, taken in pieces of any length: silence before its place, nothing after its end."""

    def __init__(self, begin: Begin, *, channels: int, at: int, envelope: Envelope) -> None:
        self._pieces = begin()
        self._channels = channels
        self._wait = at
        self._envelope = envelope
        self._place = 0
        self._held: Waveform | None = None

    def take(self, count: int) -> Waveform:
        """Return the next samples: fewer than so many at the end, and none after it."""
        taken: list[Waveform] = []
        left = count
        if self._wait:
            silent = min(self._wait, left)
            taken.append(np.zeros((self._channels, silent), np.float32))
            self._wait -= silent
            left -= silent
        while left and (piece := self._piece()) is not None:
            some, rest = piece[:, :left], piece[:, left:]
            self._held = rest if rest.shape[1] else None
            taken.append(self._envelope.shaped(some, place=self._place))
            self._place += some.shape[1]
            left -= some.shape[1]
        if not taken:
            return np.zeros((self._channels, 0), np.float32)
        return np.concatenate(taken, axis=1)

    def close(self) -> None:
        """Let go of what the sound comes from."""
        if (close := getattr(self._pieces, "close", None)) is not None:
            close()

    def _piece(self) -> Waveform | None:
        held, self._held = self._held, None
        return held if held is not None else next(self._pieces, None)


@dataclass(frozen=True)
class Part:
    """One sound of a mix."""

    begin: Begin
    at: int
    """Where it begins in the mix, in samples."""
    envelope: Envelope


def mixed(parts: Sequence[Part], *, channels: int, whole: Envelope) -> Iterator[Waveform]:
    """Yield what is heard of the parts together, in blocks; it ends with the last of them."""
    voices = [
        Voice(part.begin, channels=channels, at=part.at, envelope=part.envelope) for part in parts
    ]
    place = 0
    try:
        while block := [piece for voice in voices if (piece := voice.take(BLOCK)).shape[1]]:
            total = np.zeros((channels, max(piece.shape[1] for piece in block)), np.float32)
            for piece in block:
                total[:, : piece.shape[1]] += piece
            yield whole.shaped(total, place=place)
            place += total.shape[1]
    finally:
        for voice in voices:
            voice.close()


def length_of(begin: Begin) -> int:
    """Return how many samples a sound has, by listening to all of it."""
    return sum(piece.shape[1] for piece in begin())


def with_length(part: Part) -> Part:
    """Return the same part with its length known, if it needs to be."""
    envelope = part.envelope
    if not envelope.fade_out or envelope.length is not None:
        return part
    return replace(part, envelope=replace(envelope, length=length_of(part.begin)))
