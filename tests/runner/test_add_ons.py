"""LoRAs and ControlNets, with the real libraries and tiny models."""

from dataclasses import replace

import pytest

from callsheet.runner.context import HandlerFailure
from callsheet.runner.rendering import (
    ControlNetUse,
    LoraUse,
    Mode,
)
from callsheet.runtime.families import Family
from callsheet.v1.task_pb2 import FAILURE_REASON_MODEL_NOT_FOUND
from tests.support.rendering import (
    STEPS,
    Controls,
    Slot,
    contents,
    item,
    request_of,
)
from tests.support.stages import Stage, state_behind, walk_of

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("family", [Family.SD15, Family.SDXL])
@pytest.mark.parametrize("mode", [Mode.TEXT_TO_IMAGE, Mode.IMAGE_TO_IMAGE, Mode.INPAINT])
def test_a_lora_changes_the_image_and_leaves_the_model_as_it_was(
    stage: Stage, family: Family, mode: Mode
) -> None:
    usual = stage.usual(family, mode)
    name = f"tiny-{family}-lora"
    worn = [
        contents(
            stage.render(
                family, request_of(family, mode, loras=(LoraUse(name, weight),)), Controls()
            )
        )
        for weight in (1.0, 0.5)
    ]
    assert len({usual.contents[0], worn[0][0], worn[1][0]}) == 3
    assert contents(stage.render(family, request_of(family, mode))) == usual.contents


def test_a_rendering_with_a_lora_goes_on_to_the_same_bits(stage: Stage) -> None:
    request = request_of(Family.SDXL, Mode.TEXT_TO_IMAGE, loras=(LoraUse("tiny-sdxl-lora", 0.75),))
    usual = stage.render(Family.SDXL, request)
    slot = Slot(state_behind(stage, Family.SDXL, request, 2))
    assert contents(stage.render(Family.SDXL, request, Controls(slot))) == contents(usual)
    assert slot.resumed_behind == [(2, STEPS)]


@pytest.mark.parametrize("family", [Family.SD15, Family.SDXL])
@pytest.mark.parametrize("mode", [Mode.TEXT_TO_IMAGE, Mode.IMAGE_TO_IMAGE, Mode.INPAINT])
def test_a_controlnet_is_followed_and_a_rendering_with_it_goes_on(
    stage: Stage, family: Family, mode: Mode
) -> None:
    usual = stage.usual(family, mode)
    request = request_of(family, mode, controlnet=ControlNetUse(f"tiny-{family}-controlnet"))
    followed = stage.render(family, request)
    (first,) = request.items
    other = replace(first, control=item(mode, number=5).control)
    followed_other = stage.render(family, replace(request, items=(other,)))
    assert len({usual.contents[0], contents(followed)[0], contents(followed_other)[0]}) == 3
    slot = Slot(state_behind(stage, family, request, 2))
    assert contents(stage.render(family, request, Controls(slot))) == contents(followed)
    assert slot.resumed_behind == [(2, walk_of(mode))]
    assert contents(stage.render(family, request_of(family, mode))) == usual.contents


def test_a_lora_that_the_catalogue_does_not_have_is_not_found(stage: Stage) -> None:
    request = request_of(Family.SDXL, Mode.TEXT_TO_IMAGE, loras=(LoraUse("nobody"),))
    with pytest.raises(HandlerFailure, match="there is no LoRA 'nobody'") as caught:
        stage.render(Family.SDXL, request)
    assert caught.value.reason == FAILURE_REASON_MODEL_NOT_FOUND
    rendered = stage.render(Family.SDXL, request_of(Family.SDXL, Mode.TEXT_TO_IMAGE))
    assert contents(rendered) == stage.usual(Family.SDXL, Mode.TEXT_TO_IMAGE).contents
