"""How much memory a rendering needs: an estimate by family and shape, corrected by what was seen.

Two things take memory at once: the weights, and what is in the air while the numbers of one step,
or of the decoding, are worked out. The second follows from the shape of what is made. The figures
of the table are those of the real models of each family. The ones of decoding images and of Wan are
peaks that InvokeAI measured; the others count what a layer holds where it is widest, and when in
doubt more.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from math import ceil
from types import MappingProxyType
from typing import Final

from callsheet.runtime.families import Family, Medium, Mode
from callsheet.runtime.model_files import DTYPE_BYTES
from callsheet.runtime.models import Model

#: Of a device's memory: for what its libraries take, and for what lies between tensors.
RESERVE_BYTES: Final = 2**30
#: How many frames of a video are decoded at once, where few are to be.
FRAMES_OF_A_CHUNK: Final = 2
_CHANNELS: Final = 3
#: How much of a real model's numbers a built-in one holds: its layers are that much narrower.
_SHARE_OF_TINY: Final = 1 / 8
_STEREO: Final = 2
#: A voice's text may become as much sound as this, when nothing says how much.
_LONGEST_SPEECH: Final = timedelta(seconds=60)


@dataclass(frozen=True)
class Shape:
    """What one pass through a model makes; all items of a batch have the same shape."""

    mode: Mode
    width: int = 0
    """Pixels of what comes out; 0 for sound."""
    height: int = 0
    frames: int = 1
    duration: timedelta = timedelta()
    """Of sound."""
    batch: int = 1


@dataclass(frozen=True)
class Estimate:
    """Bytes of the device's memory, or of the host's when there is no device."""

    weights: int
    working: int

    @property
    def peak(self) -> int:
        """What is needed at the same time."""
        return self.weights + self.working


@dataclass(frozen=True)
class _Numbers:
    """How many numbers are held at once, for each pixel of each frame or each sample of sound."""

    denoise: int
    """In a step, of the whole video; with both passes of a guidance that takes two."""
    decode: int
    """From latents, of the frames that are decoded at once."""
    frames_at_once: int = 1
    """How many frames are decoded at once; 0: all of them."""
    is_sliced: bool = False
    """Whether its frames are a batch for the autoencoder: where it tiles, one comes at a time."""


_TABLE: Final[Mapping[Family, _Numbers]] = MappingProxyType(
    {
        Family.SD15: _Numbers(denoise=300, decode=2200),
        Family.SDXL: _Numbers(denoise=300, decode=2200),
        Family.SD3: _Numbers(denoise=160, decode=2200),
        Family.FLUX: _Numbers(denoise=140, decode=2200),
        Family.FLUX_KONTEXT: _Numbers(denoise=140, decode=2200),
        Family.LTX: _Numbers(denoise=8, decode=64, frames_at_once=0),
        Family.WAN: _Numbers(denoise=100, decode=2900),
        Family.WAN_I2V: _Numbers(denoise=100, decode=2900),
        Family.ANIMATEDIFF: _Numbers(denoise=300, decode=2200, frames_at_once=16, is_sliced=True),
        Family.SVD: _Numbers(denoise=300, decode=2200, frames_at_once=0),
        # Always its whole window, of which the request is cut.
        Family.STABLE_AUDIO: _Numbers(denoise=20, decode=600),
        # Its latents are as large as the small image: four times as many for the same picture.
        Family.UPSCALER: _Numbers(denoise=1200, decode=2200),
        Family.VITS: _Numbers(denoise=0, decode=200),
    }
)


def peak_bytes(
    model: Model,
    shape: Shape,
    *,
    weight_bytes: int,
    dtype: str,
    in_tiles: bool = False,
    in_chunks: bool = False,
) -> Estimate:
    """Return what a model needs to make something of a shape.

    *weight_bytes* is what all its weights take in the format *dtype*, as ModelFiles says, with
    those of a LoRA and a ControlNet. What a device's own libraries take is not in it. Pictures are
    decoded *in_tiles*, and few frames of a video at once *in_chunks*, where the family can.
    """
    each = DTYPE_BYTES[dtype]
    numbers = _TABLE[model.family]
    if model.traits.medium is Medium.AUDIO:
        samples = _samples(model, shape)
        working = samples * max(numbers.denoise, numbers.decode)
        made = samples * _STEREO
    else:
        pixels = shape.width * shape.height
        # The image that is edited goes through the steps beside the one that is drawn.
        seen = 2 if shape.mode is Mode.INSTRUCT else 1
        denoise = numbers.denoise * seen * pixels * shape.frames
        decoded = _decoded_pixels(
            model,
            shape,
            in_tiles=model.vae_tiling or (in_tiles and model.traits.decodes_tiles),
            at_once=_frames_at_once(model, shape, in_tiles=in_tiles, in_chunks=in_chunks),
        )
        working = max(denoise, decoded * numbers.decode)
        made = pixels * shape.frames * _CHANNELS
    share = _SHARE_OF_TINY if model.is_built_in else 1.0
    return Estimate(
        weights=weight_bytes, working=shape.batch * each * (ceil(working * share) + made)
    )


def default_shape(model: Model) -> Shape:
    """Return the shape of what a model makes when a task does not say."""
    mode = min(model.modes)
    if mode is Mode.UPSCALE:
        # Of an image of the size that such models are trained on.
        side = 128 * model.traits.factor
        return Shape(mode, width=side, height=side)
    return Shape(
        mode,
        width=model.default_width,
        height=model.default_height,
        frames=max(1, model.default_frames),
        duration=model.default_duration,
    )


def least_bytes(
    model: Model, shape: Shape, *, largest_part: int, dtype: str, is_exact: bool = False
) -> int:
    """Return what a device must have for one item of a shape, when all is done to need less.

    One part of the model is there at a time, and *largest_part* is what the weights of the largest
    take; pictures are decoded piece by piece, unless the result is to be exact to the last bit.
    """
    estimate = peak_bytes(
        model,
        replace(shape, batch=1),
        weight_bytes=largest_part,
        dtype=dtype,
        in_tiles=not is_exact,
        in_chunks=not is_exact,
    )
    return estimate.peak + RESERVE_BYTES


def _decoded_pixels(model: Model, shape: Shape, *, in_tiles: bool, at_once: int) -> int:
    """Return how many pixels are decoded at once, of so many frames."""
    pixels = shape.width * shape.height
    if in_tiles:
        # A tile is as large as the images that the family's autoencoder was trained on.
        pixels = min(pixels, (model.traits.width or 512) * (model.traits.height or 512))
    return pixels * at_once


def _frames_at_once(model: Model, shape: Shape, *, in_tiles: bool, in_chunks: bool) -> int:
    numbers = _TABLE[model.family]
    if in_tiles and numbers.is_sliced:
        return 1
    at_once = min(shape.frames, numbers.frames_at_once or shape.frames)
    return min(at_once, FRAMES_OF_A_CHUNK) if in_chunks and model.traits.decodes_chunks else at_once


def _samples(model: Model, shape: Shape) -> int:
    wanted = max(shape.duration, model.most_duration)
    return ceil((wanted or _LONGEST_SPEECH).total_seconds() * model.sample_rate)


@dataclass(frozen=True)
class ShapeBucket:
    """Shapes of about one size, of one model: what was seen of one counts for the others."""

    model: str
    mode: Mode
    dtype: str
    size: int
    """The power of two that the pixels, or the milliseconds, of the whole batch are within."""

    @classmethod
    def of(cls, model: Model, shape: Shape, *, dtype: str) -> "ShapeBucket":
        """Return the bucket of a shape."""
        if model.traits.medium is Medium.AUDIO:
            whole = ceil(shape.duration / timedelta(milliseconds=1))
        else:
            whole = shape.width * shape.height * shape.frames
        return cls(model.name, shape.mode, dtype, (whole * shape.batch).bit_length())


class MeasuredPeaks:
    """What estimates and measured peaks had to do with each other, by the shapes' buckets.

    Of each bucket the largest share is kept, so that one cheap rendering does not hide a dear one;
    of the buckets those that were seen last.
    """

    def __init__(self, *, most: int = 1024) -> None:
        self._most = most
        self._shares: OrderedDict[ShapeBucket, float] = OrderedDict()

    def record(self, bucket: ShapeBucket, *, estimated: Estimate, measured: int) -> None:
        """Take note of a peak in bytes; one of 0 says that nothing was measured."""
        if measured <= 0 or estimated.peak <= 0:
            return
        share = measured / estimated.peak
        self._shares[bucket] = max(share, self._shares.get(bucket, 0.0))
        self._shares.move_to_end(bucket)
        while len(self._shares) > self._most:
            self._shares.popitem(last=False)

    def corrected(self, bucket: ShapeBucket, estimate: Estimate) -> Estimate:
        """Return the estimate by what was seen of its bucket; as it is when nothing was."""
        share = self._shares.get(bucket)
        if share is None:
            return estimate
        peak = ceil(estimate.peak * share)
        weights = min(estimate.weights, peak)
        return Estimate(weights=weights, working=peak - weights)
