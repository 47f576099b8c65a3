"""The task type generate_image, with a pipeline that paints what it is asked."""

import hashlib
import io
import json
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from PIL import Image

from callsheet.handlers import generate_image
from callsheet.ledger.catalog import task_types
from callsheet.media.encodings import IMAGES
from callsheet.media.limits import MediaLimits
from callsheet.media.reader import MediaReader
from callsheet.runner.context import TaskContext, TaskStopped
from callsheet.runner.rendering import (
    ControlNetUse,
    LoadedPipeline,
    LoraUse,
    Mode,
    Pixels,
    RenderControls,
    Rendered,
    RenderedItem,
    RenderRequest,
    Reproducibility,
    Words,
    step_of,
)
from callsheet.runner.seeds import SEEDS
from callsheet.runtime.models import BUILT_IN, Model
from callsheet.tasks.v1.artifact_pb2 import (
    ARTIFACT_ROLE_PROVENANCE,
    ARTIFACT_ROLE_THUMBNAIL,
    ARTIFACT_ROLE_UNSPECIFIED,
    Artifact,
)
from callsheet.tasks.v1.generate_image_pb2 import (
    IMAGE_FORMAT_JPEG,
    IMAGE_FORMAT_PNG,
    IMAGE_FORMAT_WEBP,
    SCHEDULER_DDIM,
    SCHEDULER_UNSPECIFIED,
    GenerateImageInput,
    ImageFormat,
)
from callsheet.tasks.v1.media_pb2 import ControlNetUse as ControlNetMessage
from callsheet.tasks.v1.media_pb2 import LoraUse as LoraMessage
from callsheet.tasks.v1.media_pb2 import MediaReference
from callsheet.v1.task_pb2 import (
    PROGRESS_PHASE_STEPS,
    PROGRESS_PHASE_UNSPECIFIED,
    ProgressPhase,
)


@dataclass
class Painter:
    """A pipeline whose pixels are the digest of the seed."""

    model: Model = BUILT_IN
    modes: frozenset[Mode] = BUILT_IN.modes
    requests: list[RenderRequest] = field(default_factory=list[RenderRequest])

    def render(self, request: RenderRequest, controls: RenderControls) -> Rendered:
        """Remember the request, and paint each item in as many steps."""
        self.requests.append(request)
        items: list[RenderedItem] = []
        for number, item in enumerate(request.items):
            controls.enter(PROGRESS_PHASE_STEPS)
            for step in range(request.steps + 1):
                controls.on_step(number * request.steps + step, len(request.items) * request.steps)
            controls.enter(PROGRESS_PHASE_UNSPECIFIED)
            tile = hashlib.sha256(str(item.seed).encode()).digest()
            image = Image.frombytes("RGB", (4, 2), tile[:24])
            pixels = np.asarray(image.resize((request.width, request.height)))
            items.append(RenderedItem(frames=pixels[None]))
        return Rendered(tuple(items), scheduler="Painting")


class Reader(MediaReader):
    """Has one image, whatever it is asked for."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def image(self, reference: MediaReference, *, transparent: bool = False) -> Pixels:
        """Return the image."""
        return self._pixels


class Context:
    """A TaskContext that keeps what it is given, and stops after a number of reports."""

    attempt, project, device = 1, "a project", "cpu"
    knowledge, similar_tasks = (), ()
    media_limits = MediaLimits()

    def __init__(self, painter: Painter, *, reports: int = 10_000, task_id: str = "a task") -> None:
        self.painter = painter
        self.task_id = task_id
        self.reports: list[tuple[int, int, str]] = []
        self.asked: list[tuple[str, Mode | None]] = []
        self.stored: dict[str, bytes] = {}
        self.phases: list[str] = []
        self.previews: list[int] = []
        self.scratch = Path()
        self._most_reports = reports

    def report(self, current: int, total: int, message: str = "") -> None:
        """Remember the report."""
        self.check()
        self.reports.append((current, total, message))

    def enter(self, phase: ProgressPhase.ValueType) -> None:
        """Remember the phase, unless it goes on."""
        name = ProgressPhase.Name(phase).removeprefix("PROGRESS_PHASE_")
        if self.phases[-1:] != [name]:
            self.phases.append(name)

    def check(self) -> None:
        """Stop after the number of reports."""
        if len(self.reports) >= self._most_reports:
            raise TaskStopped

    def wait(self, duration: timedelta) -> None:
        """Wait for nothing."""

    def pipeline(self, model_name: str, *, mode: Mode | None = None) -> LoadedPipeline:
        """Return the painter."""
        self.asked.append((model_name, mode))
        return self.painter

    def controls(self, *, words: Words = step_of, preview_every_steps: int = 0) -> RenderControls:
        """Return what reports to this context."""
        self.previews.append(preview_every_steps)
        return Told(self, words)

    def open_media(self) -> MediaReader:
        """Return what has a grey image."""
        return Reader(np.full((8, 8, 3), 127, np.uint8))

    def put(
        self,
        content: bytes | Path,
        *,
        media_type: str,
        suffix: str,
        width: int | None = None,
        height: int | None = None,
    ) -> Artifact:
        """Keep the bytes."""
        assert isinstance(content, bytes)
        key = f"{len(self.stored) + 1}.{suffix}"
        self.stored[key] = content
        return Artifact(key=key, media_type=media_type, width=width, height=height)

    def pixels(self, artifact: Artifact) -> bytes:
        """Return what is seen of an image."""
        with Image.open(io.BytesIO(self.stored[artifact.key])) as image:
            return image.convert("RGB").tobytes()


@dataclass(frozen=True)
class Told:
    """RenderControls that report to a context."""

    context: Context
    words: Words
    checkpoints: None = None
    previews: None = None

    def check(self) -> None:
        """Stop when the context does."""
        self.context.check()

    def on_step(self, step: int, of: int) -> None:
        """Report it."""
        self.context.report(step, of, self.words(step, of))

    def remark(self, remark: str) -> None:
        """Do nothing."""

    def enter(self, phase: ProgressPhase.ValueType) -> None:
        """Pass it on."""
        self.context.enter(phase)


def is_context(context: TaskContext) -> TaskContext:
    """Let the type checker see that the test's context is one."""
    return context


