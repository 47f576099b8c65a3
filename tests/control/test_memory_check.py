"""Submissions that fit no worker's device are refused at once, with what would fit."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from google.protobuf.message import Message
from grpc import StatusCode

from callsheet.control.convert import to_command
from callsheet.control.memory_check import MemoryCheck
from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.ledger.catalog import task_types
from callsheet.ledger.known_workers import KnownWorkers
from callsheet.runtime.families import Family
from callsheet.runtime.input_shapes import shapes_in
from callsheet.runtime.memory_needs import RESERVE_BYTES
from callsheet.runtime.models import Catalogue, Model, built_in_model
from callsheet.tasks.v1.edit_image_pb2 import EditImageInput
from callsheet.tasks.v1.edit_video_pb2 import EditVideoInput, VideoStyle
from callsheet.tasks.v1.generate_audio_pb2 import GenerateAudioInput
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput
from callsheet.tasks.v1.generate_video_pb2 import GenerateVideoInput
from callsheet.tasks.v1.media_pb2 import REPRODUCIBILITY_STRICT, MediaReference
from callsheet.tasks.v1.upscale_image_pb2 import UpscaleImageInput
from callsheet.v1.operations_service_pb2 import Worker
from callsheet.v1.task_service_pb2 import SubmitTaskRequest, SubmitTasksRequest
from tests.support.alive import GB, gpu_worker, heard
from tests.support.controls import image_request, refusal, running_plane
from tests.support.ledgers import OWNER, Cell, memory_cell
from tests.support.weights import save_weights

IMAGE: Final = MediaReference(uri="projects/default/uploads/a.png")


def real(name: str, family: Family, **more: object) -> Model:
    """Return a model of real sizes, whose files are not here."""
    sizes = built_in_model(family).traits
    return replace(
        built_in_model(family),
        name=name,
        hub_id=f"someone/{name}",
        default_width=sizes.width,
        default_height=sizes.height,
        default_frames=sizes.frames,
        **more,
    )


FILM: Final = real("film", Family.SDXL)
REEL: Final = real("reel", Family.WAN)
MODELS: Final = Catalogue(models={"film": FILM, "reel": REEL}, default="film")


def image(**fields: object) -> SubmitTaskRequest:
    """Return a submission of an image by the default model."""
    return image_request(**fields)


def large(side: int = 2048) -> SubmitTaskRequest:
    return image(width=side, height=side)


def check(cell: Cell, cache_dir: Path, models: Catalogue = MODELS) -> MemoryCheck:
    return MemoryCheck(task_types(), models, KnownWorkers(cell.registry), cache_dir=cache_dir)


@pytest.mark.parametrize(
    "workers",
    [
        [],
        [gpu_worker("untold")],
        [gpu_worker("small", 4), gpu_worker("untold")],
        [gpu_worker("small", 4), gpu_worker("large", 24)],
        [gpu_worker("small", 4), gpu_worker("paused", 24, paused=True)],
        [gpu_worker("elsewhere", 4, queue="media_processing")],
        [gpu_worker("leaving", 4, draining=True)],
    ],
)
async def test_what_some_worker_may_run_is_not_refused(
    tmp_path: Path, workers: Sequence[Worker]
) -> None:
    cell = memory_cell()
    await heard(cell.registry, *workers)
    assert await check(cell, tmp_path).refusal(large()) is None


async def test_what_fits_nowhere_is_refused_with_what_would_fit_on_the_largest_device(
    tmp_path: Path,
) -> None:
    cell = memory_cell()
    await heard(cell.registry, gpu_worker("small", 3), gpu_worker("larger", 4))
    refused = await check(cell, tmp_path).refusal(large())
    assert refused is not None
    assert refused.fields == ("spec.generate_image.width", "spec.generate_image.height")
    assert str(refused) == (
        "spec.generate_image.width: model film needs 5.7 GB at the least for 2048x2048, and no"
        " worker's device has more than 4.0 GB; 800x800 would fit"
    )
    assert await check(cell, tmp_path).refusal(large(800)) is None


async def test_a_worker_that_came_a_moment_ago_counts(tmp_path: Path) -> None:
    cell = memory_cell()
    await heard(cell.registry, gpu_worker("small", 4))
    checking = check(cell, tmp_path)
    assert await checking.refusal(large()) is not None
    await heard(cell.registry, gpu_worker("large", 24))
    assert await checking.refusal(large()) is None


async def test_while_the_registry_cannot_be_read_nothing_is_refused(tmp_path: Path) -> None:
    cell = memory_cell()
    await heard(cell.registry, gpu_worker("small", 4))
    await cell.registry.heartbeat("odd", b"\x08\x63")  # of a version nobody knows
    assert await check(cell, tmp_path).refusal(large()) is None


async def test_a_result_that_must_be_exact_cannot_be_decoded_in_tiles(tmp_path: Path) -> None:
    cell = memory_cell()
    await heard(cell.registry, gpu_worker("one", 8))
    checking = check(cell, tmp_path)
    assert await checking.refusal(large()) is None
    request = large()
    request.spec.generate_image.reproducibility = REPRODUCIBILITY_STRICT
    assert await checking.refusal(request) is not None


async def test_of_a_video_the_number_of_frames_is_at_fault_first(tmp_path: Path) -> None:
    """What the input leaves out is what the model makes by default: 81 frames of 832x480."""
    cell = memory_cell()
    await heard(cell.registry, gpu_worker("one", 6))
    request = SubmitTaskRequest()
    request.spec.generate_video.model = "reel"
    refused = await check(cell, tmp_path).refusal(request)
    assert refused is not None
    assert refused.asked == "81 frames of 832x480"
    assert refused.fields == ("spec.generate_video.frames",)
    assert refused.fitting.endswith("frames of 832x480")


async def test_the_weights_of_a_model_whose_files_are_here_count(tmp_path: Path) -> None:
    """And where nothing of the model fits, the model is at fault."""
    cell = memory_cell()
    await heard(cell.registry, gpu_worker("one", (RESERVE_BYTES + 10**6) / GB))
    folder = tmp_path / "film"
    save_weights(folder / "unet" / "diffusion_pytorch_model.safetensors", weights=600_000)
    (folder / "unet" / "config.json").write_text("{}")
    (folder / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    here = replace(FILM, hub_id=None, path=folder)
    models = Catalogue(models={"film": here}, default="film")
    refused = await check(cell, tmp_path, models).refusal(image(width=64, height=64))
    assert refused is not None
    assert refused.fields == ("spec.generate_image.model",)
    assert str(refused).endswith("nothing it makes would fit")


@pytest.mark.parametrize(
    ("message", "made"),
    [
        (GenerateImageInput(), "1024x1024"),
        (GenerateImageInput(width=512), "512x1024"),
        (GenerateVideoInput(model="reel", frames=5), "832x480"),
        (EditImageInput(image=IMAGE), None),
        (EditImageInput(image=IMAGE, width=640, height=512), "640x512"),
        (EditVideoInput(style=VideoStyle(model="reel")), None),
        (UpscaleImageInput(), None),
    ],
)
def test_a_shape_follows_from_the_input_or_from_a_file(message: Message, made: str | None) -> None:
    found = list(shapes_in(message, MODELS, path="spec.it"))
    assert [f"{each.shape.width}x{each.shape.height}" for each in found] == [made][: bool(made)]


def test_sound_is_as_long_as_the_input_or_the_model_says() -> None:
    sound = built_in_model(Family.STABLE_AUDIO)
    models = Catalogue(models={sound.name: sound}, default=sound.name)
    given = GenerateAudioInput()
    given.duration.FromSeconds(3)
    for message, seconds in ((given, 3), (GenerateAudioInput(), 1)):
        (found,) = shapes_in(message, models, path="spec.it")
        assert found.shape.duration.total_seconds() == seconds


async def test_over_the_wire_it_is_refused_before_anything_is_written(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    """In a batch, each on its own; and who was accepted before is answered all the same."""
    file = tmp_path / "models.toml"
    file.write_text('[models.film]\nhub = "someone/film"\nrevision = "main"\nfamily = "sdxl"\n')
    async with running_plane(
        valkey_server.url, cell, models_file=file, cache_dir=tmp_path
    ) as plane:
        client = plane.client
        accepted = large()
        accepted.spec.generate_image.model = "film"
        accepted.request_id = "before"
        task = await plane.cell.ledger.submit(OWNER, to_command(accepted, trace_parent=""))
        await heard(plane.cell.registry, gpu_worker("small", 4))
        request = SubmitTaskRequest(spec=accepted.spec)
        before = await plane.written()
        told = await refusal(client.submit(request))
        assert await plane.written() == before
        assert (told.code, told.reason) == (StatusCode.FAILED_PRECONDITION, "MEMORY_INSUFFICIENT")
        assert told.fields == ("spec.generate_image.width", "spec.generate_image.height")
        assert "800x800 would fit" in told.message
        assert (told.metadata["fitting"], told.metadata["most"]) == ("800x800", "4.0 GB")
        assert await client.submit(accepted) == task.id
        small = image(model="film", width=512, height=512)
        answer = await client.tasks.SubmitTasks(
            SubmitTasksRequest(requests=[request, small]), metadata=client.metadata
        )
        assert [each.WhichOneof("result") for each in answer.results] == ["refusal", "task"]
        assert answer.results[0].refusal.reason == "MEMORY_INSUFFICIENT"
