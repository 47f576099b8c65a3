"""What a model cannot take is refused before anything is rendered."""

from dataclasses import replace

import numpy as np
import pytest

from callsheet.runner.context import HandlerFailure
from callsheet.runner.rendering import (
    ControlNetUse,
    LoraUse,
    Mode,
)
from callsheet.runtime.families import Family
from callsheet.tasks.v1.generate_image_pb2 import (
    SCHEDULER_EULER,
)
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT
from tests.support.rendering import (
    item,
    request_of,
)
from tests.support.stages import Stage

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


NOT_TAKEN: list[tuple[Family, Mode, dict[str, object], str]] = [
    (Family.SDXL, Mode.TEXT_TO_VIDEO, {}, "cannot do text_to_video"),
    (Family.SDXL, Mode.TEXT_TO_IMAGE, {"items": ()}, "nothing was asked"),
    (Family.SDXL, Mode.TEXT_TO_IMAGE, {"width": 60}, "a width that is a multiple of 8"),
    (Family.SDXL, Mode.TEXT_TO_IMAGE, {"strength": 0.5}, "has no strength"),
    (Family.SDXL, Mode.IMAGE_TO_IMAGE, {"strength": 0.1}, "leaves none of 4 steps"),
    (Family.SDXL, Mode.IMAGE_TO_IMAGE, {"strength": None}, "leaves none of 4 steps"),
    (Family.WAN, Mode.TEXT_TO_VIDEO, {"frames": 6}, "one more than a multiple of 4"),
    (Family.FLUX, Mode.TEXT_TO_IMAGE, {"scheduler": SCHEDULER_EULER}, "no scheduler but its own"),
    (
        Family.FLUX,
        Mode.TEXT_TO_IMAGE,
        {"controlnet": ControlNetUse("tiny-sdxl-controlnet")},
        "takes no ControlNet",
    ),
    (Family.WAN, Mode.TEXT_TO_VIDEO, {"loras": (LoraUse("a"),)}, "takes no LoRAs"),
    (Family.SDXL, Mode.TEXT_TO_IMAGE, {"loras": (LoraUse("tiny-sd15-lora"),)}, "of the family"),
    (
        Family.SDXL,
        Mode.TEXT_TO_IMAGE,
        {"controlnet": ControlNetUse("tiny-sd15-controlnet")},
        "of the family",
    ),
]
LACKING: list[tuple[Family, Mode, dict[str, object], str]] = [
    (Family.SDXL, Mode.IMAGE_TO_IMAGE, {"image": None}, "needs an image"),
    (Family.SDXL, Mode.INPAINT, {"mask": None}, "needs a mask"),
    (Family.WAN, Mode.VIDEO_TO_VIDEO, {"video": None}, "needs a video"),
    (
        Family.WAN,
        Mode.VIDEO_TO_VIDEO,
        {"video": np.zeros((6, 64, 64, 3), np.uint8)},
        "one more than a multiple of 4",
    ),
    (Family.FLUX, Mode.TEXT_TO_IMAGE, {"negative_prompt": "x"}, "takes no negative prompt"),
    (Family.SVD, Mode.IMAGE_TO_VIDEO, {"prompt": "x"}, "takes no prompt"),
]


@pytest.mark.parametrize(("family", "mode", "other", "why"), NOT_TAKEN)
def test_what_a_model_cannot_take_is_refused(
    stage: Stage, family: Family, mode: Mode, other: dict[str, object], why: str
) -> None:
    with pytest.raises(HandlerFailure, match=why) as caught:
        stage.render(family, replace(request_of(family, mode), **other))
    assert caught.value.reason == FAILURE_REASON_INVALID_INPUT


@pytest.mark.parametrize(("family", "mode", "lacking", "why"), LACKING)
def test_an_item_that_a_model_cannot_take_is_refused(
    stage: Stage, family: Family, mode: Mode, lacking: dict[str, object], why: str
) -> None:
    one = replace(item(mode, family=family), **lacking)
    with pytest.raises(HandlerFailure, match=why) as caught:
        stage.render(family, request_of(family, mode, items=(one,)))
    assert caught.value.reason == FAILURE_REASON_INVALID_INPUT
