"""Pictures laid over those of a video."""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from callsheet.media.images import resized

Pixels: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True)
class Overlay:
    """A picture over a part of others, while it is there."""

    picture: Pixels
    """Height x width x 4: colours and transparency."""
    left: int
    top: int
    opacity: float
    start: float
    """In seconds of the video."""
    end: float | None
    """None: it stays."""

    def is_seen(self, time: float) -> bool:
        """Tell whether it is there at that time."""
        return self.start <= time and (self.end is None or time < self.end)

    def over(self, pixels: Pixels) -> Pixels:
        """Return the pixels with the picture over them; what is beyond them is cut off."""
        rows = min(self.picture.shape[0], pixels.shape[0] - self.top)
        columns = min(self.picture.shape[1], pixels.shape[1] - self.left)
        if rows <= 0 or columns <= 0:
            return pixels
        result = pixels.copy()
        place = np.s_[self.top : self.top + rows, self.left : self.left + columns]
        share = self._share[:rows, :columns]
        below = result[place].astype(np.float32)
        colours = self.picture[:rows, :columns, :3]
        result[place] = np.rint(below + (colours - below) * share).astype(np.uint8)
        return result

    @cached_property
    def _share(self) -> NDArray[np.float32]:
        """How much of each pixel is the picture's: height x width x 1."""
        return np.asarray(self.picture[..., 3:] * (self.opacity / 255), dtype=np.float32)


def scaled_overlay(picture: Pixels, *, width: int, height: int) -> Pixels:
    """Return the picture in that size; a side that is 0 follows from the other one."""
    own_height, own_width = picture.shape[:2]
    if not width and not height:
        return picture
    width = width or max(1, round(own_width * height / own_height))
    height = height or max(1, round(own_height * width / own_width))
    return resized(picture, width=width, height=height)
