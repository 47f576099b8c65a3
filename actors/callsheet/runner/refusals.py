"""What a model cannot take of a request, said before anything is rendered."""

from callsheet.runner.adapters import Use, takes_words, words
from callsheet.runner.context import HandlerFailure
from callsheet.runner.rendering import RenderItem, RenderRequest
from callsheet.runtime.families import Medium, Mode
from callsheet.runtime.models import Model, ModelUnfit
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT

#: What each mode works on.
_FROM_IMAGE = frozenset(
    {Mode.IMAGE_TO_IMAGE, Mode.INPAINT, Mode.INSTRUCT, Mode.IMAGE_TO_VIDEO, Mode.UPSCALE}
)
_WITH_STRENGTH = frozenset({Mode.IMAGE_TO_IMAGE, Mode.INPAINT, Mode.VIDEO_TO_VIDEO})


def check_request(request: RenderRequest, model: Model, use: Use) -> None:
    """Raise HandlerFailure(INVALID_INPUT) for what the model cannot take."""
    if not request.items:
        raise refused(f"nothing was asked of model {model.name}")
    _check_shape(request, model)
    _check_strength(request, model)
    for item in request.items:
        _check_words(item, model, use)
        _check_inputs(request, item, model)


def takes_image(mode: Mode) -> bool:
    """Tell whether a mode works on an image of each item."""
    return mode in _FROM_IMAGE


def refused(message: str) -> HandlerFailure:
    """Return what says that a request cannot be used."""
    return HandlerFailure(FAILURE_REASON_INVALID_INPUT, message)


def _check_shape(request: RenderRequest, model: Model) -> None:
    try:
        if model.traits.medium is Medium.AUDIO:
            model.check(duration=request.duration)
        elif request.mode is not Mode.UPSCALE:
            model.check(width=request.width, height=request.height, frames=request.frames)
    except ModelUnfit as error:
        raise refused(str(error)) from error


def _check_strength(request: RenderRequest, model: Model) -> None:
    if request.mode not in _WITH_STRENGTH:
        if request.strength is not None:
            raise refused(f"{request.mode} by model {model.name} has no strength")
    elif request.strength is None or int(request.steps * request.strength) < 1:
        raise refused(f"a strength of {request.strength} leaves none of {request.steps} steps")


def _check_words(item: RenderItem, model: Model, use: Use) -> None:
    if item.negative_prompt and words not in use.takes:
        raise refused(f"model {model.name} takes no negative prompt")
    if item.prompt and not takes_words(use):
        raise refused(f"model {model.name} takes no prompt: it starts from the image alone")


def _check_inputs(request: RenderRequest, item: RenderItem, model: Model) -> None:
    if takes_image(request.mode) and item.image is None:
        raise refused(f"{request.mode} by model {model.name} needs an image")
    if request.mode is Mode.INPAINT and item.mask is None:
        raise refused(f"{request.mode} by model {model.name} needs a mask")
    if request.mode is Mode.VIDEO_TO_VIDEO:
        if item.video is None:
            raise refused(f"{request.mode} by model {model.name} needs a video")
        try:
            model.check(frames=len(item.video))
        except ModelUnfit as error:
            raise refused(str(error)) from error
    if request.controlnet is not None and item.control is None:
        raise refused(f"ControlNet {request.controlnet.name} needs a control image")
