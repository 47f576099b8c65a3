"""Sound played faster or slower at its own height, by FFmpeg's atempo."""

from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import numpy as np

from callsheet.media.filtering import pulled
from callsheet.media.sound_decoding import Waveform


def stretched(waveform: Waveform, *, speed: float, rate: int) -> Waveform:
    """Return sound of one channel, so many times faster: 0.5 to 2."""
    import av.filter

    graph = av.filter.Graph()
    source = graph.add_abuffer(
        format="fltp", sample_rate=rate, layout="mono", time_base=Fraction(1, rate)
    )
    tempo = graph.add("atempo", f"{speed:.6f}")
    sink = graph.add("abuffersink")
    source.link_to(tempo)
    tempo.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(waveform), format="fltp", layout="mono")
    frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
    source.push(frame)
    source.push(None)
    return np.concatenate(list(_samples(pulled(sink))), axis=1)


def _samples(frames: Iterator[object]) -> Iterator[Waveform]:
    import av

    for frame in frames:
        yield cast("Waveform", cast("av.AudioFrame", frame).to_ndarray())
