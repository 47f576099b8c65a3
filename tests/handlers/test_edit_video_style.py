"""The style of edit_video: a film that a model draws anew."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from callsheet.handlers import edit_video
from callsheet.runner.context import HandlerFailure
from callsheet.runner.rendering import (
    LoadedPipeline,
    Mode,
    RenderControls,
    Rendered,
    RenderedItem,
    RenderRequest,
)
from callsheet.runtime.families import Family
from callsheet.runtime.models import Model, built_in_model
from callsheet.tasks.v1.edit_video_pb2 import EditVideoInput, VideoClip, VideoOverlay, VideoStyle
from tests.support.handling import HandlerContext
from tests.support.media_files import (
    RED,
    colour_of,
    is_near,
    plain,
    png,
    seconds,
    seen,
    tone,
    video_file,
)


class Negative:
    """A pipeline that turns every colour round, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.model: Model = built_in_model(Family.WAN)
        self.modes = frozenset({Mode.VIDEO_TO_VIDEO})
        self.requests: list[RenderRequest] = []

    def render(self, request: RenderRequest, controls: RenderControls) -> Rendered:
        """Return the negative of the video."""
        self.requests.append(request)
        video = request.items[0].video
        assert video is not None
        item = RenderedItem(frames=np.asarray(255 - video, dtype=np.uint8))
        return Rendered((item,), scheduler="Turning", versions={"turner": "1.0"})


def is_pipeline(pipeline: LoadedPipeline) -> LoadedPipeline:
    """Let the type checker see that the test's pipeline is one."""
    return pipeline


@pytest.fixture
def negative() -> Negative:
    pipeline = Negative()
    is_pipeline(pipeline)
    return pipeline


def test_a_style_is_drawn_by_a_model_under_the_overlays(negative: Negative, tmp_path: Path) -> None:
    context = HandlerContext(tmp_path, pipeline=negative)
    content = video_file([plain(RED, width=40, height=24)] * 4, tmp_path, waveform=tone(440))
    logo = png(np.full((8, 8, 4), 255, np.uint8))
    output = edit_video.run(
        EditVideoInput(
            clips=[VideoClip(video=context.upload(content, suffix="mp4"), end=seconds(0.4))],
            overlays=[VideoOverlay(image=context.upload(logo, suffix="png"))],
            style=VideoStyle(prompt="as a negative", seed=7, steps=3, model="tiny-wan"),
        ),
        context,
    )
    # Then the model was given sizes that it takes, and as many pictures
    request = negative.requests[0]
    assert context.asked == [("tiny-wan", Mode.VIDEO_TO_VIDEO)]
    assert (request.width, request.height, request.frames) == (48, 32, 5)
    assert (request.items[0].prompt, request.items[0].seed) == ("as a negative", 7)
    assert (request.steps, request.strength) == (3, pytest.approx(0.6))
    # And the film has its own size and length, with the style under the overlay, and its sound
    film = seen(context.content(output.video))
    assert len(film.pictures) == 4
    turned = (255 - RED[0], 255 - RED[1], 255 - RED[2])
    assert film.pictures[0].shape == (24, 40, 3)
    assert is_near(colour_of(film.pictures[0][12:, 20:]), turned)
    assert is_near(colour_of(film.pictures[0][1:7, 1:7]), (255, 255, 255))
    assert film.codecs == ("h264", "aac")
    # And the output says what drew it
    assert (output.model, output.seed) == ("tiny-wan", 7)
    assert (output.rendering.scheduler, output.rendering.steps) == ("Turning", 3)
    told = json.loads(film.metadata["comment"])
    assert (told["model"], told["seed"], told["libraries"]["turner"]) == ("tiny-wan", 7, "1.0")


def test_a_film_with_more_pictures_than_a_style_takes_is_refused(
    negative: Negative, tmp_path: Path
) -> None:
    negative.model = replace(negative.model, most_frames=5)
    context = HandlerContext(tmp_path, pipeline=negative)
    clip = VideoClip(video=context.upload(video_file([plain(RED)] * 10, tmp_path), suffix="mp4"))
    asked = EditVideoInput(clips=[clip], style=VideoStyle(prompt="anew"))
    with pytest.raises(HandlerFailure, match="takes at most 5 pictures"):
        edit_video.run(asked, context)
    assert negative.requests == []
