"""What a rendering follows from, and what it does not."""

from dataclasses import replace

import numpy as np
import pytest

from callsheet.runner.rendering import (
    ControlNetUse,
    LoraUse,
    Mode,
    RenderItem,
    RenderRequest,
    Reproducibility,
)
from callsheet.runner.request_digest import Ground, digest_of
from callsheet.tasks.v1.generate_image_pb2 import SCHEDULER_DDIM

BLACK = np.zeros((2, 2, 3), np.uint8)
ITEM = RenderItem("a fox", seed=7, image=BLACK)
REQUEST = RenderRequest(mode=Mode.IMAGE_TO_IMAGE, items=(ITEM,), width=64, height=64, steps=4)
GROUND = Ground(
    weights=("film@1",),
    pipeline="FilmPipeline",
    scheduler="Euler",
    scheduler_config={"order": 2, "_use_default_values": ["a", "b"]},
    device="cuda",
    dtype="torch.bfloat16",
    versions={"torch": "1"},
)


def test_the_same_has_the_same_digest_in_every_process() -> None:
    same = replace(REQUEST, items=(replace(ITEM, image=BLACK.copy()),))
    assert digest_of(same, GROUND) == digest_of(REQUEST, GROUND)
    # The library lists there, in no order, what a file of settings left out
    unsorted = {"_use_default_values": ["b", "a"], "order": 2}
    assert digest_of(REQUEST, replace(GROUND, scheduler_config=unsorted)) == digest_of(
        REQUEST, GROUND
    )


@pytest.mark.parametrize(
    "other",
    [
        {"mode": Mode.INSTRUCT},
        {"items": (ITEM, ITEM)},
        {"items": (replace(ITEM, prompt="a hen"),)},
        {"items": (replace(ITEM, negative_prompt="a hen"),)},
        {"items": (replace(ITEM, seed=8),)},
        {"items": (replace(ITEM, image=BLACK + 1),)},
        {"items": (replace(ITEM, image=BLACK.reshape(1, 4, 3)),)},
        {"items": (replace(ITEM, image=None, control=BLACK),)},
        {"width": 72},
        {"height": 72},
        {"steps": 5},
        {"guidance_scale": 1.5},
        {"strength": 0.5},
        {"frames": 9},
        {"frame_rate": 8.0},
        {"scheduler": SCHEDULER_DDIM},
        {"loras": (LoraUse("a"),)},
        {"controlnet": ControlNetUse("a")},
        {"reproducibility": Reproducibility.STRICT},
    ],
)
def test_another_request_has_another_digest(other: dict[str, object]) -> None:
    assert digest_of(replace(REQUEST, **other), GROUND) != digest_of(REQUEST, GROUND)


@pytest.mark.parametrize(
    "other",
    [
        {"weights": ("film@2",)},
        {"weights": ("film@1", "a LoRA")},
        {"pipeline": "OtherPipeline"},
        {"scheduler": "DDIM"},
        {"scheduler_config": {"order": 3}},
        {"device": "cpu"},
        {"dtype": "torch.float32"},
        {"versions": {"torch": "2"}},
        {"tuning": {"compiled": "1 of 64x64"}},
    ],
)
def test_another_ground_has_another_digest(other: dict[str, object]) -> None:
    assert digest_of(REQUEST, replace(GROUND, **other)) != digest_of(REQUEST, GROUND)
