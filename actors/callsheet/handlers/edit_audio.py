"""Cut, fade and mix sounds, and bring the mix to a loudness.

Sound goes through in blocks, and never all of it is in memory. What has to be known before the
first block is written (how long a sound is that fades out, how loud the mix is) is found out by
going through it before.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from callsheet.media.delivery import deliver_sound
from callsheet.media.encodings import SOUNDS
from callsheet.media.facts import MediaFacts, SoundFacts
from callsheet.media.provenance import Source, provenance_of
from callsheet.media.reader import MediaReader
from callsheet.runner.context import HandlerFailure, TaskContext
from callsheet.tasks.v1.edit_audio_pb2 import AudioTrack, EditAudioInput, EditAudioOutput
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT

if TYPE_CHECKING:
    from callsheet.media.loudness import Loudness
    from callsheet.media.sound_decoding import Waveform
    from callsheet.media.sound_writer import SoundWriter
    from callsheet.media.voices import Envelope, Part

#: The true peak that a mix is kept below when it is brought to a loudness, in decibels.
TRUE_PEAK: Final = -1.0


def run(input: EditAudioInput, context: TaskContext) -> EditAudioOutput:
    """Mix the tracks, and return where the mix was stored."""
    context.report(0, 0, "reading the sounds")
    with context.open_media() as media:
        mix = _Mix(input, context, media)
        gain, loudness = mix.gain()
        delivered = deliver_sound(
            context,
            partial(mix.write, gain=gain),
            SOUNDS[input.format],
            provenance_of(input, context, source=Source.COMPOSITE),
            rate=mix.rate,
            channels=mix.channels,
        )
    output = EditAudioOutput(audio=delivered.audio, provenance=delivered.provenance)
    if loudness is None:
        loudness = mix.heard
    if loudness is not None:
        output.loudness_lufs = loudness.integrated
    return output


@dataclass(frozen=True)
class _Pass:
    """One way through the sound."""

    word: str
    before: int
    """How many go before it."""
    of: int


class _Mix:
    """The tracks of one input, heard together; it may be gone through several times."""

    def __init__(self, input: EditAudioInput, context: TaskContext, media: MediaReader) -> None:
        self._input = input
        self._context = context
        self._media = media
        files = [media.facts(track.audio) for track in input.tracks]
        self._length = _length(input.tracks, files)
        facts = [_sound_of(each, track) for each, track in zip(files, input.tracks, strict=True)]
        wanted = input.sample_rate or max(sound.sample_rate for sound in facts)
        self.rate = SOUNDS[input.format].codec.rate_for(wanted)
        self.channels = input.channels or min(2, max(sound.channels for sound in facts))
        #: How loud what was written last is. None: it is too short or too silent to tell.
        self.heard: Loudness | None = None
        self._parts: Sequence[Part] | None = None
        self._whole: Envelope | None = None

    def gain(self) -> tuple[float, "Loudness | None"]:
        """Return the factor that brings the mix to the wanted loudness, and how loud it is then.

        None: nobody asked, or it cannot be told.
        """
        if not self._input.HasField("loudness_lufs"):
            return 1.0, None
        self._listen(_Pass("measuring", 0, 2), lambda _: None)
        if self.heard is None:
            return 1.0, None
        peak = self._input.true_peak_db if self._input.HasField("true_peak_db") else TRUE_PEAK
        gain = self.heard.gain_to(self._input.loudness_lufs, true_peak_db=peak)
        return gain, self.heard.louder(gain)

    def write(self, writer: "SoundWriter", *, gain: float) -> None:
        """Write the mix, made louder by the factor."""
        passes = 2 if self._input.HasField("loudness_lufs") else 1
        self._listen(_Pass("mixing", passes - 1, passes), lambda block: writer.write(block * gain))

    def _listen(self, way: _Pass, take: "Callable[[Waveform], None]") -> None:
        from callsheet.media.loudness import LoudnessMeter

        meter = LoudnessMeter(rate=self.rate, channels=self.channels)
        for block in self._blocks(way):
            meter.hear(block)
            take(block)
        self.heard = meter.loudness()

    def _blocks(self, way: _Pass) -> "Iterator[Waveform]":
        from callsheet.media.voices import mixed

        place = 0
        most = self._samples(self._media.limits.longest)
        parts, whole = self._planned()
        for block in mixed(parts, channels=self.channels, whole=whole):
            place += block.shape[1]
            if place > most:
                longest = self._media.limits.longest.total_seconds()
                raise _invalid(f"the mix would play longer than {longest:g} seconds")
            self._report(way, timedelta(seconds=place / self.rate))
            yield block

    def _report(self, way: _Pass, heard: timedelta) -> None:
        done, length = round(heard.total_seconds()), round(self._length.total_seconds())
        total = way.of * length
        self._context.report(
            min(way.before * length + done, total), total, f"{way.word}: {done} seconds"
        )

    def _planned(self) -> "tuple[Sequence[Part], Envelope]":
        """Return the parts and the envelope of the whole, with all lengths that are needed."""
        from callsheet.media.voices import Envelope, length_of, mixed, with_length

        if self._parts is None or self._whole is None:
            parts = [with_length(self._part(track)) for track in self._input.tracks]
            whole = Envelope(
                fade_in=self._samples(self._input.fade_in.ToTimedelta()),
                fade_out=self._samples(self._input.fade_out.ToTimedelta()),
            )
            if whole.fade_out:
                begin = partial(mixed, parts, channels=self.channels, whole=Envelope())
                whole = replace(whole, length=length_of(begin))
            self._parts, self._whole = parts, whole
        return self._parts, self._whole

    def _part(self, track: AudioTrack) -> "Part":
        from callsheet.media.voices import Envelope, Part

        return Part(
            begin=partial(
                self._media.sound,
                track.audio,
                start=track.start.ToTimedelta(),
                end=track.end.ToTimedelta() if track.HasField("end") else None,
                rate=self.rate,
                channels=self.channels,
            ),
            at=self._samples(track.at.ToTimedelta()),
            envelope=Envelope(
                gain=10 ** (track.volume_db / 20),
                fade_in=self._samples(track.fade_in.ToTimedelta()),
                fade_out=self._samples(track.fade_out.ToTimedelta()),
            ),
        )

    def _samples(self, length: timedelta) -> int:
        return round(length.total_seconds() * self.rate)


def _length(tracks: Iterable[AudioTrack], files: Iterable[MediaFacts]) -> timedelta:
    """Return how long the mix will be, as far as the heads of the files tell; zero: they do not."""
    longest = timedelta(0)
    for track, file in zip(tracks, files, strict=True):
        ends = [track.end.ToTimedelta()] if track.HasField("end") else []
        if (duration := file.duration) is not None:
            ends.append(duration)
        if not ends:
            return timedelta(0)
        longest = max(longest, track.at.ToTimedelta() + min(ends) - track.start.ToTimedelta())
    return longest


def _sound_of(file: MediaFacts, track: AudioTrack) -> SoundFacts:
    if file.sound is None:
        raise _invalid(f"the file {track.audio.uri.rpartition('/')[2]} has no sound")
    return file.sound


def _invalid(message: str) -> HandlerFailure:
    return HandlerFailure(FAILURE_REASON_INVALID_INPUT, message)
