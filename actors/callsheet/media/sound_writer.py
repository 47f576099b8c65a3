"""Writes files of sound, as it comes."""

from pathlib import Path
from types import TracebackType
from typing import Self

from callsheet.media.encodings import SoundEncoding
from callsheet.media.muxing import created
from callsheet.media.sound_track import SoundTrack, Waveform


class SoundWriter:
    """Writes one sound into a file that is there already; whole after a block without an error."""

    def __init__(
        self, path: Path, encoding: SoundEncoding, *, rate: int, channels: int, comment: str
    ) -> None:
        """*rate* is that of what will come; *comment* becomes the file's own."""
        self._container = created(path, muxer=encoding.muxer, options={})
        self._container.metadata["comment"] = comment
        self._track = SoundTrack(self._container, encoding.codec, rate=rate, channels=channels)

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
                self._track.close()
        finally:
            self._container.close()

    def write(self, samples: Waveform) -> None:
        """Take the next sound: channels x samples, between -1 and 1."""
        self._track.write(samples)
