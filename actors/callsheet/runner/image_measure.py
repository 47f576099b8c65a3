"""How good an image is, as far as its pixels tell: how sharp, and how well exposed.

Numbers between 0 and 1, the same for the same pixels. They find what is blurred, black or burnt
out; they know nothing of taste.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import fmean
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Larger images are measured at this size, so that a detail counts alike whatever the resolution.
LONGEST_SIDE: Final = 1024
#: The variance of the Laplacian at which an image is half sharp: below 100 for luma from 0 to 255,
#: photographs are usually called blurred.
HALF_SHARP: Final = 100 / 255**2
#: Luma below which a pixel is lost in the shadows; above one less this, in the highlights.
CLIPPED: Final = 0.02

_Luma = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ImageMeasures:
    """What is measured of one image; the means of several make the parts of a quality."""

    #: How much detail there is: v / (v + HALF_SHARP) for the variance v of the Laplacian.
    sharpness: float
    #: How much of the range of light is used: 1 for a mean in the middle and nothing clipped.
    exposure: float
    #: The share of pixels that are black.
    clipped_shadows: float
    #: The share of pixels that are white.
    clipped_highlights: float
    #: The mean luma, from 0 to 1.
    mean_luma: float

    @property
    def score(self) -> float:
        """The geometric mean of sharpness and exposure: neither makes up for the other."""
        return sqrt(self.sharpness * self.exposure)


def measured(content: bytes) -> ImageMeasures:
    """Return what the pixels of an encoded image tell. Raises OSError when it cannot be decoded."""
    luma = _luma(content)
    shadows = float(np.mean(luma < CLIPPED))
    highlights = float(np.mean(luma > 1 - CLIPPED))
    mean = float(np.mean(luma))
    variance = _laplacian_variance(luma)
    return ImageMeasures(
        sharpness=variance / (variance + HALF_SHARP),
        exposure=(1 - shadows - highlights) * (1 - (2 * mean - 1) ** 2),
        clipped_shadows=shadows,
        clipped_highlights=highlights,
        mean_luma=mean,
    )


def means(images: Sequence[ImageMeasures]) -> Mapping[str, float]:
    """Return the mean of each measure over the images, by its name."""
    each = [asdict(image) for image in images]
    return {name: fmean(measures[name] for measures in each) for name in each[0]}


def _luma(content: bytes) -> _Luma:
    with Image.open(io.BytesIO(content)) as image:
        grey = image.convert("L")
    grey.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BOX)
    return np.asarray(grey, dtype=np.float32) / np.float32(255)


def _laplacian_variance(luma: _Luma) -> float:
    if min(luma.shape) < 3:
        return 0.0
    inner = luma[1:-1, 1:-1]
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float(np.var(around - 4 * inner, dtype=np.float64))
