"""Writes videos: pictures and sound as they come, never a whole film in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from callsheet.media.encodings import VideoEncoding
from callsheet.media.gif import GifPalette, write_comment
from callsheet.media.muxing import created, encode
from callsheet.media.sound_track import SoundTrack, Waveform

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Pixels: TypeAlias = NDArray[np.uint8]

#: How long it is from one whole picture to the next: what a player may have to read to jump.
_BETWEEN_KEYS: Final = 2
#: The numbers by which codecs know the colours of high definition, and their range.
_BT709: Final = 1
_TV_RANGE: Final = 1


@dataclass(frozen=True)
class SoundShape:
    """What sound will come."""

    rate: int
    """Samples a second."""
    channels: int
    """1 or 2."""


class VideoWriter:
    """Writes one video into a file that is there already.

    Pictures and sound come in the order in which they are shown and heard, neither far ahead of the
    other. The file is whole after the block has ended without an error.
    """

    def __init__(
        self,
        path: Path,
        encoding: VideoEncoding,
        *,
        size: tuple[int, int],
        rate: Fraction,
        sound: SoundShape | None,
        comment: str,
    ) -> None:
        """*size* is (width, height); *comment* becomes the file's own."""
        self._path = path
        self._encoding = encoding
        self._comment = comment
        self._size = size
        self._container = created(path, muxer=encoding.muxer, options=dict(encoding.muxer_options))
        self._container.metadata["comment"] = comment
        self._every = ceil(rate / encoding.most_rate) if encoding.most_rate else 1
        self._rate = rate / self._every
        self._stream = self._video_stream()
        self._palette = GifPalette(size, self._rate) if encoding.pixel_format == "pal8" else None
        self._track: SoundTrack | None = None
        if sound is not None and encoding.sound is not None:
            self._track = SoundTrack(
                self._container, encoding.sound, rate=sound.rate, channels=sound.channels
            )
        self._first: Pixels | None = None
        self._seen = 0
        self._written = 0

    @property
    def first(self) -> Pixels:
        """The first picture. Raises ValueError when there was none."""
        if self._first is None:
            raise ValueError("no picture was written")
        return self._first

    @property
    def has_sound(self) -> bool:
        """Whether the file has sound: not every format does."""
        return self._track is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._container.close()
        if kind is None and self._palette is not None:
            write_comment(self._path, self._comment)

    def write(self, pixels: Pixels) -> None:
        """Take the next picture: height x width x 3, of the size that was said."""
        import av

        number, self._seen = self._seen, self._seen + 1
        if number % self._every:
            return
        width, height = self._size
        if pixels.shape != (height, width, 3):
            raise ValueError(f"a picture of {pixels.shape} is not {height} x {width} x 3")
        if self._first is None:
            self._first = pixels.copy()
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts = self._written
        frame.time_base = 1 / self._rate
        self._written += 1
        if self._palette is not None:
            for reduced in self._palette.reduced(frame):
                self._encode(reduced)
        else:
            self._encode(self._in_colours(frame))

    def write_sound(self, samples: Waveform) -> None:
        """Take the next sound: channels x samples. A format without sound leaves it out."""
        if self._track is not None:
            self._track.write(samples)

    def _video_stream(self) -> "VideoStream":
        encoding, (width, height) = self._encoding, self._size
        stream = cast("VideoStream", self._container.add_stream(encoding.codec, rate=self._rate))
        stream.width, stream.height, stream.pix_fmt = width, height, encoding.pixel_format
        context = stream.codec_context
        context.options = dict(encoding.options)
        context.thread_count = encoding.threads
        context.gop_size = max(1, round(self._rate * _BETWEEN_KEYS))
        context.time_base = 1 / self._rate
        if encoding.pixel_format != "pal8":
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _TV_RANGE
        return stream

    def _in_colours(self, frame: "VideoFrame") -> "VideoFrame":
        turned = frame.reformat(format=self._encoding.pixel_format, dst_colorspace="ITU709")
        turned.pts, turned.time_base = frame.pts, frame.time_base
        return turned

    def _encode(self, frame: "VideoFrame") -> None:
        encode(self._container, self._stream, frame)

    def _finish(self) -> None:
        if self._palette is not None:
            for reduced in self._palette.rest():
                self._encode(reduced)
        encode(self._container, self._stream, None)
        if self._track is not None:
            self._track.close()


def comment_of(metadata: Mapping[str, str]) -> str:
    """Return the comment in what FFmpeg tells of a file; names are written in any case."""
    return next((text for name, text in metadata.items() if name.lower() == "comment"), "")
