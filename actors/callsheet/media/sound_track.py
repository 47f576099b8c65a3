"""One stream of sound in a file that is being written."""

from fractions import Fraction
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from callsheet.media.encodings import SoundCodec
from callsheet.media.muxing import Container, encode

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream

Waveform: TypeAlias = NDArray[np.float32]

#: Samples of a frame of a codec that does not care.
_USUAL_FRAME: Final = 4096
_LAYOUTS: Final = {1: "mono", 2: "stereo"}


class SoundTrack:
    """Encodes sound as it comes, in the stream of a container that is open for writing."""

    def __init__(
        self, container: Container, codec: SoundCodec, *, rate: int, channels: int
    ) -> None:
        """*rate* is that of what will come; the stream has the nearest that its codec takes."""
        import av

        layout = _LAYOUTS[channels]
        self._container = container
        self._rate = rate
        self._layout = layout
        self._stream = cast(
            "AudioStream",
            container.add_stream(codec.name, rate=codec.rate_for(rate), layout=layout),
        )
        context = self._stream.codec_context
        context.options = dict(codec.options)
        context.thread_count = 1
        if codec.bit_rate:
            context.bit_rate = codec.bit_rate
        context.open()
        self._resampler = av.AudioResampler(
            format=context.format,
            layout=layout,
            rate=context.sample_rate,
            frame_size=context.frame_size or _USUAL_FRAME,
        )
        self._place = 0

    def write(self, samples: Waveform) -> None:
        """Take channels x samples; what is beyond -1 and 1 is cut off."""
        import av

        if not samples.shape[1]:
            return
        whole = np.ascontiguousarray(samples.clip(-1, 1), dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(whole, format="fltp", layout=self._layout)
        frame.sample_rate = self._rate
        frame.time_base = Fraction(1, self._rate)
        frame.pts = self._place
        self._place += samples.shape[1]
        self._encode(frame)

    def close(self) -> None:
        """Write what is held."""
        self._encode(None)
        encode(self._container, self._stream, None)

    def _encode(self, frame: "AudioFrame | None") -> None:
        for piece in self._resampler.resample(frame):
            encode(self._container, self._stream, piece)
