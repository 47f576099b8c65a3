"""A voice, with the real library and a tiny model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from callsheet.runner.context import HandlerFailure, TaskStopped
from callsheet.runner.pipelines import Warm
from callsheet.runner.rendering import Mode, RenderItem, RenderRequest
from callsheet.runner.untyped import imported
from callsheet.runtime.families import Family
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT
from tests.support.rendering import Controls, contents, warm

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def voice(cache_dir: Path) -> Warm:
    return warm(Family.VITS, cache_dir=cache_dir)


def reading(*texts: str, seed: int = 7) -> RenderRequest:
    items = tuple(RenderItem(text, seed=seed) for text in texts)
    return RenderRequest(mode=Mode.TEXT_TO_SPEECH, items=items)


def test_a_voice_reads_each_text_aloud(voice: Warm) -> None:
    rendered = voice.render(reading("a fox", "a fox and many more hens"), Controls())
    short, long = (item.audio for item in rendered.items)
    assert short is not None
    assert long is not None
    assert (short.dtype, short.shape[0], rendered.sample_rate) == (np.float32, 1, 16_000)
    assert long.shape[1] > short.shape[1] > 0
    assert rendered.scheduler == ""
    assert voice.modes == {Mode.TEXT_TO_SPEECH}
    assert voice.size_bytes() > 0


def test_the_same_seed_reads_the_same_and_leaves_the_chance_of_others(voice: Warm) -> None:
    torch = imported("torch")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = contents(voice.render(reading("a fox"), Controls()))
    assert torch.equal(torch.get_rng_state(), before)
    assert contents(voice.render(reading("a fox", "a hen"), Controls()))[:1] == first
    assert contents(voice.render(reading("a fox", seed=8), Controls())) != first


def test_reading_stops_within_a_text(voice: Warm) -> None:
    usual = Controls()
    first = contents(voice.render(reading("a fox"), usual))
    assert usual.checks > 2
    with pytest.raises(TaskStopped):
        voice.render(reading("a fox"), Controls(stop_at=usual.checks - 1))
    assert contents(voice.render(reading("a fox"), Controls())) == first


def test_what_a_voice_cannot_read_is_refused(voice: Warm) -> None:
    unreadable = reading("\u00a0")
    drawing = replace(unreadable, mode=Mode.TEXT_TO_IMAGE)
    for request, why in ((unreadable, "can read nothing"), (drawing, "cannot do text_to_image")):
        with pytest.raises(HandlerFailure, match=why) as caught:
            voice.render(request, Controls())
        assert caught.value.reason == FAILURE_REASON_INVALID_INPUT
