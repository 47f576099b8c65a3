"""The task type generate_video, on tiny models: what comes out is decoded and looked at."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from callsheet.handlers import generate_video
from callsheet.runner.context import HandlerFailure, TaskStopped
from callsheet.runner.rendering import Mode
from callsheet.runtime.families import FAMILIES, Family
from callsheet.tasks.v1.artifact_pb2 import ARTIFACT_ROLE_POSTER, ARTIFACT_ROLE_THUMBNAIL
from callsheet.tasks.v1.generate_video_pb2 import GenerateVideoInput
from callsheet.tasks.v1.media_pb2 import (
    VIDEO_FORMAT_GIF,
    VIDEO_FORMAT_MP4,
    VIDEO_FORMAT_WEBM,
    MediaReference,
    VideoFormat,
)
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT, PROGRESS_PHASE_ENCODING
from tests.support.handling import HandlerContext, is_context
from tests.support.media_files import BLUE, RED, plain, png, seen
from tests.support.rendering import built_in, warm

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

FROM_TEXT = (Family.LTX, Family.WAN, Family.ANIMATEDIFF)
FROM_IMAGE = (Family.LTX, Family.WAN_I2V, Family.SVD)


def context_for(
    family: Family, folder: Path, cache_dir: Path, *, reports: int = 1_000_000
) -> HandlerContext:
    """Return a context whose model is the family's tiny one."""
    context = HandlerContext(folder, pipeline=warm(family, cache_dir=cache_dir), reports=reports)
    is_context(context)
    return context


@pytest.fixture
def context(tmp_path: Path, cache_dir: Path) -> HandlerContext:
    return context_for(Family.LTX, tmp_path, cache_dir)


def small(prompt: str = "a fox", *, seed: int = 7, **more: object) -> GenerateVideoInput:
    """Return an input that takes a moment."""
    asked = GenerateVideoInput(prompt=prompt, seed=seed, frames=9, steps=1)
    asked.MergeFrom(GenerateVideoInput(**more))  # pyright: ignore[reportArgumentType]  # the test's
    return asked


@pytest.mark.parametrize("family", FROM_TEXT)
def test_a_video_is_made_of_words_with_every_frame_at_its_rate(
    family: Family, tmp_path: Path, cache_dir: Path
) -> None:
    context = context_for(family, tmp_path, cache_dir)
    output = generate_video.run(small(frame_rate=12), context)
    film = seen(context.content(output.video))
    assert context.asked == [("", Mode.TEXT_TO_VIDEO)]
    assert (len(film.pictures), film.pictures[0].shape) == (9, (64, 64, 3))
    assert film.times == pytest.approx([number / 12 for number in range(9)], abs=1e-3)
    assert film.codecs == ("h264",)
    assert film.has_index_first
    video = output.video
    assert (video.width, video.height, video.frames, video.frame_rate) == (64, 64, 9, 12)
    assert video.duration.ToTimedelta().total_seconds() == pytest.approx(9 / 12, abs=1e-3)
    assert (video.media_type, video.video_codec) == ("video/mp4", "h264")
    assert (output.seed, output.model) == (7, built_in(family).name)
    assert (output.rendering.steps, output.rendering.bucket) == (1, 1)
    assert output.rendering.guidance_scale == FAMILIES[family].guidance_scale


@pytest.mark.parametrize("family", FROM_IMAGE)
def test_a_video_begins_with_the_image_that_is_given(
    family: Family, tmp_path: Path, cache_dir: Path
) -> None:
    context = context_for(family, tmp_path, cache_dir)
    words = "" if family is Family.SVD else "a fox"
    made = [
        generate_video.run(
            small(words, image=context.upload(png(plain(colour)), suffix="png")), context
        )
        for colour in (RED, BLUE)
    ]
    assert {asked[1] for asked in context.asked} == {Mode.IMAGE_TO_VIDEO}
    red, blue = (seen(context.content(output.video)) for output in made)
    assert len(red.pictures) == len(blue.pictures) == 9
    # The same words and seed, and another image: another video
    assert not np.array_equal(red.pictures[0], blue.pictures[0])
    told = json.loads(red.metadata["comment"])
    assert told["digital_source_type"].endswith("/compositeWithTrainedAlgorithmicMedia")


