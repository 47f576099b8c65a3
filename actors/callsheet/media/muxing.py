"""PyAV's writing side as far as it is used here: its own stubs leave types open."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


class Container(Protocol):
    """A file that is being written."""

    metadata: dict[str, str]

    def add_stream(
        self, codec_name: str, rate: Fraction | int, **options: object
    ) -> "VideoStream | AudioStream":
        """Add a stream of that codec."""
        ...

    def mux(self, packets: object) -> None:
        """Write packets, as an encoder gave them."""
        ...

    def close(self) -> None:
        """Write what is held, and the end."""
        ...


class _Encodes(Protocol):
    def encode(self, frame: "VideoFrame | AudioFrame | None") -> object: ...


def created(path: Path, *, muxer: str, options: dict[str, str]) -> Container:
    """Open a file for writing; nothing of the time or the machine gets into its bytes."""
    import av

    opened = av.open(str(path), mode="w", format=muxer, options={**options, "fflags": "+bitexact"})
    return cast("Container", opened)


def encode(
    container: Container,
    stream: "VideoStream | AudioStream",
    frame: "VideoFrame | AudioFrame | None",
) -> None:
    """Encode a frame and write what comes of it; None: there are no more."""
    container.mux(cast("_Encodes", stream).encode(frame))
