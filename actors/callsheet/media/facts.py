"""What a file is, as its own bytes tell."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from av.codec.context import CodecContext
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

#: What is assumed of a video that does not say how many pictures a second it has.
_USUAL_RATE: Final = Fraction(25)
_MOST_RATE: Final = 240
_LARGEST_TERM: Final = 100_000


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """The pictures of a video."""

    width: int
    """As they are shown: turned, and with square pixels."""
    height: int
    frame_rate: Fraction
    """Pictures a second."""
    codec: str
    """FFmpeg's name of it."""


@dataclass(frozen=True, slots=True)
class SoundFacts:
    """The sound of a file."""

    channels: int
    sample_rate: int
    codec: str
    """FFmpeg's name of it."""


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """One stream of a file, decoded or not."""

    kind: str
    """video, audio, subtitle, data or attachment."""
    codec: str
    """FFmpeg's name of it. Empty: none that it knows."""


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """A video or a sound."""

    kind: str
    """Such as MP4."""
    duration: timedelta | None
    """How long it plays. None: its head does not say."""
    video: VideoFacts | None
    """None: it has no pictures."""
    sound: SoundFacts | None
    """None: it is silent."""
    streams: tuple[StreamFacts, ...]
    """All that is in it, in its order."""


@dataclass(frozen=True, slots=True)
class WrittenFacts:
    """A file of our own, read again after it was written."""

    duration: timedelta
    frames: int
    """Of a sound, 0."""
    video: VideoFacts | None
    sound: SoundFacts | None


def frame_rate_of(stream: "VideoStream") -> Fraction:
    """Return how many pictures a second there are; something sane whatever the head says."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate is not None and 0 < rate <= _MOST_RATE:
            return rate.limit_denominator(_LARGEST_TERM)
    return _USUAL_RATE


def sound_facts_of(container: "InputContainer") -> SoundFacts | None:
    """Return what the head says of the first sound."""
    if not container.streams.audio:
        return None
    context = container.streams.audio[0].codec_context
    return SoundFacts(context.channels, context.sample_rate, context.codec.canonical_name)


def streams_of(container: "InputContainer") -> tuple[StreamFacts, ...]:
    """Return what the head says of every stream."""
    return tuple(StreamFacts(stream.type, _codec_of(stream)) for stream in container.streams)


def _codec_of(stream: "Stream") -> str:
    # Streams whose codec FFmpeg does not know have no context, whatever their type says.
    context = cast("CodecContext | None", stream.codec_context)
    return "" if context is None else context.codec.canonical_name


def written_facts(path: Path) -> WrittenFacts:
    """Return what is true of a file that we wrote: its pictures are counted, not decoded."""
    import av

    with av.open(str(path), mode="r") as container:
        video = container.streams.video[0] if container.streams.video else None
        frames, end = 0, Fraction(0)
        for packet in container.demux():
            if packet.pts is None:  # the end of a stream
                continue
            frames += packet.stream is video
            end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        shown = None
        if video is not None:
            context = video.codec_context
            name = context.codec.canonical_name
            shown = VideoFacts(context.width, context.height, frame_rate_of(video), name)
        return WrittenFacts(
            duration=_length(container.duration) or timedelta(seconds=float(end)),
            frames=frames,
            video=shown,
            sound=sound_facts_of(container),
        )


def _length(duration: int | None) -> timedelta | None:
    """Return what a head says of its length, in millionths of a second."""
    return timedelta(microseconds=duration) if duration is not None and duration > 0 else None


def declared_length(container: "InputContainer") -> timedelta | None:
    """Return how long the head says that the file plays. None: it does not say, or nonsense."""
    try:
        return _length(container.duration)
    except OverflowError:
        return timedelta.max


def codecs_in(container: "InputContainer") -> Iterator[str]:
    """Yield the decoder of each stream that would be decoded: the first video and sound."""
    for streams in (container.streams.video, container.streams.audio):
        if streams:
            yield streams[0].codec_context.name
