"""Opening a file by the one demuxer that its first bytes allow, and saying why it is refused.

Runs in the process that decodes, on files of anybody.
"""

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import IO, TYPE_CHECKING, Final

from callsheet.media.facts import (
    MediaFacts,
    VideoFacts,
    codecs_in,
    declared_length,
    frame_rate_of,
    sound_facts_of,
    streams_of,
)
from callsheet.media.kinds import (
    HEAD_BYTES,
    SOUND_DECODERS,
    VIDEO_DECODERS,
    FileKind,
    Medium,
    kind_of,
)

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

#: What Pillow and PyAV raise for bytes that are not what they say; PyAV's errors are of these, too.
BROKEN: Final = (
    ArithmeticError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    SyntaxError,
    ValueError,
)
#: What FFmpeg's errors say when there is no memory, or none for one more thread.
_NO_MEMORY: Final = frozenset({errno.ENOMEM, errno.EAGAIN})
_MOST_STREAMS: Final = 32
#: How long before a wanted moment a jump aims, in seconds, so that nothing of then is missed.
BEFORE: Final = 1.0
#: The ratio of a pixel's sides, beyond which it is taken for nonsense.
_MOST_UNEVEN: Final = 8


class Unreadable(Exception):
    """The file cannot be what it is to be; the message says why, and begins with a verb."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What holds within the process that decodes."""

    most_pixels: int
    longest: timedelta


def kind_of_file(file: IO[bytes]) -> FileKind:
    """Return the kind of the file, which is then at its beginning. Raises Unreadable."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if not size:
        raise Unreadable("is empty")
    if (kind := kind_of(head)) is None:
        raise Unreadable("is of no kind that is read here")
    return kind


@contextmanager
def refusing_damage() -> Generator[None]:
    """Turn what the libraries raise for broken bytes into Unreadable."""
    try:
        yield
    except MemoryError as error:
        raise _too_large() from error
    except BROKEN as error:
        if getattr(error, "errno", None) in _NO_MEMORY:
            raise _too_large() from error
        raise Unreadable(f"is damaged, or not what it says it is ({_word(error)})") from error


def _too_large() -> Unreadable:
    return Unreadable("needs more memory to be decoded than CALLSHEET_INPUT_MEMORY_BYTES allows")


def _word(error: Exception) -> str:
    text = str(getattr(error, "strerror", "") or type(error).__name__)
    return text.partition(":")[0].lower()[:80]


def open_media(file: IO[bytes], bounds: Bounds) -> tuple[FileKind, "InputContainer"]:
    """Open a video or a sound; nothing but the file itself is ever read. Raises Unreadable."""
    import av

    kind = kind_of_file(file)
    if not kind.demuxer:
        raise Unreadable(f"is an image ({kind.name}), and neither a video nor a sound")
    with refusing_damage():
        container = av.open(
            file,
            mode="r",
            format=kind.demuxer,
            metadata_errors="replace",
            options={
                "codec_whitelist": ",".join(sorted(VIDEO_DECODERS | SOUND_DECODERS)),
                "format_whitelist": av.ContainerFormat(kind.demuxer, "r").name,
                "max_streams": str(_MOST_STREAMS),
                "protocol_whitelist": "",
            },
        )
    if unknown := set(codecs_in(container)) - VIDEO_DECODERS - SOUND_DECODERS:
        raise Unreadable(f"is encoded as {unknown.pop()}, which is not decoded here")
    length = declared_length(container)
    if length is not None and length > bounds.longest:
        raise Unreadable(f"plays longer than {bounds.longest.total_seconds():g} seconds")
    for stream in container.streams.video[:1]:
        check_pixels(stream.codec_context.width, stream.codec_context.height, bounds)
        stream.codec_context.thread_count = 1
    return kind, container


def jump(container: "InputContainer", kind: FileKind, *, to: float) -> None:
    """Go to a place somewhat before a moment, in seconds; or stay, where nothing is gained."""
    if kind.can_jump and to > BEFORE:
        begin = float(container.start_time or 0)
        container.seek(int((to - BEFORE) * 1_000_000 + begin), backward=True)


def check_pixels(width: int, height: int, bounds: Bounds) -> None:
    """Raise Unreadable when a picture has none, or too many."""
    if width <= 0 or height <= 0:
        raise Unreadable("has pictures without a size")
    if width * height > bounds.most_pixels:
        raise Unreadable(f"has {width} x {height} pixels; at most {bounds.most_pixels} are allowed")


def media_facts(file: IO[bytes], bounds: Bounds) -> MediaFacts:
    """Return what a video or a sound is. Raises Unreadable."""
    kind, container = open_media(file, bounds)
    with container, refusing_damage():
        video = container.streams.video[0] if container.streams.video else None
        if kind.medium is Medium.SOUND:
            video = None  # a cover picture, at most
        sound = sound_facts_of(container)
        if video is None and sound is None:
            raise Unreadable("has neither pictures nor sound")
        return MediaFacts(
            kind=kind.name,
            duration=declared_length(container),
            video=None if video is None else _video_facts(container, video),
            sound=sound,
            streams=streams_of(container),
        )


def _video_facts(container: "InputContainer", stream: "VideoStream") -> VideoFacts:
    first = next(container.decode(stream), None)
    if first is None:
        raise Unreadable("has no picture that can be decoded")
    width, height = shown_size(first, aspect=aspect_of(stream))
    codec = stream.codec_context.codec.canonical_name
    return VideoFacts(width, height, frame_rate_of(stream), codec)


def aspect_of(stream: "VideoStream") -> Fraction:
    """Return how much wider than high a pixel of the stream is."""
    ratio = stream.sample_aspect_ratio
    if not ratio or not Fraction(1, _MOST_UNEVEN) <= ratio <= _MOST_UNEVEN:
        return Fraction(1)
    return Fraction(ratio)


def shown_size(frame: "VideoFrame", *, aspect: Fraction) -> tuple[int, int]:
    """Return the width and height of a picture as it is shown."""
    width, height = max(1, round(frame.width * aspect)), frame.height
    return (height, width) if frame.rotation % 180 else (width, height)
