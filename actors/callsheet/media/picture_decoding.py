"""Pictures of images and videos, decoded. Runs in the process that decodes, on files of anybody."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import IO, TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from callsheet.media.facts import frame_rate_of
from callsheet.media.kinds import KINDS, Medium
from callsheet.media.opening import (
    BEFORE,
    Bounds,
    Unreadable,
    aspect_of,
    check_pixels,
    jump,
    kind_of_file,
    open_media,
    refusing_damage,
    shown_size,
)

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Pixels: TypeAlias = NDArray[np.uint8]

#: From so many rows on, a video that does not name its colours has those of high definition.
_HIGH_DEFINITION: Final = 720
_UNNAMED_COLOURS: Final = 2


class Fit(StrEnum):
    """How a picture of another shape is made to fit."""

    CONTAIN = "contain"
    COVER = "cover"
    STRETCH = "stretch"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which pictures of a video are wanted, and how."""

    start: float
    """In seconds from its beginning."""
    end: float | None
    """None: to its end."""
    rate: Fraction
    """Pictures a second: some are left out, or shown again."""
    width: int
    height: int
    fit: Fit


class Timed(NamedTuple):
    """A picture of a video, and when it is shown."""

    time: float
    """In seconds from the video's beginning."""
    length: float
    frame: "VideoFrame"


def image_pixels(file: IO[bytes], bounds: Bounds, *, transparent: bool) -> Pixels:
    """Return an image as height x width x 3, or x 4 with its transparency. Raises Unreadable.

    It is turned as its camera says; of an image that moves it is the first picture.
    """
    kind = kind_of_file(file)
    if not kind.pillow:
        raise Unreadable(f"is a {kind.medium} ({kind.name}), and no image")
    formats = [each.pillow for each in KINDS if each.pillow]
    Image.MAX_IMAGE_PIXELS = None  # our own bound is checked, before anything is decoded
    with refusing_damage(), Image.open(file, formats=formats) as image:
        check_pixels(*image.size, bounds)
        turned = ImageOps.exif_transpose(_eight_bits(image))
        return np.asarray(turned.convert("RGBA" if transparent else "RGB"))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return a grey image of 16 bits with 8: Pillow's own conversion would clip it."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64) >> 8
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def video_pixels(file: IO[bytes], bounds: Bounds, selection: Selection) -> Iterator[Pixels | None]:
    """Yield each wanted picture as height x width x 3; None: the one before is shown again.

    Raises Unreadable, also when there is none.
    """
    with _from(file, bounds, start=selection.start) as (timed, aspect):
        for chosen in selected(timed, selection):
            yield None if chosen is None else _fitted(chosen, selection, aspect=aspect)


def picture_at(
    file: IO[bytes], bounds: Bounds, *, at: float, size: tuple[int, int]
) -> tuple[float, Pixels]:
    """Return since when, in seconds, and what a video shows at a moment: height x width x 3.

    Before its first picture it shows that, and behind its last one that one, as players do. Raises
    Unreadable.
    """
    with _from(file, bounds, start=at) as (timed, aspect):
        shown: Timed | None = None
        for each in timed:
            if shown is not None and each.time > at:
                break
            shown = each
        if shown is None:
            raise Unreadable("has no picture that can be decoded")
        selection = Selection(at, None, Fraction(1), *size, Fit.STRETCH)
        return max(0.0, shown.time), _fitted(shown.frame, selection, aspect=aspect)


@contextmanager
def _from(
    file: IO[bytes], bounds: Bounds, *, start: float
) -> Generator[tuple[Iterator[Timed], Fraction]]:
    """Open a video; yield its pictures from somewhat before *start* on, and their aspect."""
    kind, container = open_media(file, bounds)
    if kind.medium is Medium.SOUND or not container.streams.video:
        raise Unreadable("has no pictures")
    with container, refusing_damage():
        stream = container.streams.video[0]
        jump(container, kind, to=start)
        yield _timed(container, stream, bounds), aspect_of(stream)