@pytest.fixture
def context() -> Context:
    """A context with a painter."""
    context = Context(Painter())
    is_context(context)
    return context


def test_what_the_input_leaves_open_is_the_models_own(context: Context) -> None:
    output = generate_image.run(GenerateImageInput(prompt="a fox", seed=7), context)
    (request,) = context.painter.requests
    (item,) = request.items
    assert (item.prompt, item.negative_prompt, item.seed, item.control) == ("a fox", "", 7, None)
    assert (request.width, request.height, request.steps) == (64, 64, 8)
    assert (request.guidance_scale, request.scheduler) == (5.0, SCHEDULER_UNSPECIFIED)
    assert (request.loras, request.controlnet) == ((), None)
    assert (context.asked, context.previews) == ([("", Mode.TEXT_TO_IMAGE)], [0])
    assert (output.model, output.model_revision) == ("tiny-random", "")
    assert (output.width, output.height, output.steps) == (64, 64, 8)
    assert (output.guidance_scale, output.seed, output.scheduler) == (5.0, 7, "Painting")
    assert output.bucket == 1


def test_what_the_input_says_is_used_and_told(context: Context) -> None:
    output = generate_image.run(
        GenerateImageInput(
            prompt="a fox",
            negative_prompt="a hen",
            width=128,
            height=72,
            steps=2,
            guidance_scale=0,
            seed=0,
            model="tiny-random",
            scheduler=SCHEDULER_DDIM,
            loras=[LoraMessage(name="a"), LoraMessage(name="b", weight=0)],
            preview_every_steps=3,
        ),
        context,
    )
    (request,) = context.painter.requests
    (item,) = request.items
    assert (item.prompt, item.negative_prompt, item.seed) == ("a fox", "a hen", 0)
    assert (request.width, request.height, request.steps) == (128, 72, 2)
    assert (request.guidance_scale, request.scheduler) == (0.0, SCHEDULER_DDIM)
    assert request.loras == (LoraUse("a", 1.0), LoraUse("b", 0.0))
    assert (context.asked, context.previews) == ([("tiny-random", Mode.TEXT_TO_IMAGE)], [3])
    assert (output.width, output.height, output.steps) == (128, 72, 2)
    assert (output.guidance_scale, output.seed) == (0, 0)
    assert (output.images[0].width, output.images[0].height) == (128, 72)


@pytest.mark.parametrize(("given", "scale"), [({}, 1.0), ({"scale": 0.5}, 0.5)])
def test_a_controlnet_is_given_its_image(
    context: Context, given: dict[str, float], scale: float
) -> None:
    control = ControlNetMessage(name="edges", image=MediaReference(uri="a"), **given)
    generate_image.run(GenerateImageInput(prompt="a fox", controlnet=control, count=2), context)
    (request,) = context.painter.requests
    assert request.controlnet == ControlNetUse("edges", scale)
    for item in request.items:
        assert item.control is not None
        assert item.control.shape == (8, 8, 3)


def test_image_i_of_many_is_the_image_of_seed_plus_i(context: Context) -> None:
    """So the pixels of an image do not depend on how many were asked for with it."""
    output = generate_image.run(GenerateImageInput(prompt="a fox", seed=7, count=3), context)
    alone = Context(Painter())
    single = generate_image.run(GenerateImageInput(prompt="a fox", seed=9), alone)
    (request,) = context.painter.requests
    assert [item.seed for item in request.items] == [7, 8, 9]
    # Each alone: then an image is the same to the last bit, however many there are.
    assert request.reproducibility is Reproducibility.STRICT
    assert context.pixels(output.images[2]) == alone.pixels(single.images[0])
    assert len({context.pixels(image) for image in output.images}) == 3


