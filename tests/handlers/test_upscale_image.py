"""The task type upscale_image: what comes out is decoded and looked at."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from callsheet.handlers import upscale_image
from callsheet.media.limits import MediaLimits
from callsheet.runner.context import HandlerFailure
from callsheet.runner.rendering import (
    LoadedPipeline,
    Mode,
    RenderControls,
    Rendered,
    RenderedItem,
    RenderRequest,
    Reproducibility,
)
from callsheet.runtime.families import Family
from callsheet.runtime.models import built_in_model
from callsheet.tasks.v1.artifact_pb2 import ARTIFACT_ROLE_THUMBNAIL
from callsheet.tasks.v1.generate_image_pb2 import IMAGE_FORMAT_JPEG
from callsheet.tasks.v1.media_pb2 import REPRODUCIBILITY_STRICT, MediaReference
from callsheet.tasks.v1.upscale_image_pb2 import UpscaleImageInput
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT
from tests.support.handling import HandlerContext
from tests.support.media_files import BLUE, RED, Pixels, colour_of, is_near, plain, png


@pytest.fixture
def context(tmp_path: Path) -> HandlerContext:
    return HandlerContext(tmp_path)


def two_halves() -> Pixels:
    """Return a picture whose left half is red, and the right one blue."""
    return np.concatenate([plain(RED, width=10, height=16), plain(BLUE, width=10, height=16)], 1)


@pytest.fixture
def halves(context: HandlerContext) -> MediaReference:
    return context.upload(png(two_halves()), suffix="png")


@pytest.mark.parametrize(("asked", "factor"), [(0, 2), (3, 3)])
def test_without_a_model_an_image_is_resampled(
    context: HandlerContext, halves: MediaReference, asked: int, factor: int
) -> None:
    input = UpscaleImageInput(image=halves)
    if asked:
        input.factor = asked
    output = upscale_image.run(input, context)
    with Image.open(io.BytesIO(context.content(output.image))) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape == (16 * factor, 20 * factor, 3)
    assert is_near(colour_of(pixels[:, : 8 * factor]), RED)
    assert is_near(colour_of(pixels[:, 12 * factor :]), BLUE)
    assert (output.image.width, output.image.height) == (20 * factor, 16 * factor)
    assert (output.factor, output.model, output.HasField("seed")) == (factor, "", False)
    assert output.thumbnail.role == ARTIFACT_ROLE_THUMBNAIL
    manifest = json.loads(context.content(output.provenance))
    told = manifest["assertions"][-1]["data"]
    assert told["digital_source_type"].endswith("/algorithmicallyEnhanced")


def test_a_result_beyond_the_limits_is_refused(tmp_path: Path) -> None:
    context = HandlerContext(tmp_path, limits=MediaLimits(most_pixels=4096))
    image = context.upload(png(two_halves()), suffix="png")
    with pytest.raises(HandlerFailure, match="160 x 128 pixels are more than the 4096") as refused:
        upscale_image.run(UpscaleImageInput(image=image, factor=8), context)
    assert refused.value.reason == FAILURE_REASON_INVALID_INPUT
    assert context.stored_keys() == []


class Repeater:
    """A model that makes four pixels wide and high of each."""

    def __init__(self) -> None:
        self.model = built_in_model(Family.UPSCALER)
        self.modes = frozenset({Mode.UPSCALE})
        self.requests: list[RenderRequest] = []

    def render(self, request: RenderRequest, controls: RenderControls) -> Rendered:
        """Repeat the pixels."""
        self.requests.append(request)
        image = request.items[0].image
        assert image is not None
        large = image.repeat(4, axis=0).repeat(4, axis=1)
        return Rendered((RenderedItem(frames=large[None], bucket=2),), scheduler="Repeating")


def is_pipeline(pipeline: LoadedPipeline) -> LoadedPipeline:
    """Let the type checker see that the test's pipeline is one."""
    return pipeline


def test_a_model_draws_it_from_what_was_asked(tmp_path: Path) -> None:
    repeater = Repeater()
    context = HandlerContext(tmp_path, pipeline=is_pipeline(repeater))
    output = upscale_image.run(
        UpscaleImageInput(
            image=context.upload(png(two_halves()), suffix="png"),
            model="tiny-upscaler",
            prompt="two halves",
            seed=3,
            steps=5,
            format=IMAGE_FORMAT_JPEG,
            reproducibility=REPRODUCIBILITY_STRICT,
        ),
        context,
    )
    request = repeater.requests[0]
    assert context.asked == [("tiny-upscaler", Mode.UPSCALE)]
    assert (request.items[0].prompt, request.items[0].seed, request.steps) == ("two halves", 3, 5)
    assert request.reproducibility is Reproducibility.STRICT
    with Image.open(io.BytesIO(context.content(output.image))) as image:
        assert (image.format, image.size) == ("JPEG", (80, 64))
    assert (output.model, output.seed, output.factor) == ("tiny-upscaler", 3, 4)
    assert (output.rendering.bucket, output.rendering.scheduler) == (2, "Repeating")


def test_a_model_takes_no_factor_but_its_own(tmp_path: Path) -> None:
    context = HandlerContext(tmp_path, pipeline=Repeater())
    image = context.upload(png(two_halves()), suffix="png")
    with pytest.raises(HandlerFailure, match="4 times larger"):
        upscale_image.run(UpscaleImageInput(image=image, model="tiny-upscaler", factor=2), context)


def test_a_video_is_no_image(context: HandlerContext) -> None:
    reference = context.upload(b"\0\0\0\x18ftypmp42" + bytes(64), suffix="mp4")
    with pytest.raises(HandlerFailure, match="is a video"):
        upscale_image.run(UpscaleImageInput(image=reference), context)
