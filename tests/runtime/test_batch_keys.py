"""Which inputs may be run together."""

import pytest
from google.protobuf.message import Message

from callsheet.runtime.batch_keys import company_of
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.tasks.v1.edit_video_pb2 import EditVideoInput
from callsheet.tasks.v1.generate_image_pb2 import (
    IMAGE_FORMAT_WEBP,
    SCHEDULER_DDIM,
    GenerateImageInput,
)
from callsheet.tasks.v1.generate_video_pb2 import GenerateVideoInput
from callsheet.tasks.v1.media_pb2 import REPRODUCIBILITY_BALANCED, REPRODUCIBILITY_STRICT
from callsheet.tasks.v1.ping_pb2 import PingInput

CATALOGUE = load_catalogue(None)
MODEL = CATALOGUE.find("")


def asked(**fields: object) -> GenerateImageInput:
    return GenerateImageInput(prompt="a fox", **fields)  # pyright: ignore[reportArgumentType]  # each test gives what fits


def key(message: Message) -> str:
    return company_of(message, CATALOGUE).batch_key


@pytest.mark.parametrize(
    "other",
    [
        GenerateImageInput(prompt="a hen"),
        asked(seed=7),
        asked(format=IMAGE_FORMAT_WEBP),
        asked(preview_every_steps=4),
        asked(reproducibility=REPRODUCIBILITY_BALANCED),
        # What is said by leaving it out
        asked(count=1),
        asked(model=MODEL.name),
        asked(width=MODEL.default_width, height=MODEL.default_height),
        asked(steps=MODEL.default_steps, guidance_scale=MODEL.default_guidance_scale),
    ],
)
def test_what_each_has_of_its_own_keeps_nobody_apart(other: GenerateImageInput) -> None:
    assert key(other) == key(asked()) != ""


@pytest.mark.parametrize(
    "other",
    [
        asked(negative_prompt="feathers"),
        asked(width=128),
        asked(steps=9),
        asked(guidance_scale=1.5),
        asked(scheduler=SCHEDULER_DDIM),
        asked(model="tiny-sd15"),
        asked(loras=[{"name": "tiny-sdxl-lora"}]),
    ],
)
def test_what_a_pass_is_one_of_does(other: GenerateImageInput) -> None:
    assert key(other) not in {key(asked()), ""}


@pytest.mark.parametrize(
    "alone",
    [
        asked(reproducibility=REPRODUCIBILITY_STRICT),
        asked(count=2),
        asked(model="no-such-model"),
        GenerateVideoInput(prompt="a fox"),
        EditVideoInput(),
        PingInput(),
    ],
)
def test_some_run_alone(alone: Message) -> None:
    assert key(alone) == ""


def test_a_model_that_is_meant_is_named() -> None:
    assert company_of(asked(), CATALOGUE).model == MODEL.name
    assert company_of(asked(model="tiny-sd15"), CATALOGUE).model == "tiny-sd15"
    assert company_of(PingInput(), CATALOGUE).model == ""


def test_words_to_avoid_share_a_pass_with_other_words_to_avoid() -> None:
    assert key(asked(negative_prompt="feathers")) == key(asked(negative_prompt="beaks"))
