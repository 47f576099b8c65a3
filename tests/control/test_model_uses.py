"""What an input asks of the catalogue's models, and what of it is refused."""

from pathlib import Path
from typing import Final

import pytest
from google.protobuf.message import Message

from callsheet.control.model_uses import check_models
from callsheet.ledger.catalog import task_types
from callsheet.ledger.errors import InvalidField, ModelUnknown
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.runtime.families import Mode
from callsheet.runtime.input_models import adapters_of, model_of
from callsheet.runtime.models import BUILT_INS, Catalogue
from callsheet.tasks.v1.edit_image_pb2 import IMAGE_EDIT_METHOD_INSTRUCTION, EditImageInput
from callsheet.tasks.v1.edit_video_pb2 import EditVideoInput, VideoStyle
from callsheet.tasks.v1.generate_audio_pb2 import GenerateAudioInput
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput
from callsheet.tasks.v1.generate_video_pb2 import GenerateVideoInput
from callsheet.tasks.v1.media_pb2 import ControlNetUse, LoraUse, MediaReference
from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.tasks.v1.upscale_image_pb2 import UpscaleImageInput
from callsheet.v1.task_spec_pb2 import TaskSpec

TINY: Final = load_catalogue(None)
IMAGE: Final = MediaReference(uri="projects/film/uploads/a.png")


def meant(message: Message) -> str | None:
    """Return the name of the model that a message names or means."""
    model = model_of(message, TINY)
    return None if model is None else model.name


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (GenerateImageInput(), "tiny-random"),
        (GenerateImageInput(model="tiny-flux"), "tiny-flux"),
        (EditImageInput(image=IMAGE), "tiny-random"),
        (EditImageInput(image=IMAGE, mask=IMAGE), "tiny-random"),
        (EditImageInput(image=IMAGE, method=IMAGE_EDIT_METHOD_INSTRUCTION), "tiny-flux_kontext"),
        (GenerateVideoInput(), "tiny-ltx"),
        (GenerateVideoInput(image=IMAGE, model="tiny-svd"), "tiny-svd"),
        (VideoStyle(), "tiny-wan"),
        (GenerateAudioInput(), "tiny-stable_audio"),
        (UpscaleImageInput(), None),
        (UpscaleImageInput(model="tiny-upscaler"), "tiny-upscaler"),
        (EditVideoInput(), None),
        (PingInput(), None),
    ],
)
def test_a_message_means_the_model_that_it_names_or_the_default_of_what_it_asks(
    message: Message, name: str | None
) -> None:
    assert meant(message) == name
    check_models(message, TINY, path="spec.it")


def lora(name: str = "tiny-sdxl-lora", *, weight: float | None = None) -> LoraUse:
    return LoraUse(name=name, weight=weight)


def controlnet(name: str = "tiny-sdxl-controlnet") -> ControlNetUse:
    return ControlNetUse(name=name, image=IMAGE)


def test_what_changes_a_model_is_found_with_it() -> None:
    message = GenerateImageInput(loras=[lora()], controlnet=controlnet())
    found = adapters_of(message, TINY, model=TINY.find(""))
    assert [each.name for each in found] == ["tiny-sdxl-lora", "tiny-sdxl-controlnet"]
    check_models(message, TINY, path="spec.generate_image")


