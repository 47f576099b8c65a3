"""How loud sound is, by EBU R 128: FFmpeg's own meter."""

from dataclasses import dataclass
from fractions import Fraction
from math import log10
from typing import Final

import numpy as np

from callsheet.media.filtering import pulled
from callsheet.media.sound_decoding import Waveform

#: At this loudness, and below it, R 128 hears nothing.
SILENCE: Final = -70.0
_LAYOUTS: Final = {1: "mono", 2: "stereo"}


@dataclass(frozen=True, slots=True)
class Loudness:
    """What the meter says of a sound."""

    integrated: float
    """Of all of it, in LUFS."""
    true_peak: float
    """In decibels of full scale, between the samples too."""

    def gain_to(self, lufs: float, *, true_peak_db: float) -> float:
        """Return the factor that brings it to the loudness, or as near as its peaks allow."""
        decibels = min(lufs - self.integrated, true_peak_db - self.true_peak)
        return float(10 ** (decibels / 20))

    def louder(self, gain: float) -> "Loudness":
        """Return the same, made louder by the factor."""
        decibels = 20 * log10(gain)
        return Loudness(self.integrated + decibels, self.true_peak + decibels)


class LoudnessMeter:
    """Listens to sound as it comes."""

    def __init__(self, *, rate: int, channels: int) -> None:
        import av.filter

        graph = av.filter.Graph()
        self._layout = _LAYOUTS[channels]
        self._rate = rate
        self._source = graph.add_abuffer(
            format="fltp",
            sample_rate=rate,
            layout=self._layout,
            time_base=Fraction(1, rate),
        )
        meter = graph.add("ebur128", "metadata=1:peak=true")
        self._sink = graph.add("abuffersink")
        self._source.link_to(meter)
        meter.link_to(self._sink)
        graph.configure()
        self._graph = graph
        self._place = 0
        self._told: dict[str, str] = {}

    def hear(self, samples: Waveform) -> None:
        """Take channels x samples."""
        import av

        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format="fltp", layout=self._layout
        )
        frame.sample_rate = self._rate
        frame.time_base = Fraction(1, self._rate)
        frame.pts = self._place
        self._place += samples.shape[1]
        self._source.push(frame)
        for heard in pulled(self._sink):
            self._told = dict(heard.metadata)

    def loudness(self) -> Loudness | None:
        """Return what was heard until now. None: too little, or it is silent."""
        integrated = float(self._told.get("lavfi.r128.I", SILENCE))
        peak = float(self._told.get("lavfi.r128.true_peak", 0))
        if integrated <= SILENCE or peak <= 0:
            return None
        return Loudness(integrated, 20 * log10(peak))
