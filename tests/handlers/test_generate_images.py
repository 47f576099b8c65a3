"""The task type generate_images, on the tiny model, and on one that fails where the test says."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from callsheet.artifacts.errors import ArtifactStoreError
from callsheet.handlers import generate_images
from callsheet.handlers.generate_images import BATCH
from callsheet.runner.context import HandlerFailure, TaskStopped
from callsheet.runner.rendering import (
    LoadedPipeline,
    Mode,
    Pixels,
    RenderControls,
    Rendered,
    RenderedItem,
    RenderItem,
    RenderRequest,
    Reproducibility,
)
from callsheet.runtime.families import Family
from callsheet.tasks.v1.artifact_pb2 import ARTIFACT_ROLE_THUMBNAIL, Artifact
from callsheet.tasks.v1.generate_images_pb2 import GenerateImagesInput, ImageItem
from callsheet.tasks.v1.media_pb2 import REPRODUCIBILITY_STRICT
from callsheet.v1.task_pb2 import (
    FAILURE_REASON_INTERNAL,
    FAILURE_REASON_INVALID_INPUT,
    FAILURE_REASON_MODEL_NOT_FOUND,
)
from tests.support.handling import HandlerContext, is_context
from tests.support.rendering import built_in, warm

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def context(tmp_path: Path, cache_dir: Path) -> HandlerContext:
    context = HandlerContext(tmp_path, pipeline=warm(Family.SDXL, cache_dir=cache_dir))
    is_context(context)
    return context


def images(*prompts: str, seed: int = 7, steps: int = 1) -> GenerateImagesInput:
    items = [ImageItem(prompt=prompt) for prompt in prompts]
    return GenerateImagesInput(items=items, seed=seed, steps=steps)


def pixels_of(context: HandlerContext, artifact: Artifact) -> Pixels:
    with Image.open(io.BytesIO(context.content(artifact))) as opened:
        return np.asarray(opened.convert("RGB"))


def test_every_item_has_its_image_in_the_order_of_the_input(context: HandlerContext) -> None:
    asked = images("a fox", "a hen", "a fox")
    asked.items[2].seed = 7
    output = generate_images.run(asked, context)
    fox, hen, fox_again = (pixels_of(context, item.image) for item in output.items)
    assert context.asked == [("", Mode.TEXT_TO_IMAGE)]
    assert fox.shape == (64, 64, 3)
    # The same words and seed, in one batch: the same to within rounding, and a hen is none
    assert np.abs(fox.astype(int) - fox_again.astype(int)).max() <= 1
    assert np.abs(fox.astype(int) - hen.astype(int)).max() > 1
    assert [item.seed for item in output.items] == [7, 8, 7]
    assert not any(item.HasField("failure") for item in output.items)
    assert (output.seed, output.model) == (7, built_in(Family.SDXL).name)
    assert (output.rendering.steps, output.rendering.bucket) == (1, 3)


def test_each_image_has_its_thumbnail_and_tells_of_itself_alone(context: HandlerContext) -> None:
    output = generate_images.run(images("a fox", "a hen"), context)
    for number, (item, prompt) in enumerate(zip(output.items, ("a fox", "a hen"), strict=True)):
        assert item.thumbnail.role == ARTIFACT_ROLE_THUMBNAIL
        manifest = json.loads(context.content(item.provenance))
        told = manifest["assertions"][-1]["data"]
        assert (told["task_type"], told["seed"]) == ("generate_images", 7 + number)
        assert told["parameters"]["items"] == [{"prompt": prompt}]
        assert manifest["assertions"][0]["data"]["hash"] == item.image.sha256


def test_strictly_an_image_is_the_same_whatever_is_drawn_with_it(context: HandlerContext) -> None:
    many, alone = images("a hen", "a fox", "a cow"), images("a fox", seed=8)
    for asked in (many, alone):
        asked.reproducibility = REPRODUCIBILITY_STRICT
    with_others, by_itself = (generate_images.run(asked, context) for asked in (many, alone))
    assert np.array_equal(
        pixels_of(context, with_others.items[1].image), pixels_of(context, by_itself.items[0].image)
    )
    assert with_others.rendering.bucket == 1


def test_an_item_that_the_model_refuses_does_not_fail_the_others(
    tmp_path: Path, cache_dir: Path
) -> None:
    """Of a model that knows nothing to avoid, and one item that has something to avoid."""
    context = HandlerContext(tmp_path, pipeline=warm(Family.FLUX, cache_dir=cache_dir))
    asked = images("a fox", "a hen", "a cow")
    asked.items[1].negative_prompt = "feathers"
    output = generate_images.run(asked, context)
    assert [item.HasField("image") for item in output.items] == [True, False, True]
    failure = output.items[1].failure
    assert failure.reason == "FAILURE_REASON_INVALID_INPUT"
    assert "takes no negative prompt" in failure.message
    assert output.items[1].seed == 8
    assert output.rendering.bucket == 1


class Painter:
    """A model that paints the seed, and raises what the test says for an item."""

    def __init__(self, fails: Callable[[RenderItem], Exception | None] = lambda _: None) -> None:
        self.model = built_in(Family.SDXL)
        self.modes = self.model.modes
        self.requests: list[RenderRequest] = []
        self._fails = fails

    def render(self, request: RenderRequest, controls: RenderControls) -> Rendered:
        """Paint each item after all steps are done."""
        self.requests.append(request)
        for step in range(request.steps + 1):
            controls.on_step(step, request.steps)
        for item in request.items:
            if (error := self._fails(item)) is not None:
                raise error
        return Rendered(
            tuple(
                RenderedItem(
                    frames=np.full((1, request.height, request.width, 3), item.seed, np.uint8),
                    bucket=len(request.items),
                )
                for item in request.items
            ),
            scheduler="Painting",
        )


def is_pipeline(pipeline: LoadedPipeline) -> LoadedPipeline:
    """Let the type checker see that the test's pipeline is one."""
    return pipeline


