"""How diffusers is asked for each mode of each family: one table, and what its rows are made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from callsheet.runner.rendering import Pixels, RenderItem, RenderRequest
from callsheet.runtime.families import Family, Mode

if TYPE_CHECKING:
    from PIL.Image import Image

Arguments: TypeAlias = dict[str, object]
T = TypeVar("T")

Takes: TypeAlias = Callable[[RenderRequest, Sequence[RenderItem]], Arguments]
"""Makes some of a call's arguments from what all items share and from each."""


class Layout(Enum):
    """How the latents of a step lie in memory."""

    IMAGE = "batch x channels x height x width"
    PACKED_IMAGE = "batch x patches of 2 x 2 x channels and places"
    VIDEO = "batch x channels x frames x height x width"
    VIDEO_BY_FRAME = "batch x frames x channels x height x width"
    PACKED_VIDEO = "batch x places x channels"
    SOUND = "no picture"


@dataclass(frozen=True)
class Use:
    """One mode of a family: a class of diffusers, and what its call takes besides the steps."""

    pipeline: str
    takes: tuple[Takes, ...]
    layout: Layout = Layout.IMAGE
    batches: bool = True
    """Whether one call may carry several items."""
    controlled: "Use | None" = None
    """The same with a ControlNet. None: there is none."""


def words(request: RenderRequest, items: Sequence[RenderItem]) -> Arguments:
    """Take prompts, and negative prompts where there are any; how strongly they guide."""
    arguments: Arguments = {
        "prompt": [item.prompt for item in items],
        "guidance_scale": request.guidance_scale,
    }
    # An empty one is not the same as none: SDXL knows words for nothing, and nothing at all.
    if any(item.negative_prompt for item in items):
        arguments["negative_prompt"] = [item.negative_prompt for item in items]
    return arguments


def words_alone(request: RenderRequest, items: Sequence[RenderItem]) -> Arguments:
    """Take prompts, of models whose guidance is distilled and knows nothing to avoid."""
    return {
        "prompt": [item.prompt for item in items],
        "guidance_scale": request.guidance_scale,
    }


def size(request: RenderRequest, _items: Sequence[RenderItem]) -> Arguments:
    """Take width and height."""
    return {"width": request.width, "height": request.height}


def area(request: RenderRequest, _items: Sequence[RenderItem]) -> Arguments:
    """Take the size as it is: an editing model would choose one of its own."""
    return {"max_area": request.width * request.height, "_auto_resize": False}


def image(request: RenderRequest, items: Sequence[RenderItem]) -> Arguments:
    """Take an image for each item, scaled to the request's size."""
    return {"image": [scaled(required(item.image), request) for item in items]}


def one_image(request: RenderRequest, items: Sequence[RenderItem]) -> Arguments:
    """Take the image of the only item."""
    return {"image": scaled(required(items[0].image), request)}


def image_as_is(_request: RenderRequest, items: Sequence[RenderItem]) -> Arguments:
    """Take an image for each item in its own size."""
    return {"image": [picture(required(item.image)) for item in items]}


def mask(request: RenderRequest, items: Sequence[RenderItem]) -> Arguments:
    """Take a mask for each item, scaled to the request's size without new shades."""
    return {"mask_image": [scaled(required(item.mask), request, smooth=False) for item in items]}


def strength(request: RenderRequest, _items: Sequence[RenderItem]) -> Arguments:
    """Take how far from its input the result may go."""
    return {"strength": required(request.strength)}


def frames(request: RenderRequest, _items: Sequence[RenderItem]) -> Arguments:
    """Take the number of frames."""
    return {"num_frames": request.frames}


def chunks(request: RenderRequest, _items: Sequence[RenderItem]) -> Arguments:
    """Take how many frames are decoded at once, where the request says it."""
    return {"decode_chunk_size": request.frames_at_once} if request.frames_at_once else {}


def frame_rate(request: RenderRequest, _items: Sequence[RenderItem]) -> Arguments:
    """Take the frames a second, where the request says it."""
    return {"frame_rate": request.frame_rate} if request.frame_rate else {}


def motion(request: RenderRequest, _items: Sequence[RenderItem]) -> Arguments:
    """Take what a model without words takes: the frames a second, and the strongest guidance."""
    arguments: Arguments = {"max_guidance_scale": max(1.0, request.guidance_scale)}
    if request.frame_rate:
        arguments["fps"] = max(1, round(request.frame_rate))
    return arguments


def video(request: RenderRequest, items: Sequence[RenderItem]) -> Arguments:
    """Take the frames of the only item, scaled to the request's size."""
    return {"video": [scaled(frame, request) for frame in required(items[0].video)]}


def videos(request: RenderRequest, items: Sequence[RenderItem]) -> Arguments:
    """Take the frames of the only item, as a batch of one."""
    return {"video": [video(request, items)["video"]]}


def duration(request: RenderRequest, _items: Sequence[RenderItem]) -> Arguments:
    """Take the length of the sound, from its beginning."""
    return {"audio_end_in_s": request.duration.total_seconds()}


def control(request: RenderRequest, items: Sequence[RenderItem]) -> Arguments:
    """Take what a ControlNet follows, where nothing else is called an image."""
    return {"image": _controls(request, items), **_control_scale(request)}


def control_image(request: RenderRequest, items: Sequence[RenderItem]) -> Arguments:
    """Take what a ControlNet follows, beside the image that is worked on."""
    return {"control_image": _controls(request, items), **_control_scale(request)}


def _controls(request: RenderRequest, items: Sequence[RenderItem]) -> "list[Image]":
    return [scaled(required(item.control), request) for item in items]