def test_every_image_has_a_thumbnail_and_says_how_it_was_made(context: Context) -> None:
    output = generate_image.run(
        GenerateImageInput(prompt="a fox", seed=7, count=2, width=512, height=256), context
    )
    assert [image.role for image in output.images] == [ARTIFACT_ROLE_UNSPECIFIED] * 2
    for number, (thumbnail, made) in enumerate(
        zip(output.thumbnails, output.provenance, strict=True)
    ):
        assert (thumbnail.role, thumbnail.width, thumbnail.height) == (
            ARTIFACT_ROLE_THUMBNAIL,
            256,
            128,
        )
        assert made.role == ARTIFACT_ROLE_PROVENANCE
        told = json.loads(context.stored[made.key])["assertions"][-1]["data"]
        assert (told["seed"], told["model"]) == (7 + number, "tiny-random")
        assert told["parameters"]["prompt"] == "a fox"


def test_progress_counts_the_steps_of_all_images(context: Context) -> None:
    generate_image.run(GenerateImageInput(prompt="a fox", steps=2, count=2), context)
    assert context.reports == [
        (0, 0, "loading the model"),
        (0, 4, "image 1 of 2, step 0 of 2"),
        (1, 4, "image 1 of 2, step 1 of 2"),
        (2, 4, "image 1 of 2, step 2 of 2"),
        (2, 4, "image 1 of 2, step 2 of 2"),
        (3, 4, "image 2 of 2, step 1 of 2"),
        (4, 4, "image 2 of 2, step 2 of 2"),
    ]


def test_each_image_has_its_steps_and_then_all_are_encoded(context: Context) -> None:
    generate_image.run(GenerateImageInput(prompt="a fox", steps=2, count=2), context)
    drawn, encoded = ["STEPS", "UNSPECIFIED"], ["ENCODING", "UNSPECIFIED"]
    assert context.phases == [*drawn, *drawn, *encoded, *encoded]


def test_progress_of_one_image_names_its_steps_alone(context: Context) -> None:
    generate_image.run(GenerateImageInput(prompt="a fox", steps=1), context)
    assert context.reports[-1] == (1, 1, "step 1 of 1")


def test_a_stop_between_two_steps_stores_nothing() -> None:
    context = Context(Painter(), reports=5)
    with pytest.raises(TaskStopped):
        generate_image.run(GenerateImageInput(prompt="a fox", steps=3, count=2), context)
    assert context.stored == {}


def test_a_seed_that_is_left_open_is_the_tasks_own_and_told() -> None:
    """Another attempt goes on with the same one, and another task has another one."""
    seeds: list[int] = []
    for task in range(20):
        for _ in range(2):
            context = Context(Painter(), task_id=f"task {task}")
            output = generate_image.run(GenerateImageInput(prompt="a fox", count=8), context)
            assert context.painter.requests[0].items[0].seed == output.seed
            seeds.append(output.seed)
    assert seeds[::2] == seeds[1::2]
    assert len({*seeds}) == 20
    assert all(0 <= seed <= SEEDS - 8 for seed in seeds)


@pytest.mark.parametrize(
    ("format", "pillow_name", "media_type", "suffix"),
    [
        (IMAGE_FORMAT_PNG, "PNG", "image/png", "png"),
        (IMAGE_FORMAT_WEBP, "WEBP", "image/webp", "webp"),
        (IMAGE_FORMAT_JPEG, "JPEG", "image/jpeg", "jpg"),
    ],
)
def test_an_image_is_encoded_as_asked(
    context: Context,
    format: ImageFormat.ValueType,  # noqa: A002 - the contract's word
    pillow_name: str,
    media_type: str,
    suffix: str,
) -> None:
    output = generate_image.run(GenerateImageInput(prompt="a fox", seed=7, format=format), context)
    with Image.open(io.BytesIO(context.stored[output.images[0].key])) as image:
        assert (image.format, image.size) == (pillow_name, (64, 64))
    assert (output.images[0].media_type, output.images[0].key) == (media_type, f"1.{suffix}")


@pytest.mark.parametrize("format", IMAGES)
def test_the_same_seed_gives_the_same_bytes(
    context: Context,
    format: ImageFormat.ValueType,  # noqa: A002 - the contract's word
) -> None:
    asked = GenerateImageInput(prompt="a fox", seed=7, format=format)
    first, second = (generate_image.run(asked, context).images[0].key for _ in range(2))
    assert context.stored[first] == context.stored[second]


def test_png_and_webp_keep_every_pixel(context: Context) -> None:
    png, webp = (
        generate_image.run(GenerateImageInput(prompt="a fox", seed=7, format=lossless), context)
        for lossless in (IMAGE_FORMAT_PNG, IMAGE_FORMAT_WEBP)
    )
    assert context.pixels(png.images[0]) == context.pixels(webp.images[0])


@pytest.mark.parametrize("name", task_types())
def test_the_import_of_a_handler_is_light(name: str) -> None:
    """What is not needed is not loaded: torch takes seconds, and half a gigabyte."""
    heavy = ("torch", "diffusers", "PIL", "numpy", "av")
    code = (
        f"import sys; import callsheet.handlers.{name};"
        f" print([name for name in {heavy} if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[]"