def for_hens(error: Exception) -> Callable[[RenderItem], Exception | None]:
    return lambda item: error if item.prompt == "a hen" else None


def test_many_items_are_drawn_in_batches_and_progress_counts_them_all(tmp_path: Path) -> None:
    painter = Painter()
    context = HandlerContext(tmp_path, pipeline=is_pipeline(painter))
    output = generate_images.run(images(*["a fox"] * (BATCH + 2), steps=3), context)
    assert [len(request.items) for request in painter.requests] == [BATCH, 2]
    seeds = [int(pixels_of(context, item.image)[0, 0, 0]) for item in output.items]
    assert seeds == [item.seed for item in output.items] == list(range(7, 13))
    assert output.rendering.bucket == BATCH
    assert context.reports == [
        (0, 0, "loading the model"),
        *((step, 18, f"images 1 to 4 of 6, step {step} of 18") for step in (0, 4, 8, 12)),
        *((step, 18, f"images 5 to 6 of 6, step {step} of 18") for step in (12, 14, 16, 18)),
    ]


def test_the_batch_of_an_item_that_fails_is_drawn_one_by_one(tmp_path: Path) -> None:
    painter = Painter(for_hens(RuntimeError("a hen too many")))
    context = HandlerContext(tmp_path, pipeline=painter)
    output = generate_images.run(images("a fox", "a hen", "a cow"), context)
    assert [len(request.items) for request in painter.requests] == [3, 1, 1, 1]
    assert [item.failure.reason for item in output.items] == ["", "FAILURE_REASON_INTERNAL", ""]
    assert output.items[1].failure.message == "RuntimeError: a hen too many"
    assert len(context.stored_keys()) == 6


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (HandlerFailure(FAILURE_REASON_INVALID_INPUT, "no hens"), FAILURE_REASON_INVALID_INPUT),
        (RuntimeError("no hens"), FAILURE_REASON_INTERNAL),
    ],
)
def test_when_every_item_fails_the_task_fails_with_the_first_ones_reason(
    tmp_path: Path, error: Exception, reason: int
) -> None:
    context = HandlerContext(tmp_path, pipeline=Painter(for_hens(error)))
    with pytest.raises(HandlerFailure, match="no hens") as failed:
        generate_images.run(images("a hen", "a hen"), context)
    assert failed.value.reason == reason
    assert context.stored_keys() == []


@pytest.mark.parametrize(
    "error",
    [
        HandlerFailure(FAILURE_REASON_MODEL_NOT_FOUND, "no such LoRA"),
        ArtifactStoreError("the store is away"),
        type("AcceleratorError", (RuntimeError,), {})("the device is gone"),
    ],
)
def test_what_is_no_items_own_fault_fails_the_task_at_once(
    tmp_path: Path, error: Exception
) -> None:
    painter = Painter(for_hens(error))
    context = HandlerContext(tmp_path, pipeline=painter)
    with pytest.raises(type(error)):
        generate_images.run(images("a fox", "a hen"), context)
    assert len(painter.requests) == 1


def test_a_batch_that_memory_is_too_small_for_is_drawn_one_by_one(tmp_path: Path) -> None:
    painter = Painter()
    draw = painter.render

    def render(request: RenderRequest, controls: RenderControls) -> Rendered:
        if len(request.items) > 1:
            raise MemoryError
        return draw(request, controls)

    painter.render = render
    context = HandlerContext(tmp_path, pipeline=painter)
    output = generate_images.run(images("a fox", "a hen"), context)
    assert all(item.HasField("image") for item in output.items)


def test_an_image_that_memory_is_too_small_for_fails_the_task(tmp_path: Path) -> None:
    context = HandlerContext(tmp_path, pipeline=Painter(for_hens(MemoryError())))
    with pytest.raises(MemoryError):
        generate_images.run(images("a fox", "a hen"), context)


def test_the_model_is_asked_what_the_input_says(tmp_path: Path) -> None:
    painter = Painter()
    asked = images("a fox", "a hen", steps=9)
    asked.width, asked.height, asked.guidance_scale = 72, 80, 0
    asked.items[0].negative_prompt, asked.items[1].seed = "hens", 99
    asked.preview_every_steps, asked.reproducibility = 3, REPRODUCIBILITY_STRICT
    context = HandlerContext(tmp_path, pipeline=painter)
    generate_images.run(asked, context)
    (request,) = painter.requests
    assert [item.seed for item in request.items] == [7, 99]
    assert [item.negative_prompt for item in request.items] == ["hens", ""]
    assert (request.width, request.height, request.steps) == (72, 80, 9)
    assert request.guidance_scale == 0
    assert request.reproducibility is Reproducibility.STRICT
    assert context.previews == [3]


def test_a_stop_is_no_failure_of_an_item(tmp_path: Path) -> None:
    context = HandlerContext(tmp_path, pipeline=Painter(), reports=3)
    with pytest.raises(TaskStopped):
        generate_images.run(images("a fox", "a hen", steps=3), context)
    assert context.stored_keys() == []