def test_what_the_input_leaves_open_is_the_models_own(context: HandlerContext) -> None:
    output = generate_video.run(GenerateVideoInput(prompt="a fox"), context)
    model = built_in(Family.LTX)
    assert (output.video.frames, output.video.frame_rate) == (9, model.default_frame_rate)
    assert output.rendering.steps == model.default_steps
    again = generate_video.run(GenerateVideoInput(prompt="a fox", seed=output.seed), context)
    # The seed that was chosen is told, and gives the same again
    assert context.content(again.poster) == context.content(output.poster)


def test_the_same_input_gives_the_same_video_and_another_one_another(
    context: HandlerContext,
) -> None:
    usual, again, other_words, other_seed = (
        generate_video.run(asked, context)
        for asked in (small(), small(), small("a hen"), small(seed=8))
    )
    posters = [context.content(each.poster) for each in (usual, again, other_words, other_seed)]
    assert usual.video.sha256 == again.video.sha256
    assert posters[0] == posters[1]
    assert len({*posters}) == 3


def test_a_poster_a_thumbnail_and_a_provenance_go_with_it(context: HandlerContext) -> None:
    output = generate_video.run(small(), context)
    with Image.open(io.BytesIO(context.content(output.poster))) as poster:
        assert (poster.format, poster.size) == ("WEBP", (64, 64))
    assert output.poster.role == ARTIFACT_ROLE_POSTER
    assert output.thumbnail.role == ARTIFACT_ROLE_THUMBNAIL
    manifest = json.loads(context.content(output.provenance))
    told = manifest["assertions"][-1]["data"]
    assert (told["task_type"], told["model"], told["seed"]) == ("generate_video", "tiny-ltx", 7)
    assert told["digital_source_type"].endswith("/trainedAlgorithmicMedia")
    assert told["parameters"]["prompt"] == "a fox"
    assert {"diffusers", "torch", "av"} <= told["libraries"].keys()
    assert manifest["assertions"][0]["data"]["hash"] == output.video.sha256


@pytest.mark.parametrize(
    ("format", "codec", "media_type"),
    [
        (VIDEO_FORMAT_MP4, "h264", "video/mp4"),
        (VIDEO_FORMAT_WEBM, "vp9", "video/webm"),
        (VIDEO_FORMAT_GIF, "gif", "image/gif"),
    ],
)
def test_a_video_is_encoded_as_asked(
    context: HandlerContext,
    format: VideoFormat.ValueType,  # noqa: A002 - the contract's word
    codec: str,
    media_type: str,
) -> None:
    output = generate_video.run(small(format=format, frame_rate=10), context)
    film = seen(context.content(output.video))
    assert (film.codecs, output.video.media_type) == ((codec,), media_type)
    assert (len(film.pictures), output.video.frame_rate) == (9, 10)


def test_progress_counts_the_steps_and_previews_are_asked_for(context: HandlerContext) -> None:
    generate_video.run(small(steps=2, preview_every_steps=1), context)
    assert context.reports == [
        (0, 0, "loading the model"),
        (0, 2, "step 0 of 2"),
        (1, 2, "step 1 of 2"),
        (2, 2, "step 2 of 2"),
    ]
    assert context.previews == [1]
    assert PROGRESS_PHASE_ENCODING in context.phases


def test_a_stop_between_two_steps_stores_nothing(tmp_path: Path, cache_dir: Path) -> None:
    context = context_for(Family.LTX, tmp_path, cache_dir, reports=3)
    with pytest.raises(TaskStopped):
        generate_video.run(small(steps=3), context)
    assert context.stored_keys() == []


@pytest.mark.parametrize(
    ("family", "asked", "says"),
    [
        (Family.LTX, small(frames=10), "one more than a multiple of 8"),
        (Family.LTX, small(width=72), "a multiple of 32"),
        (Family.SVD, small(), "cannot do text_to_video"),
    ],
)
def test_what_the_model_cannot_take_is_refused_with_its_reason(
    family: Family, asked: GenerateVideoInput, says: str, tmp_path: Path, cache_dir: Path
) -> None:
    context = context_for(family, tmp_path, cache_dir)
    with pytest.raises(HandlerFailure, match=says) as refused:
        generate_video.run(asked, context)
    assert refused.value.reason == FAILURE_REASON_INVALID_INPUT
    assert context.stored_keys() == []


def test_an_image_that_is_not_there_is_refused_before_a_model_is_loaded(
    context: HandlerContext,
) -> None:
    gone = MediaReference(uri=f"projects/{context.project}/uploads/{'0' * 32}.png")
    with pytest.raises(HandlerFailure) as refused:
        generate_video.run(small(image=gone), context)
    assert refused.value.reason == FAILURE_REASON_INVALID_INPUT
    assert context.asked == []
