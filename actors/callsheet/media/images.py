"""Encodes images, and the small ones that stand for larger things."""

import io
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from callsheet.media.encodings import SMALL, ImageEncoding

if TYPE_CHECKING:
    Pixels = NDArray[np.uint8]

#: The longer side of a thumbnail, in pixels.
THUMBNAIL: Final = 256


def encoded(pixels: "Pixels", encoding: ImageEncoding, *, xmp: bytes = b"") -> bytes:
    """Return an image, height x width x 3, as a file that carries the XMP."""
    content = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels), "RGB")
    image.save(content, encoding.pillow_name, **encoding.options, **_carried(encoding, xmp))
    return content.getvalue()


def thumbnail(pixels: "Pixels") -> "Pixels":
    """Return the same picture, at most THUMBNAIL pixels on its longer side."""
    image = Image.fromarray(np.ascontiguousarray(pixels), "RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return np.asarray(image)


def resized(pixels: "Pixels", *, width: int, height: int) -> "Pixels":
    """Return the picture in another size, resampled by Lanczos's filter."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def small(pixels: "Pixels") -> bytes:
    """Return a poster or a thumbnail as a file."""
    return encoded(pixels, SMALL)


def _carried(encoding: ImageEncoding, xmp: bytes) -> dict[str, object]:
    if not xmp:
        return {}
    if encoding.pillow_name != "PNG":
        return {"xmp": xmp}
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("XML:com.adobe.xmp", xmp.decode())
    return {"pnginfo": chunks}
