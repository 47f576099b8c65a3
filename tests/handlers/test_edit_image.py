"""The task type edit_image, on tiny models: what comes out is decoded and looked at."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from callsheet.handlers import edit_image
from callsheet.runner.context import HandlerFailure, TaskStopped
from callsheet.runner.rendering import Mode
from callsheet.runtime.families import Family
from callsheet.tasks.v1.artifact_pb2 import (
    ARTIFACT_ROLE_PROVENANCE,
    ARTIFACT_ROLE_THUMBNAIL,
    Artifact,
)
from callsheet.tasks.v1.edit_image_pb2 import IMAGE_EDIT_METHOD_INSTRUCTION, EditImageInput
from callsheet.tasks.v1.generate_image_pb2 import IMAGE_FORMAT_JPEG
from callsheet.tasks.v1.media_pb2 import ControlNetUse, LoraUse, MediaReference
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT
from tests.support.handling import HandlerContext, is_context
from tests.support.media_files import BLUE, RED, Pixels, plain, png
from tests.support.rendering import built_in, warm

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

STEPS = 2
NOISE = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture
def context(tmp_path: Path, cache_dir: Path) -> HandlerContext:
    context = HandlerContext(tmp_path, pipeline=warm(Family.SDXL, cache_dir=cache_dir))
    is_context(context)
    return context


@pytest.fixture
def image(context: HandlerContext) -> MediaReference:
    return context.upload(png(NOISE), suffix="png")


@pytest.fixture
def right_half(context: HandlerContext) -> MediaReference:
    """A mask of another size than the image, white on its right."""
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 8:] = 255
    return context.upload(png(mask), suffix="png")


def edit(image: MediaReference, prompt: str = "a fox", *, seed: int = 7) -> EditImageInput:
    """Return an input that takes a moment."""
    return EditImageInput(image=image, prompt=prompt, seed=seed, steps=STEPS)


def pixels_of(context: HandlerContext, artifact: Artifact) -> Pixels:
    with Image.open(io.BytesIO(context.content(artifact))) as opened:
        return np.asarray(opened.convert("RGB"))


def drawn(context: HandlerContext, input: EditImageInput) -> Pixels:
    return pixels_of(context, edit_image.run(input, context).images[0])


def test_an_image_is_drawn_anew_as_the_prompt_and_the_image_say(
    context: HandlerContext, image: MediaReference
) -> None:
    other_image = context.upload(png(plain(RED, width=64, height=64)), suffix="png")
    usual, again, other_words, other_seed, other = (
        drawn(context, asked)
        for asked in (
            edit(image),
            edit(image),
            edit(image, "a hen"),
            edit(image, seed=8),
            edit(other_image),
        )
    )
    assert {mode for _, mode in context.asked} == {Mode.IMAGE_TO_IMAGE}
    assert usual.shape == (64, 64, 3)
    assert np.array_equal(usual, again)
    assert len({each.tobytes() for each in (usual, other_words, other_seed, other)}) == 4


def test_it_is_told_how_the_image_was_drawn(context: HandlerContext, image: MediaReference) -> None:
    output = edit_image.run(edit(image), context)
    model = built_in(Family.SDXL)
    assert (output.seed, output.model, output.rendering.steps) == (7, model.name, STEPS)
    assert output.strength == pytest.approx(0.6)
    assert (output.rendering.bucket, output.rendering.scheduler) == (1, "EulerDiscreteScheduler")
    assert (output.images[0].width, output.images[0].height) == (64, 64)
    assert output.thumbnails[0].role == ARTIFACT_ROLE_THUMBNAIL
    assert output.provenance[0].role == ARTIFACT_ROLE_PROVENANCE
    manifest = json.loads(context.content(output.provenance[0]))
    told = manifest["assertions"][-1]["data"]
    assert (told["task_type"], told["seed"]) == ("edit_image", 7)
    assert told["digital_source_type"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert [each["instance_id"] for each in manifest["ingredients"]] == [image.uri]


def test_where_the_mask_is_black_every_pixel_stays(
    context: HandlerContext, image: MediaReference, right_half: MediaReference
) -> None:
    asked = edit(image)
    asked.mask.CopyFrom(right_half)
    output = edit_image.run(asked, context)
    pixels = pixels_of(context, output.images[0])
    assert context.asked == [("", Mode.INPAINT)]
    assert output.strength == 1
    assert np.array_equal(pixels[:, :32], NOISE[:, :32])
    assert float((pixels[:, 32:] != NOISE[:, 32:]).mean()) > 0.9


def test_an_instruction_is_followed_by_a_model_that_takes_them(
    tmp_path: Path, cache_dir: Path
) -> None:
    context = HandlerContext(tmp_path, pipeline=warm(Family.FLUX_KONTEXT, cache_dir=cache_dir))
    made: list[Pixels] = []
    for colour in (RED, BLUE):
        start = context.upload(png(plain(colour, width=64, height=64)), suffix="png")
        asked = edit(start, "make it night")
        asked.method = IMAGE_EDIT_METHOD_INSTRUCTION
        output = edit_image.run(asked, context)
        made.append(pixels_of(context, output.images[0]))
        assert not output.HasField("strength")
    assert context.asked[0] == ("", Mode.INSTRUCT)
    assert made[0].shape == (64, 64, 3)
    assert not np.array_equal(made[0], made[1])


def test_image_i_of_many_is_the_image_of_seed_plus_i(
    context: HandlerContext, image: MediaReference
) -> None:
    many = edit(image)
    many.count = 2
    output = edit_image.run(many, context)
    first, second = (pixels_of(context, each) for each in output.images)
    assert np.array_equal(first, drawn(context, edit(image)))
    assert np.array_equal(second, drawn(context, edit(image, seed=8)))
    assert len(output.thumbnails) == len(output.provenance) == 2
    assert (1, 2, "image 1 of 2, step 1 of 1") in context.reports


@pytest.mark.parametrize(
    ("size", "drawn_in"),
    [((99, 61), (96, 64)), ((30, 30), (64, 64)), ((64, 4100), (64, 2048))],
)
def test_a_size_that_is_left_open_is_the_images_as_near_as_the_model_takes_it(
    size: tuple[int, int], drawn_in: tuple[int, int]
) -> None:
    width, height = size
    found = edit_image.nearest_size(plain(RED, width=width, height=height), built_in(Family.SDXL))
    assert found == drawn_in


def test_what_the_input_says_of_size_format_and_strength_is_used(
    context: HandlerContext, image: MediaReference
) -> None:
    asked = edit(image)
    asked.width, asked.height, asked.strength = 72, 80, 1
    asked.format = IMAGE_FORMAT_JPEG
    output = edit_image.run(asked, context)
    with Image.open(io.BytesIO(context.content(output.images[0]))) as opened:
        assert (opened.format, opened.size) == ("JPEG", (72, 80))
    assert output.strength == 1


def test_a_lora_and_a_controlnet_have_their_say(
    context: HandlerContext, image: MediaReference
) -> None:
    plainly, with_lora, with_controlnet = edit(image), edit(image), edit(image)
    with_lora.loras.append(LoraUse(name="tiny-sdxl-lora", weight=2))
    with_controlnet.controlnet.CopyFrom(
        ControlNetUse(name="tiny-sdxl-controlnet", image=image, scale=2)
    )
    made = {drawn(context, asked).tobytes() for asked in (plainly, with_lora, with_controlnet)}
    assert len(made) == 3


def test_a_strength_that_leaves_no_step_is_refused(
    context: HandlerContext, image: MediaReference
) -> None:
    asked = edit(image)
    asked.strength = 0
    with pytest.raises(HandlerFailure, match="leaves none of 2 steps") as refused:
        edit_image.run(asked, context)
    assert refused.value.reason == FAILURE_REASON_INVALID_INPUT
    assert context.stored_keys() == []


@pytest.mark.parametrize("field", ["image", "mask"])
def test_a_file_that_is_not_there_is_refused_before_a_model_is_loaded(
    context: HandlerContext, image: MediaReference, field: str
) -> None:
    asked = edit(image)
    gone = MediaReference(uri=f"projects/{context.project}/uploads/{'0' * 32}.png")
    (asked.image if field == "image" else asked.mask).CopyFrom(gone)
    with pytest.raises(HandlerFailure) as refused:
        edit_image.run(asked, context)
    assert refused.value.reason == FAILURE_REASON_INVALID_INPUT
    assert context.asked == []


def test_a_stop_between_two_steps_stores_nothing(tmp_path: Path, cache_dir: Path) -> None:
    pipeline = warm(Family.SDXL, cache_dir=cache_dir)
    context = HandlerContext(tmp_path, pipeline=pipeline, reports=3)
    image = context.upload(png(NOISE), suffix="png")
    with pytest.raises(TaskStopped):
        edit_image.run(edit(image), context)
    assert context.stored_keys() == []