def selected(timed: Iterable[Timed], selection: Selection) -> Iterator["VideoFrame | None"]:
    """Yield the frame shown at each tick of the rate; None: the same as at the tick before.

    A frame is shown from the tick that is nearest to its time. Raises Unreadable when the selection
    starts behind the last frame.
    """
    shown: Timed | None = None
    tick, is_new = 0, True
    for each in timed:
        if selection.end is not None and each.time >= selection.end:
            break
        turn = round((each.time - selection.start) * selection.rate)
        while shown is not None and tick < turn:
            yield shown.frame if is_new else None
            tick, is_new = tick + 1, False
        shown, is_new = each, True
    if shown is None:
        if selection.start > BEFORE:
            raise Unreadable(f"ends before {selection.start:g} seconds")
        raise Unreadable("has no picture that can be decoded")
    end = shown.time + shown.length
    if selection.end is not None:
        end = min(end, selection.end)
    if end <= selection.start:
        raise Unreadable(f"ends before {selection.start:g} seconds")
    last = max(tick + 1, round((end - selection.start) * selection.rate))
    while tick < last:
        yield shown.frame if is_new else None
        tick, is_new = tick + 1, False


def _timed(container: "InputContainer", stream: "VideoStream", bounds: Bounds) -> Iterator[Timed]:
    """Yield the frames from here on, with their times."""
    usual = float(1 / frame_rate_of(stream))
    begin = float(container.start_time or 0) / 1_000_000
    last = -usual
    for frame in container.decode(stream):
        check_pixels(frame.width, frame.height, bounds)
        time = last + usual if frame.pts is None else frame.time - begin
        if time > bounds.longest.total_seconds():
            raise Unreadable(f"plays longer than {bounds.longest.total_seconds():g} seconds")
        if time < last:
            continue  # out of order: as a player, we do not go back
        length = float(frame.duration * (frame.time_base or 0))
        yield Timed(time, length if 0 < length <= 1 else usual, frame)
        last = time


def _fitted(frame: "VideoFrame", selection: Selection, *, aspect: Fraction) -> Pixels:
    shown = shown_size(frame, aspect=aspect)
    wanted = (selection.width, selection.height)
    width, height = scaled_size(shown, wanted, fit=selection.fit)
    turns = frame.rotation // 90 % 4
    unturned = (height, width) if turns % 2 else (width, height)
    is_high = frame.height >= _HIGH_DEFINITION and frame.colorspace == _UNNAMED_COLOURS
    scaled = frame.reformat(
        width=unturned[0],
        height=unturned[1],
        format="rgb24",
        src_colorspace="ITU709" if is_high else None,
        interpolation="BICUBIC",
        threads=1,
    )
    pixels = np.rot90(cast("Pixels", scaled.to_ndarray()), turns)
    return framed(pixels, width=selection.width, height=selection.height)


def scaled_size(shown: tuple[int, int], wanted: tuple[int, int], *, fit: Fit) -> tuple[int, int]:
    """Return the size that a picture is scaled to, before it is cut or gets bars."""
    if fit is Fit.STRETCH:
        return wanted
    ratios = [Fraction(to, of) for of, to in zip(shown, wanted, strict=True)]
    factor = min(ratios) if fit is Fit.CONTAIN else max(ratios)
    width, height = (max(1, round(side * factor)) for side in shown)
    return width, height


def framed(pixels: Pixels, *, width: int, height: int) -> Pixels:
    """Return the picture in the middle of another size: cut off, or with black around it."""
    if pixels.shape[:2] == (height, width):
        return np.ascontiguousarray(pixels)
    result = np.zeros((height, width, 3), np.uint8)
    to_y, from_y, rows = _middle(pixels.shape[0], height)
    to_x, from_x, columns = _middle(pixels.shape[1], width)
    result[to_y : to_y + rows, to_x : to_x + columns] = pixels[
        from_y : from_y + rows, from_x : from_x + columns
    ]
    return result


def _middle(have: int, want: int) -> tuple[int, int, int]:
    """Return where to write, where to read, and how much."""
    return max(0, want - have) // 2, max(0, have - want) // 2, min(have, want)