def _control_scale(request: RenderRequest) -> Arguments:
    return {"controlnet_conditioning_scale": float(required(request.controlnet).scale)}


def required(value: T | None) -> T:
    """Return the value; what a mode needs was asked for before."""
    if value is None:
        raise ValueError("an input of the mode is missing")
    return value


def picture(pixels: Pixels) -> "Image":
    """Return pixels as Pillow has them."""
    from PIL import Image

    return Image.fromarray(pixels)


def scaled(pixels: Pixels, request: RenderRequest, *, smooth: bool = True) -> "Image":
    """Return pixels in the request's size."""
    from PIL.Image import Resampling

    whole = picture(pixels)
    if whole.size == (request.width, request.height):
        return whole
    return whole.resize(
        (request.width, request.height), Resampling.LANCZOS if smooth else Resampling.NEAREST
    )


def _drawing(prefix: str, *, sized: bool, taking: Takes, layout: Layout) -> Mapping[Mode, Use]:
    """Return the uses of a family that draws, redraws and paints into images."""
    shaped = (taking, size) if sized else (taking,)
    return {
        Mode.TEXT_TO_IMAGE: Use(f"{prefix}Pipeline", (taking, size), layout),
        Mode.IMAGE_TO_IMAGE: Use(f"{prefix}Img2ImgPipeline", (*shaped, image, strength), layout),
        Mode.INPAINT: Use(
            f"{prefix}InpaintPipeline", (taking, size, image, mask, strength), layout
        ),
    }


def _controllable(prefix: str) -> Mapping[Mode, Use]:
    """Return the uses of a family that draws, and has ControlNets."""
    text, redraw, inpaint = (
        _drawing(prefix, sized=False, taking=words, layout=Layout.IMAGE)[mode]
        for mode in (Mode.TEXT_TO_IMAGE, Mode.IMAGE_TO_IMAGE, Mode.INPAINT)
    )
    named = f"{prefix}ControlNet"
    return {
        Mode.TEXT_TO_IMAGE: _with(text, Use(f"{named}Pipeline", (words, size, control))),
        Mode.IMAGE_TO_IMAGE: _with(
            redraw,
            Use(f"{named}Img2ImgPipeline", (words, size, image, strength, control_image)),
        ),
        Mode.INPAINT: _with(
            inpaint,
            Use(f"{named}InpaintPipeline", (words, size, image, mask, strength, control_image)),
        ),
    }


def _with(use: Use, controlled: Use) -> Use:
    return Use(use.pipeline, use.takes, use.layout, controlled=controlled)


#: Every use of every family; the first of a family names the class that its models load as.
ADAPTERS: Final[Mapping[Family, Mapping[Mode, Use]]] = MappingProxyType(
    {
        Family.SD15: _controllable("StableDiffusion"),
        Family.SDXL: _controllable("StableDiffusionXL"),
        Family.SD3: _drawing("StableDiffusion3", sized=True, taking=words, layout=Layout.IMAGE),
        Family.FLUX: _drawing("Flux", sized=True, taking=words_alone, layout=Layout.PACKED_IMAGE),
        Family.FLUX_KONTEXT: {
            Mode.INSTRUCT: Use(
                "FluxKontextPipeline",
                (words_alone, size, area, one_image),
                Layout.PACKED_IMAGE,
                batches=False,
            ),
            Mode.TEXT_TO_IMAGE: Use(
                "FluxKontextPipeline", (words_alone, size, area), Layout.PACKED_IMAGE
            ),
        },
        Family.LTX: {
            Mode.TEXT_TO_VIDEO: Use(
                "LTXPipeline", (words, size, frames, frame_rate), Layout.PACKED_VIDEO
            ),
            Mode.IMAGE_TO_VIDEO: Use(
                "LTXImageToVideoPipeline",
                (words, size, frames, frame_rate, one_image),
                Layout.VIDEO,
                batches=False,
            ),
        },
        Family.WAN: {
            Mode.TEXT_TO_VIDEO: Use("WanPipeline", (words, size, frames), Layout.VIDEO),
            Mode.VIDEO_TO_VIDEO: Use(
                "WanVideoToVideoPipeline",
                (words, size, video, strength),
                Layout.VIDEO,
                batches=False,
            ),
        },
        Family.WAN_I2V: {
            Mode.IMAGE_TO_VIDEO: Use(
                "WanImageToVideoPipeline",
                (words, size, frames, one_image),
                Layout.VIDEO,
                batches=False,
            ),
        },
        Family.ANIMATEDIFF: {
            Mode.TEXT_TO_VIDEO: Use("AnimateDiffPipeline", (words, size, frames), Layout.VIDEO),
            Mode.VIDEO_TO_VIDEO: Use(
                "AnimateDiffVideoToVideoPipeline",
                (words, size, videos, strength),
                Layout.VIDEO,
                batches=False,
            ),
        },
        Family.SVD: {
            Mode.IMAGE_TO_VIDEO: Use(
                "StableVideoDiffusionPipeline",
                (size, frames, motion, one_image, chunks),
                Layout.VIDEO_BY_FRAME,
                batches=False,
            ),
        },
        Family.STABLE_AUDIO: {
            Mode.TEXT_TO_AUDIO: Use("StableAudioPipeline", (words, duration), Layout.SOUND),
        },
        Family.UPSCALER: {
            Mode.UPSCALE: Use("StableDiffusionUpscalePipeline", (words, image_as_is)),
        },
    }
)


def loading_class(family: Family) -> str:
    """Return the class of diffusers that models of the family load as."""
    return next(iter(ADAPTERS[family].values())).pipeline


def takes_words(use: Use) -> bool:
    """Tell whether the use listens to a prompt."""
    return words in use.takes or words_alone in use.takes
