"""What GIF needs and other formats do not: 256 colours for each picture, and its own comments."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

from callsheet.media.filtering import pulled

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

#: Signature and screen; the colours of all pictures come next, if there are any.
_HEAD: Final = 13
_COMMENT: Final = b"\x21\xfe"
_LONGEST_BLOCK: Final = 255
_MOVED: Final = 2**20


class GifPalette:
    """Reduces each picture to the 256 colours that suit it best."""

    def __init__(self, size: tuple[int, int], rate: Fraction) -> None:
        """*size* is (width, height)."""
        import av
        import av.filter

        graph = av.filter.Graph()
        width, height = size
        self._source = graph.add_buffer(
            width=width, height=height, format=av.VideoFormat("rgb24"), time_base=1 / rate
        )
        split = graph.add("split")
        colours = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
        use = graph.add("paletteuse", "new=1:dither=sierra2_4a")
        self._sink = graph.add("buffersink")
        self._source.link_to(split)
        split.link_to(use, 0, 0)
        split.link_to(colours, 1, 0)
        colours.link_to(use, 0, 1)
        use.link_to(self._sink)
        graph.configure()
        self._graph = graph

    def reduced(self, frame: "VideoFrame") -> Iterator["VideoFrame"]:
        """Take a picture; yield those that are ready, in order."""
        self._source.push(frame)
        yield from cast("Iterator[VideoFrame]", pulled(self._sink))

    def rest(self) -> Iterator["VideoFrame"]:
        """Yield what is left, after the last picture."""
        self._source.push(None)
        yield from cast("Iterator[VideoFrame]", pulled(self._sink))


def write_comment(path: Path, text: str) -> None:
    """Add a comment to a GIF, in front of its pictures: FFmpeg writes none.

    Behind them FFmpeg would take it for one more picture; an empty one it does not understand.
    """
    if not text:
        return
    with path.open("r+b") as file:
        head = file.read(_HEAD)
        if not head.startswith(b"GIF"):
            raise ValueError("this is no GIF")
        has_colours, colours = head[10] & 0x80, head[10] & 0x07
        place = _HEAD + (3 * 2 ** (colours + 1) if has_colours else 0)
        extension = _extension(text.encode())
        _shift(file, place, by=len(extension))
        file.seek(place)
        file.write(extension)


def _extension(content: bytes) -> bytes:
    starts = range(0, len(content), _LONGEST_BLOCK)
    blocks = [content[start : start + _LONGEST_BLOCK] for start in starts]
    return _COMMENT + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def _shift(file: IO[bytes], place: int, *, by: int) -> None:
    """Move all from the place on further back, the end first."""
    at = file.seek(0, os.SEEK_END)
    while at > place:
        size = min(_MOVED, at - place)
        at -= size
        file.seek(at)
        content = file.read(size)
        file.seek(at + by)
        file.write(content)
