"""Render one image for each of many prompts; one that fails does not fail the others.

They are drawn in small batches. When a batch fails, each of its images is drawn alone, and so it
turns out which of them it was.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

import structlog

from callsheet.artifacts.errors import ArtifactStoreError
from callsheet.media.delivery import deliver_image
from callsheet.media.encodings import IMAGES
from callsheet.media.provenance import Source, provenance_of
from callsheet.runner.asked import (
    guidance_asked,
    loras_asked,
    rendering_of,
    reproducibility_asked,
    seed_asked,
    steps_asked,
)
from callsheet.runner.context import HandlerFailure, TaskContext
from callsheet.runner.failures import breaks_device, failure_of, is_out_of_memory
from callsheet.runner.rendering import (
    CheckpointSlot,
    LoadedPipeline,
    Mode,
    PreviewSink,
    RenderControls,
    Rendered,
    RenderItem,
    RenderRequest,
)
from callsheet.tasks.v1.generate_images_pb2 import (
    GenerateImagesInput,
    GenerateImagesOutput,
    ImageItemResult,
)
from callsheet.tasks.v1.media_pb2 import ItemFailure, Rendering
from callsheet.v1.task_pb2 import (
    FAILURE_REASON_INVALID_INPUT,
    Failure,
    FailureReason,
    ProgressPhase,
)

if TYPE_CHECKING:
    from callsheet.runner.rendering import Pixels

#: How many images are drawn in one batch: more gain little, and each takes as much memory again.
BATCH: Final = 4

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


def run(input: GenerateImagesInput, context: TaskContext) -> GenerateImagesOutput:
    """Render every item, and return where the images were stored, and which items failed."""
    context.report(0, 0, "loading the model")
    pipeline = context.pipeline(input.model, mode=Mode.TEXT_TO_IMAGE)
    seed = seed_asked(input, context.task_id, count=len(input.items))
    drawing = _Drawing(input, context, pipeline, items=_items(input, seed=seed))
    results = drawing.results()
    if drawing.failures and len(drawing.failures) == len(results):
        first = drawing.failures[0]
        raise HandlerFailure(first.reason, first.message)
    return GenerateImagesOutput(
        items=results,
        seed=seed,
        model=pipeline.model.name,
        model_revision=pipeline.model.revision,
        rendering=drawing.rendering,
    )


def _items(input: GenerateImagesInput, *, seed: int) -> Sequence[RenderItem]:
    return [
        RenderItem(
            item.prompt,
            item.seed if item.HasField("seed") else seed + number,
            negative_prompt=item.negative_prompt,
        )
        for number, item in enumerate(input.items)
    ]


@dataclass(eq=False)
class _Drawing:
    """One attempt at all items."""

    input: GenerateImagesInput
    context: TaskContext
    pipeline: LoadedPipeline
    items: Sequence[RenderItem]
    rendering: Rendering = field(default_factory=Rendering)
    """How the images were rendered, so far."""
    failures: list[Failure] = field(default_factory=list[Failure])

    def results(self) -> list[ImageItemResult]:
        """Return what became of each item, in their order."""
        count = len(self.items)
        return [
            result
            for start in range(0, count, BATCH)
            for result in self._results(range(start, min(start + BATCH, count)))
        ]

    def _results(self, numbers: range) -> Iterator[ImageItemResult]:
        try:
            rendered = self._rendered(numbers)
        except Exception as error:
            is_alone = len(numbers) == 1
            if _is_of_all(error) or (is_alone and is_out_of_memory(error)):
                raise
            _log.warning("items_not_drawn", items=[*numbers], error=repr(error), exc_info=True)
            if is_alone:
                yield self._failed(numbers[0], failure_of(error))
                return
        else:
            yield from map(self._delivered, numbers, _pictures(rendered), [rendered] * len(numbers))
            return
        # Outside the except block: the error holds on to what the batch had in memory.
        for number in numbers:
            yield from self._results(range(number, number + 1))

    def _rendered(self, numbers: range) -> Rendered:
        request = self._request(numbers)
        name = f"image {numbers[0] + 1}"
        if len(numbers) > 1:
            name = f"images {numbers[0] + 1} to {numbers[-1] + 1}"
        whole = self.context.controls(
            words=lambda step, of: f"{name} of {len(self.items)}, step {step} of {of}",
            preview_every_steps=self.input.preview_every_steps,
        )
        share = _Share(
            whole,
            before=numbers[0] * request.steps,
            own=len(numbers) * request.steps,
            total=len(self.items) * request.steps,
        )
        rendered = self.pipeline.render(request, share)
        bucket = max(self.rendering.bucket, rendered.bucket)
        self.rendering = rendering_of(request, rendered)
        self.rendering.bucket = bucket
        return rendered

    def _request(self, numbers: range) -> RenderRequest:
        input, model = self.input, self.pipeline.model
        return RenderRequest(
            mode=Mode.TEXT_TO_IMAGE,
            items=tuple(self.items[number] for number in numbers),
            width=input.width or model.default_width,
            height=input.height or model.default_height,
            steps=steps_asked(input, model),
            guidance_scale=guidance_asked(input, model),
            scheduler=input.scheduler,
            loras=loras_asked(input.loras),
            reproducibility=reproducibility_asked(input),
        )

    def _delivered(self, number: int, pixels: "Pixels", rendered: Rendered) -> ImageItemResult:
        model, seed = self.pipeline.model, self.items[number].seed
        delivered = deliver_image(
            self.context,
            pixels,
            IMAGES[self.input.format],
            provenance_of(
                self._alone(number),
                self.context,
                source=Source.MODEL,
                model=model.name,
                model_revision=model.revision,
                seed=seed,
                libraries=rendered.versions,
                tuning=rendered.tuning,
            ),
        )
        return ImageItemResult(
            image=delivered.image,
            thumbnail=delivered.thumbnail,
            provenance=delivered.provenance,
            seed=seed,
        )

    def _alone(self, number: int) -> GenerateImagesInput:
        """Return the input as if it had been about this item only: an image tells of no other."""
        alone = GenerateImagesInput()
        alone.CopyFrom(self.input)
        del alone.items[:]
        alone.items.append(self.input.items[number])
        return alone

    def _failed(self, number: int, failure: Failure) -> ImageItemResult:
        self.failures.append(failure)
        told = ItemFailure(reason=FailureReason.Name(failure.reason), message=failure.message)
        return ImageItemResult(seed=self.items[number].seed, failure=told)


@dataclass(frozen=True)
class _Share:
    """RenderControls of some of the items, that count their steps as some of all items'."""

    whole: RenderControls
    before: int
    """The steps of the items before, each counted for itself."""
    own: int
    total: int

    @property
    def checkpoints(self) -> CheckpointSlot | None:
        """Where states are kept."""
        return self.whole.checkpoints

    @property
    def previews(self) -> PreviewSink | None:
        """Who wants pictures on the way."""
        return self.whole.previews

    def check(self) -> None:
        """Raise TaskStopped when the attempt must stop."""
        self.whole.check()

    def on_step(self, step: int, of: int) -> None:
        """Count a step of a batch as one of each of its items."""
        self.whole.on_step(self.before + step * self.own // of, self.total)

    def remark(self, remark: str) -> None:
        """Pass it on."""
        self.whole.remark(remark)

    def enter(self, phase: ProgressPhase.ValueType) -> None:
        """Count the time from now on as that phase's."""
        self.whole.enter(phase)


def _pictures(rendered: Rendered) -> "Iterator[Pixels]":
    for item in rendered.items:
        if item.frames is None:
            raise ValueError("the model drew nothing")
        yield item.frames[0]


def _is_of_all(error: Exception) -> bool:
    """Tell whether the error is not about an item: the others would fail of it too."""
    if isinstance(error, HandlerFailure):
        return error.reason != FAILURE_REASON_INVALID_INPUT
    return isinstance(error, ArtifactStoreError) or breaks_device(error)
