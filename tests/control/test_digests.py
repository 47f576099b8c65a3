"""What two submissions must have in common to be equal: all that their output follows from."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.message import Message

from callsheet.control.digests import SpecDigests
from callsheet.ledger.acceptance import ReuseWish
from callsheet.ledger.catalog import task_types
from callsheet.ledger.model import PinnedModel
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.runtime.families import Family, Mode
from callsheet.runtime.models import BUILT_IN, BUILT_IN_LORAS, Catalogue, Lora, Model
from callsheet.tasks.v1 import options_pb2
from callsheet.tasks.v1.generate_audio_pb2 import GenerateAudioInput
from callsheet.tasks.v1.generate_image_pb2 import (
    IMAGE_FORMAT_PNG,
    IMAGE_FORMAT_WEBP,
    SCHEDULER_DDIM,
    GenerateImageInput,
)
from callsheet.tasks.v1.generate_video_pb2 import GenerateVideoInput
from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1.task_service_pb2 import (
    REUSE_MODE_RESULT,
    REUSE_MODE_RESULT_OR_JOIN,
    SubmitTaskRequest,
)
from callsheet.v1.task_spec_pb2 import TaskSpec

DIGESTS: Final = SpecDigests(task_types(), load_catalogue(None))
COMMIT: Final = "462165984030d82259a11f4367a4eed129e94a7b"


def spec(**fields: object) -> TaskSpec:
    wanted = GenerateImageInput(prompt="a fox", seed=7)
    for name, value in fields.items():
        setattr(wanted, name, value)
    return TaskSpec(generate_image=wanted)


def hub(revision: str, *, steps: int = 30) -> Catalogue:
    """Return a catalogue of one model of the hub."""
    model = Model(
        name="sdxl",
        path=None,
        hub_id="someone/sdxl",
        revision=revision,
        family=Family.SDXL,
        default_width=1024,
        default_height=1024,
        default_steps=steps,
        default_guidance_scale=5.0,
    )
    return Catalogue(MappingProxyType({"sdxl": model}), default="sdxl")


def digest_by(catalogue: Catalogue, wanted: TaskSpec) -> str | None:
    return SpecDigests(task_types(), catalogue).digest(wanted)


def test_the_digest_is_the_same_in_every_version() -> None:
    """When this fails, equal submissions are no longer found: raise digests.VERSION with it."""
    assert DIGESTS.digest(spec()) == GOLDEN


GOLDEN: Final = "76f466c7199f5e2bc0ab8e2727339c7a4829f3855858924b87ce5b700a535c58"


@pytest.mark.parametrize(
    "same",
    [
        {"model": BUILT_IN.name},
        {"width": BUILT_IN.default_width, "height": BUILT_IN.default_height},
        {"steps": BUILT_IN.default_steps},
        {"guidance_scale": BUILT_IN.default_guidance_scale},
        {"count": 1},
        {"format": IMAGE_FORMAT_PNG},
        {"negative_prompt": ""},
    ],
)
def test_a_default_that_is_written_out_makes_no_difference(same: Mapping[str, object]) -> None:
    assert DIGESTS.digest(spec(**same)) == DIGESTS.digest(spec())


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "a hen"},
        {"seed": 8},
        {"seed": 0},
        {"width": 128},
        {"guidance_scale": 0.0},
        {"count": 2},
        {"format": IMAGE_FORMAT_WEBP},
        {"scheduler": SCHEDULER_DDIM},
        {"negative_prompt": "rain"},
    ],
)
def test_whatever_else_is_asked_for_is_another_digest(other: Mapping[str, object]) -> None:
    digest = DIGESTS.digest(spec(**other))
    assert digest is not None
    assert digest != DIGESTS.digest(spec())


def test_what_is_asked_for_is_left_as_it_was() -> None:
    wanted = spec()
    DIGESTS.digest(wanted)
    assert wanted == spec()


def test_what_only_newer_clients_know_is_another_digest() -> None:
    newer = spec().SerializeToString()
    wanted = TaskSpec.FromString(newer)
    wanted.generate_image.MergeFromString(b"\xa0\x3f\x01")  # a field 1012 that is not known here
    assert DIGESTS.digest(wanted) != DIGESTS.digest(spec())


def test_without_a_seed_nothing_is_equal() -> None:
    assert DIGESTS.digest(TaskSpec(generate_image=GenerateImageInput(prompt="a fox"))) is None


def test_a_type_without_a_cache_ttl_is_never_equal() -> None:
    assert DIGESTS.digest(TaskSpec(ping=PingInput(echo="a"))) is None


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:8]])
def test_a_model_that_may_change_is_never_equal(revision: str) -> None:
    assert digest_by(hub(revision), spec()) is None


def test_a_model_in_a_folder_may_change(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(
        '[models.own]\npath = "own"\nfamily = "sdxl"\nwidth = 64\nheight = 64\n'
        "steps = 8\nguidance_scale = 5"
    )
    assert digest_by(load_catalogue(file), spec()) is None


def test_another_revision_of_the_model_is_another_digest() -> None:
    ours, theirs = (digest_by(hub(revision), spec()) for revision in (COMMIT, COMMIT[::-1]))
    assert None not in {ours, theirs}
    assert ours != theirs


def test_another_default_of_the_model_is_another_digest() -> None:
    before, after = (digest_by(hub(COMMIT, steps=steps), spec()) for steps in (30, 20))
    assert before != after
    assert digest_by(hub(COMMIT, steps=20), spec(steps=30)) == before


def test_how_often_a_preview_is_shown_has_no_bearing() -> None:
    assert DIGESTS.digest(spec(preview_every_steps=3)) == DIGESTS.digest(spec())


def with_lora(name: str) -> TaskSpec:
    wanted = spec()
    wanted.generate_image.loras.add(name=name)
    return wanted


def test_a_lora_makes_another_digest() -> None:
    digest = DIGESTS.digest(with_lora("tiny-sdxl-lora"))
    assert digest is not None
    assert digest != DIGESTS.digest(spec())


def catalogue_with(lora: Lora) -> Catalogue:
    """Return a catalogue of the built-in image model and one LoRA."""
    return Catalogue({BUILT_IN.name: BUILT_IN}, default=BUILT_IN.name, loras={lora.name: lora})


def test_the_revision_of_a_lora_is_a_part_of_the_digest() -> None:
    tiny = BUILT_IN_LORAS["tiny-sdxl-lora"]
    far = replace(tiny, hub_id="someone/grain")
    digests = {
        digest_by(catalogue_with(lora), with_lora(lora.name))
        for lora in (tiny, replace(far, revision=COMMIT), replace(far, revision=COMMIT[::-1]))
    }
    assert len(digests) == 3
    assert None not in digests
    branch = replace(far, revision="main")
    assert digest_by(catalogue_with(branch), with_lora(branch.name)) is None


def test_a_video_from_an_image_has_the_defaults_of_the_model_that_it_means() -> None:
    """Its model is that of image_to_video, which the image alone says."""
    wanted = GenerateVideoInput(prompt="a fox", seed=7)
    wanted.image.uri = "projects/film/uploads/a.png"
    model = load_catalogue(None).find("", mode=Mode.IMAGE_TO_VIDEO)
    written_out = GenerateVideoInput(
        model=model.name,
        width=model.default_width,
        height=model.default_height,
        frames=model.default_frames,
        frame_rate=model.default_frame_rate,
        steps=model.default_steps,
        guidance_scale=model.default_guidance_scale,
    )
    written_out.MergeFrom(wanted)
    digest = DIGESTS.digest(TaskSpec(generate_video=wanted))
    assert digest is not None
    assert DIGESTS.digest(TaskSpec(generate_video=written_out)) == digest


def test_a_sound_has_the_duration_of_its_model() -> None:
    wanted = GenerateAudioInput(prompt="rain", seed=7)
    written_out = GenerateAudioInput(prompt="rain", seed=7)
    written_out.duration.FromTimedelta(
        load_catalogue(None).find("tiny-stable_audio").default_duration
    )
    digest = DIGESTS.digest(TaskSpec(generate_audio=wanted))
    assert digest is not None
    assert DIGESTS.digest(TaskSpec(generate_audio=written_out)) == digest


def test_a_submission_wishes_only_what_it_says() -> None:
    request = SubmitTaskRequest(spec=spec())
    assert DIGESTS.wish(request) is None
    request.reuse.SetInParent()
    assert DIGESTS.wish(request) is None
    digest = DIGESTS.digest(spec()) or ""
    request.reuse.mode = REUSE_MODE_RESULT
    models = (PinnedModel("model", BUILT_IN.name),)
    assert DIGESTS.wish(request) == ReuseWish(digest, models=models)
    request.reuse.mode = REUSE_MODE_RESULT_OR_JOIN
    request.reuse.max_age.FromSeconds(60)
    wish = DIGESTS.wish(request)
    assert wish is not None
    assert wish.joins
    assert wish.max_age is not None
    assert wish.max_age.total_seconds() == 60


def test_a_wish_pins_the_model_by_its_revision() -> None:
    request = SubmitTaskRequest(spec=spec())
    request.reuse.mode = REUSE_MODE_RESULT
    wish = SpecDigests(task_types(), hub(COMMIT)).wish(request)
    assert wish is not None
    assert wish.models == (PinnedModel("model", "sdxl", COMMIT),)


@pytest.mark.parametrize("name", [name for name, kind in task_types().items() if kind.cache_ttl])
def test_the_output_of_a_type_that_is_cached_tells_which_models_ran(name: str) -> None:
    kind = task_types()[name]
    output = descriptor_pool.Default().FindMessageTypeByName(kind.output_type)
    told = {field.name for field in output.fields if field.type == field.TYPE_STRING}
    for field in kind.model_fields:
        assert {field, f"{field}_revision"} <= told


@pytest.mark.parametrize("name", [name for name, kind in task_types().items() if kind.cache_ttl])
def test_a_type_that_is_cached_marks_its_chance_and_its_models(name: str) -> None:
    """A type without chance has no seed; one that draws numbers must have marked where from."""
    wanted: Message = getattr(TaskSpec(), name)
    fields = wanted.DESCRIPTOR.fields
    seeds = [f for f in fields if f.GetOptions().Extensions[options_pb2.seed]]
    assert [field.name for field in seeds] == [f.name for f in fields if f.name == "seed"]
    assert all(field.has_presence for field in seeds)
