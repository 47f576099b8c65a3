"""Sound, decoded. Runs in the process that decodes, on files of anybody."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from callsheet.media.opening import BEFORE, Bounds, Unreadable, jump, open_media, refusing_damage

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import InputContainer

Waveform: TypeAlias = NDArray[np.float32]

#: Samples in one block.
BLOCK: Final = 2**15
#: What sound and clock may differ by before the difference is filled with silence.
_SLACK: Final = 0.05
_MOST_RATE: Final = 768_000


@dataclass(frozen=True, slots=True)
class Stretch:
    """Which sound is wanted, and how."""

    start: float
    """In seconds from its beginning."""
    end: float | None
    """None: to its end."""
    rate: int
    """Samples a second."""
    channels: int
    """1 or 2."""


def sound_blocks(file: IO[bytes], bounds: Bounds, stretch: Stretch) -> Iterator[Waveform]:
    """Yield the wanted sound as blocks of channels x BLOCK samples; the last one may be shorter.

    Raises Unreadable, also when the file is silent.
    """
    kind, container = open_media(file, bounds)
    if not container.streams.audio:
        raise Unreadable("has no sound")
    rate = container.streams.audio[0].codec_context.sample_rate
    if not 0 < rate <= _MOST_RATE:
        raise Unreadable(f"has {rate} samples a second")
    with container, refusing_damage():
        jump(container, kind, to=stretch.start)
        yield from blocks_of(_cut(_resampled(container, bounds, stretch), stretch))


def blocks_of(pieces: Iterable[Waveform]) -> Iterator[Waveform]:
    """Yield the same sound in blocks of BLOCK samples."""
    held: list[Waveform] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += piece.shape[1]
        while count >= BLOCK:
            whole = np.concatenate(held, axis=1)
            yield np.ascontiguousarray(whole[:, :BLOCK])
            held, count = [whole[:, BLOCK:]], count - BLOCK
    if count:
        yield np.concatenate(held, axis=1)


def _cut(placed: Iterable[tuple[int, Waveform]], stretch: Stretch) -> Iterator[Waveform]:
    """Yield what lies within the stretch; places are samples from its start."""
    most = None
    if stretch.end is not None:
        most = max(1, round((stretch.end - stretch.start) * stretch.rate))
    at = 0
    heard = False
    for place, samples in placed:
        heard = True
        if most is not None and (at >= most or place >= most):
            break
        piece = samples[:, max(0, at - place) :]
        gap = place - at
        if gap > _SLACK * stretch.rate or (gap > 0 and at == 0):
            yield from _silence(gap, channels=stretch.channels)
            at += gap
        if most is not None:
            piece = piece[:, : most - at]
        if piece.shape[1]:
            yield piece
            at += piece.shape[1]
    if not heard and stretch.start <= BEFORE:
        raise Unreadable("has no sound that can be decoded")
    if at == 0:
        raise Unreadable(f"ends before {stretch.start:g} seconds")


def _silence(samples: int, *, channels: int) -> Iterator[Waveform]:
    while samples > 0:
        some = min(samples, BLOCK)
        yield np.zeros((channels, some), np.float32)
        samples -= some


def _resampled(
    container: "InputContainer", bounds: Bounds, stretch: Stretch
) -> Iterator[tuple[int, Waveform]]:
    """Yield the sound from here on, each piece with its place: in samples from the start."""
    import av

    stream = container.streams.audio[0]
    begin = float(container.start_time or 0) / 1_000_000
    few = stream.codec_context.channels <= 2
    layout = stream.codec_context.layout.name if few else "stereo"
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=stretch.rate)
    place: int | None = None
    for frame in container.decode(stream):
        seconds = _seconds(frame, begin=begin, bounds=bounds)
        if seconds is not None:
            told = round((seconds - stretch.start) * stretch.rate)
            if place is None or told - place > _SLACK * stretch.rate:
                place = told
        frame.pts = None  # the clock is kept here
        for piece in resampler.resample(frame):
            yield (place := place or 0), _mapped(piece, stretch.channels)
            place += piece.samples
    for piece in resampler.resample(None):
        yield (place := place or 0), _mapped(piece, stretch.channels)
        place += piece.samples


def _seconds(frame: "AudioFrame", *, begin: float, bounds: Bounds) -> float | None:
    if frame.time is None:
        return None
    seconds = frame.time - begin
    if seconds > bounds.longest.total_seconds():
        raise Unreadable(f"plays longer than {bounds.longest.total_seconds():g} seconds")
    return seconds


def _mapped(piece: "AudioFrame", channels: int) -> Waveform:
    """Return the samples with so many channels: one is heard on both sides, two are averaged."""
    samples = cast("Waveform", piece.to_ndarray())
    if samples.shape[0] == channels:
        return samples
    if channels == 1:
        return samples.mean(axis=0, keepdims=True, dtype=np.float32)
    return np.repeat(samples[:1], channels, axis=0)
