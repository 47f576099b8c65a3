"""Small videos, sounds and images, and what is heard and seen in those that were made of them."""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from google.protobuf.duration_pb2 import Duration
from numpy.typing import NDArray
from PIL import Image

from callsheet.media.encodings import SOUNDS, VIDEOS
from callsheet.media.sound_writer import SoundWriter
from callsheet.media.video_writer import SoundShape, VideoWriter
from callsheet.tasks.v1.media_pb2 import (
    AUDIO_FORMAT_WAV,
    VIDEO_FORMAT_MP4,
    AudioFormat,
    VideoFormat,
)

Pixels = NDArray[np.uint8]
Waveform = NDArray[np.float32]
Colour = tuple[int, int, int]

RED: Colour = (200, 30, 30)
GREEN: Colour = (30, 180, 40)
BLUE: Colour = (30, 40, 200)
WHITE: Colour = (235, 235, 235)


def seconds(count: float) -> Duration:
    """Return a length as the contract has it."""
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=count))
    return duration


def plain(colour: Colour, *, width: int = 32, height: int = 24) -> Pixels:
    """Return a picture of one colour."""
    return np.full((height, width, 3), colour, np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an image as PNG."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def tone(
    hertz: float, *, seconds: float = 1.0, rate: int = 48_000, channels: int = 1, level: float = 0.5
) -> Waveform:
    """Return a pure tone."""
    times = np.arange(round(seconds * rate)) / rate
    wave = np.asarray(level * np.sin(2 * np.pi * hertz * times), dtype=np.float32)
    return np.repeat(wave[None, :], channels, axis=0)


def sound_file(
    waveform: Waveform,
    folder: Path,
    *,
    rate: int = 48_000,
    format: AudioFormat.ValueType = AUDIO_FORMAT_WAV,  # noqa: A002 - the contract's word
) -> bytes:
    """Return sound as a file."""
    path = folder / "made"
    path.touch()
    channels = waveform.shape[0]
    with SoundWriter(path, SOUNDS[format], rate=rate, channels=channels, comment="") as writer:
        writer.write(waveform)
    return path.read_bytes()


def video_file(
    pictures: Iterable[Pixels],
    folder: Path,
    *,
    rate: int = 10,
    waveform: Waveform | None = None,
    format: VideoFormat.ValueType = VIDEO_FORMAT_MP4,  # noqa: A002 - the contract's word
) -> bytes:
    """Return a video as a file; its sound has 48,000 samples a second."""
    path = folder / "made"
    path.touch()
    pictures = list(pictures)
    height, width = pictures[0].shape[:2]
    sound = None if waveform is None else SoundShape(48_000, waveform.shape[0])
    with VideoWriter(
        path, VIDEOS[format], size=(width, height), rate=Fraction(rate), sound=sound, comment=""
    ) as writer:
        for picture in pictures:
            writer.write(picture)
        if waveform is not None:
            writer.write_sound(waveform)
    return path.read_bytes()


@dataclass(frozen=True)
class Seen:
    """A file as FFmpeg decodes it, without a line of ours."""

    pictures: list[Pixels]
    times: list[float]
    waveform: Waveform
    rate: int
    codecs: tuple[str, ...]
    metadata: Mapping[str, str]
    has_index_first: bool

    @property
    def seconds(self) -> float:
        """How long its sound is."""
        return self.waveform.shape[1] / self.rate if self.rate else 0.0


def seen(content: bytes) -> Seen:
    """Decode a video or a sound."""
    pictures: list[Pixels] = []
    times: list[float] = []
    blocks: list[Waveform] = []
    with av.open(io.BytesIO(content), mode="r") as container:
        metadata = dict(container.metadata)
        for stream in container.streams:
            metadata |= dict(stream.metadata)
        codecs = tuple(s.codec_context.codec.canonical_name for s in container.streams)
        rate = (
            container.streams.audio[0].codec_context.sample_rate if container.streams.audio else 0
        )
        resampler = av.AudioResampler(format="fltp")
        for frame in cast("Iterable[av.VideoFrame | av.AudioFrame]", container.decode()):
            if isinstance(frame, av.VideoFrame):
                pictures.append(cast("Pixels", frame.to_ndarray(format="rgb24")))
                times.append(frame.time)
            else:
                blocks += [cast("Waveform", f.to_ndarray()) for f in resampler.resample(frame)]
    waveform = np.concatenate(blocks, axis=1) if blocks else np.zeros((1, 0), np.float32)
    first = 0 <= content.find(b"moov") < content.find(b"mdat")
    return Seen(pictures, times, waveform, rate, codecs, metadata, first)


def colour_of(pixels: Pixels) -> Colour:
    """Return the mean colour."""
    red, green, blue = (round(float(value)) for value in pixels.mean(axis=(0, 1)))
    return red, green, blue


def is_near(found: Colour, wanted: Colour, *, within: int = 12) -> bool:
    """Tell whether two colours are alike: encoders keep them nearly."""
    return all(abs(a - b) <= within for a, b in zip(found, wanted, strict=True))


def pitch_of(waveform: Waveform, *, rate: int) -> float:
    """Return the frequency that is heard most, in hertz."""
    mono = waveform.mean(axis=0)
    window = mono * np.hanning(mono.size)
    spectrum = np.abs(np.fft.rfft(window, n=max(2**16, mono.size)))
    frequencies = np.fft.rfftfreq(max(2**16, mono.size), 1 / rate)
    return float(frequencies[int(np.argmax(spectrum))])


def level_of(waveform: Waveform, *, hertz: float, rate: int) -> float:
    """Return how strong a pure tone of that frequency is in it: 0.5 for one of that height."""
    mono = waveform.mean(axis=0, dtype=np.float64)
    times = np.arange(mono.size, dtype=np.float64) / rate
    turning = np.exp(-2j * np.pi * hertz * times)
    return float(2 * np.abs(np.dot(mono, turning)) / mono.size)
