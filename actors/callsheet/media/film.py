"""Clips, one after the other: their pictures, and the sound that goes with each of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from callsheet.media.picture_decoding import Fit
from callsheet.media.voices import Begin, Envelope, Voice

if TYPE_CHECKING:
    from callsheet.media.picture_decoding import Pixels
    from callsheet.media.reader import MediaReader
    from callsheet.media.sound_decoding import Waveform
    from callsheet.tasks.v1.media_pb2 import MediaReference

#: The sound of films: samples a second, and channels.
SOUND_RATE: Final = 48_000
SOUND_CHANNELS: Final = 2


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A part of a video."""

    reference: "MediaReference"
    duration: timedelta | None
    """How long the whole video plays. None: its head does not say."""
    start: timedelta
    end: timedelta | None
    has_sound: bool
    """Whether there is anything to hear."""

    @property
    def length(self) -> timedelta | None:
        """How long the part plays, as far as the video's head tells."""
        ends = [end for end in (self.end, self.duration) if end is not None]
        return max(timedelta(0), min(ends) - self.start) if ends else None


class Shown(NamedTuple):
    """A picture of a film."""

    clip: int
    """The clip that it is of, counted from 0."""
    pixels: "Pixels"


@dataclass(frozen=True, kw_only=True)
class Film:
    """Clips in one size and at one rate."""

    reader: "MediaReader"
    clips: Sequence[Clip]
    size: tuple[int, int]
    """Width and height."""
    rate: Fraction
    """Pictures a second."""
    fit: Fit

    @property
    def expected(self) -> int:
        """How many pictures there will be, as far as the files' heads tell; 0: they do not."""
        lengths = [clip.length for clip in self.clips]
        known = [length for length in lengths if length is not None]
        if len(known) < len(lengths):
            return 0
        return sum(max(1, round(length.total_seconds() * self.rate)) for length in known)

    def pictures(self) -> Iterator[Shown]:
        """Yield the pictures; none is to be changed, as it may come again."""
        for number, clip in enumerate(self.clips):
            pictures = self.reader.pictures(
                clip.reference,
                start=clip.start,
                end=clip.end,
                rate=self.rate,
                size=self.size,
                fit=self.fit,
            )
            for pixels in pictures:
                yield Shown(number, pixels)

    def voice(self, clip: Clip) -> Voice:
        """Return the sound of a clip, from its beginning."""

        def begin() -> "Iterator[Waveform]":
            if not clip.has_sound:
                return iter(())
            return self.reader.sound(
                clip.reference,
                start=clip.start,
                end=clip.end,
                rate=SOUND_RATE,
                channels=SOUND_CHANNELS,
            )

        return Voice(begin, channels=SOUND_CHANNELS, at=0, envelope=Envelope())


class FilmSound:
    """What is heard of a film, taken picture by picture: so that both stay together."""

    def __init__(self, film: Film, *, track: Begin | None, gain: float) -> None:
        """*track*: sound from elsewhere, made louder by the factor."""
        self._film = film
        self._clip = -1
        self._voice: Voice | None = None
        self._track: Voice | None = None
        if track is not None:
            self._track = Voice(track, channels=SOUND_CHANNELS, at=0, envelope=Envelope(gain=gain))
        self._pictures = 0
        self._place = 0

    def under(self, shown: Shown) -> "Waveform":
        """Return what is heard while the next picture is shown."""
        if shown.clip != self._clip:
            self._turn_to(shown.clip)
        self._pictures += 1
        place = round(self._pictures / self._film.rate * SOUND_RATE)
        count, self._place = place - self._place, place
        heard = np.zeros((SOUND_CHANNELS, count), np.float32)
        for voice in (self._voice, self._track):
            if voice is not None:
                samples = voice.take(count)
                heard[:, : samples.shape[1]] += samples
        return heard

    def close(self) -> None:
        """Let go of what the sound comes from."""
        for voice in (self._voice, self._track):
            if voice is not None:
                voice.close()

    def _turn_to(self, clip: int) -> None:
        if self._voice is not None:
            self._voice.close()
        self._clip = clip
        self._voice = self._film.voice(self._film.clips[clip])
