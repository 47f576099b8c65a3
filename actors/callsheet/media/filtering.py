"""What FFmpeg's filters give."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.filter.context import FilterContext
    from av.frame import Frame


def pulled(sink: "FilterContext") -> "Iterator[Frame]":
    """Yield what is ready at the end of a graph."""
    import av.error as av_error

    while True:
        try:
            frame = sink.pull()
        except (av_error.BlockingIOError, av_error.EOFError):
            return
        yield frame
