"""The families of models: what each can do, and which sizes it takes. A closed list, no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Mode(StrEnum):
    """What a model is asked to do."""

    TEXT_TO_IMAGE = "text_to_image"
    IMAGE_TO_IMAGE = "image_to_image"
    INPAINT = "inpaint"
    INSTRUCT = "instruct"
    """Edit an image as words say."""
    TEXT_TO_VIDEO = "text_to_video"
    IMAGE_TO_VIDEO = "image_to_video"
    VIDEO_TO_VIDEO = "video_to_video"
    TEXT_TO_AUDIO = "text_to_audio"
    TEXT_TO_SPEECH = "text_to_speech"
    UPSCALE = "upscale"


class Medium(StrEnum):
    """What comes out of a model."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"


class Family(StrEnum):
    """Models of one architecture: they are loaded, run and measured alike."""

    SD15 = "sd15"
    SDXL = "sdxl"
    SD3 = "sd3"
    FLUX = "flux"
    FLUX_KONTEXT = "flux_kontext"
    LTX = "ltx"
    WAN = "wan"
    WAN_I2V = "wan_i2v"
    ANIMATEDIFF = "animatediff"
    SVD = "svd"
    STABLE_AUDIO = "stable_audio"
    UPSCALER = "upscaler"
    VITS = "vits"


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What all models of a family have in common; the sizes are the defaults of its models."""

    medium: Medium
    modes: frozenset[Mode]
    width: int = 0
    """Pixels; 0 where no pictures are made, or their size follows from the input."""
    height: int = 0
    """Pixels; 0 as above."""
    multiple: int = 1
    """Width and height are whole multiples of this many pixels."""
    steps: int = 0
    """Denoising steps; 0: the family does not denoise."""
    guidance_scale: float = 0.0
    frames: int = 0
    """Frames of a video; 0 where none is made."""
    frames_multiple: int = 1
    """The number of frames is one more than a whole multiple of this; 1: any number will do."""
    frame_rate: int = 0
    """Frames a second."""
    duration: timedelta = timedelta()
    """The length of audio; 0 where it follows from the input, or none is made."""
    sample_rate: int = 0
    """Samples a second; 0 where no audio is made."""
    factor: int = 1
    """How many times wider and higher the image gets."""
    decodes_tiles: bool = True
    """Whether pictures can be decoded in tiles."""
    decodes_chunks: bool = False
    """Whether a video, which is decoded at once, can be so a few frames at a time."""
    takes_loras: bool = False
    takes_controlnets: bool = False


_DRAWS: Final = frozenset({Mode.TEXT_TO_IMAGE, Mode.IMAGE_TO_IMAGE, Mode.INPAINT})

FAMILIES: Final[Mapping[Family, Traits]] = MappingProxyType(
    {
        Family.SD15: Traits(
            medium=Medium.IMAGE,
            modes=_DRAWS,
            width=512,
            height=512,
            multiple=8,
            steps=30,
            guidance_scale=7.5,
            takes_loras=True,
            takes_controlnets=True,
        ),
        Family.SDXL: Traits(
            medium=Medium.IMAGE,
            modes=_DRAWS,
            width=1024,
            height=1024,
            multiple=8,
            steps=30,
            guidance_scale=5.0,
            takes_loras=True,
            takes_controlnets=True,
        ),
        Family.SD3: Traits(
            medium=Medium.IMAGE,
            modes=_DRAWS,
            width=1024,
            height=1024,
            multiple=16,
            steps=28,
            guidance_scale=7.0,
            takes_loras=True,
        ),
        Family.FLUX: Traits(
            medium=Medium.IMAGE,
            modes=_DRAWS,
            width=1024,
            height=1024,
            multiple=16,
            steps=28,
            guidance_scale=3.5,
            takes_loras=True,
        ),
        Family.FLUX_KONTEXT: Traits(
            medium=Medium.IMAGE,
            modes=frozenset({Mode.INSTRUCT, Mode.TEXT_TO_IMAGE}),
            width=1024,
            height=1024,
            multiple=16,
            steps=28,
            guidance_scale=2.5,
            takes_loras=True,
        ),
        Family.LTX: Traits(
            medium=Medium.VIDEO,
            modes=frozenset({Mode.TEXT_TO_VIDEO, Mode.IMAGE_TO_VIDEO}),
            width=704,
            height=480,
            multiple=32,
            steps=50,
            guidance_scale=3.0,
            frames=121,
            frames_multiple=8,
            frame_rate=25,
        ),
        Family.WAN: Traits(
            medium=Medium.VIDEO,
            modes=frozenset({Mode.TEXT_TO_VIDEO, Mode.VIDEO_TO_VIDEO}),
            width=832,
            height=480,
            multiple=16,
            steps=50,
            guidance_scale=5.0,
            frames=81,
            frames_multiple=4,
            frame_rate=16,
        ),
        Family.WAN_I2V: Traits(
            medium=Medium.VIDEO,
            modes=frozenset({Mode.IMAGE_TO_VIDEO}),
            width=832,
            height=480,
            multiple=16,
            steps=40,
            guidance_scale=3.5,
            frames=81,
            frames_multiple=4,
            frame_rate=16,
        ),
        Family.ANIMATEDIFF: Traits(
            medium=Medium.VIDEO,
            modes=frozenset({Mode.TEXT_TO_VIDEO, Mode.VIDEO_TO_VIDEO}),
            width=512,
            height=512,
            multiple=8,
            steps=25,
            guidance_scale=7.5,
            frames=16,
            frame_rate=8,
        ),
        Family.SVD: Traits(
            medium=Medium.VIDEO,
            modes=frozenset({Mode.IMAGE_TO_VIDEO}),
            width=1024,
            height=576,
            multiple=64,
            steps=25,
            guidance_scale=3.0,
            frames=25,
            frame_rate=7,
            decodes_tiles=False,
            decodes_chunks=True,
        ),
        Family.STABLE_AUDIO: Traits(
            medium=Medium.AUDIO,
            modes=frozenset({Mode.TEXT_TO_AUDIO}),
            steps=100,
            guidance_scale=7.0,
            duration=timedelta(seconds=10),
            sample_rate=44_100,
        ),
        Family.UPSCALER: Traits(
            medium=Medium.IMAGE,
            modes=frozenset({Mode.UPSCALE}),
            steps=50,
            guidance_scale=9.0,
            factor=4,
        ),
        Family.VITS: Traits(
            medium=Medium.AUDIO,
            modes=frozenset({Mode.TEXT_TO_SPEECH}),
            sample_rate=16_000,
        ),
    }
)
