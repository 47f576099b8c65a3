"""The task type generate_image, with a pipeline that paints what it is asked."""

import hashlib
import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from PIL import Image

from callsheet.handlers import generate_image
from callsheet.handlers.generate_image import ENCODINGS, SEEDS
from callsheet.runner.context import LoadedPipeline, Rendered, TaskContext, TaskStopped
from callsheet.runtime.models import BUILT_IN, Model
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import (
    IMAGE_FORMAT_JPEG,
    IMAGE_FORMAT_PNG,
    IMAGE_FORMAT_WEBP,
    SCHEDULER_DDIM,
    SCHEDULER_UNSPECIFIED,
    GenerateImageInput,
    ImageFormat,
    Scheduler,
)


@dataclass(frozen=True)
class Request:
    """What the handler asked the pipeline for."""

    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    seed: int
    scheduler: Scheduler.ValueType


@dataclass
class Painter:
    """A pipeline whose pixels are the digest of the seed."""

    model: Model = BUILT_IN
    requests: list[Request] = field(default_factory=list[Request])

    def render(
        self,
        prompt: str,
        *,
        negative_prompt: str,
        width: int,
        height: int,
        steps: int,
        guidance_scale: float,
        seed: int,
        scheduler: Scheduler.ValueType,
        on_step: Callable[[int, int], None],
    ) -> Rendered:
        """Remember the request, and paint."""
        self.requests.append(
            Request(prompt, negative_prompt, width, height, steps, guidance_scale, seed, scheduler)
        )
        for step in range(1, steps + 1):
            on_step(step, steps)
        tile = hashlib.sha256(str(seed).encode()).digest()
        image = Image.frombytes("RGB", (4, 2), tile[:24]).resize((width, height))
        return Rendered(image, scheduler="Painting")


class Context:
    """A TaskContext that keeps what it is given, and stops after a number of reports."""

    task_id, attempt, project, device = "a task", 1, "a project", "cpu"
    knowledge, similar_tasks = (), ()

    def __init__(self, painter: Painter, *, reports: int = 10_000) -> None:
        self.painter = painter
        self.reports: list[tuple[int, int, str]] = []
        self.asked: list[str] = []
        self.stored: list[bytes] = []
        self._most_reports = reports

    def report(self, current: int, total: int, message: str = "") -> None:
        """Remember the report."""
        self.check()
        self.reports.append((current, total, message))

    def check(self) -> None:
        """Stop after the number of reports."""
        if len(self.reports) >= self._most_reports:
            raise TaskStopped

    def wait(self, duration: timedelta) -> None:
        """Wait for nothing."""

    def pipeline(self, model_name: str) -> LoadedPipeline:
        """Return the painter."""
        self.asked.append(model_name)
        return self.painter

    def put(
        self,
        content: bytes,
        *,
        media_type: str,
        suffix: str,
        width: int | None = None,
        height: int | None = None,
    ) -> Artifact:
        """Keep the bytes."""
        self.stored.append(content)
        return Artifact(
            key=f"{len(self.stored)}.{suffix}", media_type=media_type, width=width, height=height
        )


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
    assert context.painter.requests == [
        Request("a fox", "", 64, 64, 8, 5.0, 7, SCHEDULER_UNSPECIFIED)
    ]
    assert context.asked == [""]
    assert (output.model, output.model_revision) == ("tiny-random", "")
    assert (output.width, output.height, output.steps) == (64, 64, 8)
    assert (output.guidance_scale, output.seed, output.scheduler) == (5.0, 7, "Painting")


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
        ),
        context,
    )
    assert context.painter.requests == [
        Request("a fox", "a hen", 128, 72, 2, 0.0, 0, SCHEDULER_DDIM)
    ]
    assert context.asked == ["tiny-random"]
    assert (output.width, output.height, output.steps) == (128, 72, 2)
    assert (output.guidance_scale, output.seed) == (0, 0)
    assert (output.images[0].width, output.images[0].height) == (128, 72)


def test_image_i_of_many_is_the_image_of_seed_plus_i(context: Context) -> None:
    """So the bytes of an image do not depend on how many were asked for with it."""
    output = generate_image.run(GenerateImageInput(prompt="a fox", seed=7, count=3), context)
    alone = Context(Painter())
    generate_image.run(GenerateImageInput(prompt="a fox", seed=9), alone)
    assert [request.seed for request in context.painter.requests] == [7, 8, 9]
    assert context.stored[2] == alone.stored[0]
    assert len({*context.stored}) == 3
    assert [image.key for image in output.images] == ["1.png", "2.png", "3.png"]


def test_progress_counts_the_steps_of_all_images(context: Context) -> None:
    generate_image.run(GenerateImageInput(prompt="a fox", steps=2, count=2), context)
    assert context.reports == [
        (0, 0, "loading the model"),
        (1, 4, "image 1 of 2, step 1 of 2"),
        (2, 4, "image 1 of 2, step 2 of 2"),
        (3, 4, "image 2 of 2, step 1 of 2"),
        (4, 4, "image 2 of 2, step 2 of 2"),
    ]


def test_progress_of_one_image_names_its_steps_alone(context: Context) -> None:
    generate_image.run(GenerateImageInput(prompt="a fox", steps=1), context)
    assert context.reports[-1] == (1, 1, "step 1 of 1")


def test_a_stop_between_two_steps_stores_nothing_more() -> None:
    context = Context(Painter(), reports=5)
    with pytest.raises(TaskStopped):
        generate_image.run(GenerateImageInput(prompt="a fox", steps=3, count=2), context)
    assert len(context.stored) == 1


def test_a_seed_that_is_left_open_is_chosen_and_told(context: Context) -> None:
    outputs = [
        generate_image.run(GenerateImageInput(prompt="a fox", count=8), context) for _ in range(20)
    ]
    seeds = [output.seed for output in outputs]
    assert len({*seeds}) == 20
    assert all(0 <= seed <= SEEDS - 8 for seed in seeds)
    assert context.painter.requests[0].seed == seeds[0]


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
    with Image.open(io.BytesIO(context.stored[0])) as image:
        assert (image.format, image.size) == (pillow_name, (64, 64))
    assert (output.images[0].media_type, output.images[0].key) == (media_type, f"1.{suffix}")


@pytest.mark.parametrize("format", ENCODINGS)
def test_the_same_seed_gives_the_same_bytes(
    context: Context,
    format: ImageFormat.ValueType,  # noqa: A002 - the contract's word
) -> None:
    for _ in range(2):
        generate_image.run(GenerateImageInput(prompt="a fox", seed=7, format=format), context)
    assert context.stored[0] == context.stored[1]


def test_png_and_webp_keep_every_pixel(context: Context) -> None:
    for lossless in (IMAGE_FORMAT_PNG, IMAGE_FORMAT_WEBP):
        generate_image.run(GenerateImageInput(prompt="a fox", seed=7, format=lossless), context)
    png, webp = (Image.open(io.BytesIO(content)).convert("RGB") for content in context.stored)
    assert png.tobytes() == webp.tobytes()


def test_every_format_of_the_contract_has_its_encoding() -> None:
    assert set(ENCODINGS) == set(ImageFormat.values())


def test_the_import_of_a_handler_is_light() -> None:
    """The worker imports handlers too; torch would take seconds and half a gigabyte."""
    code = (
        "import sys; import callsheet.handlers.generate_image, callsheet.handlers.ping;"
        " print([name for name in ('torch', 'diffusers', 'PIL', 'numpy') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[]"