@pytest.mark.parametrize(
    ("message", "field", "problem"),
    [
        (GenerateImageInput(model="tiny-wan"), "model", "cannot do text_to_image"),
        (GenerateVideoInput(model="tiny-svd"), "model", "cannot do text_to_video"),
        (GenerateVideoInput(model="tiny-wan", image=IMAGE), "model", "cannot do image_to_video"),
        (EditImageInput(model="tiny-flux_kontext"), "model", "cannot do image_to_image"),
        (EditVideoInput(style=VideoStyle(model="tiny-ltx")), "style.model", "these can: tiny-anim"),
        (UpscaleImageInput(model="tiny-random"), "model", "these can: tiny-upscaler"),
        (GenerateImageInput(model="tiny-flux", width=72), "width", "a multiple of 16; 72 is not"),
        (GenerateVideoInput(height=72), "height", "that is a multiple of 32; 72 is not"),
        (GenerateVideoInput(frames=16), "frames", "one more than a multiple of 8; 16 is not"),
        (
            GenerateImageInput(model="tiny-sd15", loras=[lora("tiny-sd15-lora"), lora()]),
            "loras[1].name",
            "is for models of the family sdxl; tiny-sd15 is of sd15",
        ),
        (
            GenerateImageInput(model="tiny-sd15", controlnet=controlnet()),
            "controlnet.name",
            "is for models of the family sdxl",
        ),
        (GenerateImageInput(loras=[lora(), lora()]), "loras[1].name", "is named twice"),
    ],
)
def test_what_a_model_cannot_do_is_refused_at_its_field(
    message: Message, field: str, problem: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        check_models(message, TINY, path="spec.it")
    ((path, told),) = caught.value.violations
    assert path == f"spec.it.{field}"
    assert problem in told


def test_a_sound_that_is_too_long_is_refused() -> None:
    message = GenerateAudioInput()
    message.duration.FromSeconds(9)
    with pytest.raises(InvalidField, match="duration of at most 8 s"):
        check_models(message, TINY, path="spec.generate_audio")


@pytest.mark.parametrize(
    ("message", "field", "what", "name"),
    [
        (GenerateImageInput(model="nope"), "model", "model", "nope"),
        (EditVideoInput(style=VideoStyle(model="nope")), "style.model", "model", "nope"),
        (GenerateImageInput(loras=[lora(), lora("no")]), "loras[1].name", "LoRA", "no"),
        (GenerateImageInput(controlnet=controlnet("no")), "controlnet.name", "ControlNet", "no"),
    ],
)
def test_a_name_that_is_not_in_the_catalogue_is_refused_with_the_known_ones(
    message: Message, field: str, what: str, name: str
) -> None:
    with pytest.raises(ModelUnknown, match=f"there is no {what} '{name}'; known are ") as caught:
        check_models(message, TINY, path="spec.it")
    assert caught.value.field == f"spec.it.{field}"
    assert (caught.value.what, caught.value.model) == (what, name)
    assert caught.value.known == tuple(sorted(caught.value.known))


def bounded(tmp_path: Path) -> Catalogue:
    """Return a catalogue of one LoRA that bears on models a little only."""
    file = tmp_path / "models.toml"
    file.write_text(
        '[models.film]\npath = "film"\nfamily = "sdxl"\n'
        '[loras.grain]\npath = "grain"\nfamily = "sdxl"\nmost_weight = 0.5\n'
    )
    return load_catalogue(file)


@pytest.mark.parametrize("weight", [None, 0.75])
def test_a_lora_bears_within_the_weights_of_the_catalogue(
    tmp_path: Path, weight: float | None
) -> None:
    """Unset, its weight is 1."""
    catalogue = bounded(tmp_path)
    strong = GenerateImageInput(loras=[lora("grain", weight=weight)])
    with pytest.raises(InvalidField, match=r"takes a weight from -2 to 0\.5") as caught:
        check_models(strong, catalogue, path="spec.it")
    assert caught.value.violations[0][0] == "spec.it.loras[0].weight"
    fits = GenerateImageInput(loras=[lora("grain", weight=0.5)])
    check_models(fits, catalogue, path="spec.it")


@pytest.mark.parametrize("name", task_types())
def test_every_task_type_names_modes_that_there_are(name: str) -> None:
    """And a built-in model for each, so that it runs without a catalogue."""
    message: Message = getattr(TaskSpec(), name)
    model = model_of(message, TINY)
    assert model is None or model.name in BUILT_INS
    assert model is None or model.modes <= set(Mode)
