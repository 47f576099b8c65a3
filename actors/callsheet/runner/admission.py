"""Whether a rendering fits, and how: said before it begins."""

from dataclasses import dataclass, replace

from callsheet.runner.context import HandlerFailure
from callsheet.runner.device_memory import DeviceMemory
from callsheet.runner.memory_ladder import FREE, INEXACT, Economy, Footing, Ladder, rung_below
from callsheet.runner.rendering import Mode, RenderRequest, Reproducibility
from callsheet.runner.warm_models import Resident
from callsheet.runtime.memory_fit import gigabytes, largest_that_fits, words_of
from callsheet.runtime.memory_needs import (
    Estimate,
    MeasuredPeaks,
    Shape,
    ShapeBucket,
    peak_bytes,
)
from callsheet.runtime.models import Model
from callsheet.v1.task_pb2 import FAILURE_REASON_OUT_OF_MEMORY


@dataclass(frozen=True)
class Need:
    """One rendering, as far as memory goes."""

    model: Model
    shape: Shape
    """Of its fullest pass, if all that can share one do."""
    bucket: ShapeBucket
    weights: int
    """Bytes."""
    largest_part: int
    """Bytes of the weights that must be there at once, when idle parts may wait elsewhere."""
    economies: frozenset[Economy]
    """What the model can do to need less, without changing what must not change."""


class Admission:
    """Estimates what renderings need, learns from what they took, and refuses what never fits."""

    def __init__(self, memory: DeviceMemory, *, dtype: str) -> None:
        """*dtype* is the number format of models that name none."""
        self._memory = memory
        self._dtype = dtype
        self._peaks = MeasuredPeaks()
        self.ladder = Ladder()

    def need(self, resident: Resident, request: RenderRequest) -> Need:
        """Return what is asked for. Raises HandlerFailure(INVALID_INPUT) as render does."""
        model = resident.model
        shape = shape_of(request, model, batch=resident.items_at_once(request))
        economies = resident.economies
        if request.reproducibility is Reproducibility.STRICT:
            economies -= INEXACT
        return Need(
            model,
            shape,
            ShapeBucket.of(model, shape, dtype=self._dtype_of(model)),
            weights=resident.size_bytes(),
            largest_part=resident.largest_part_bytes(),
            economies=economies,
        )

    def start(self, need: Need, *, has_idle: bool) -> Footing:
        """Return the footing to begin with: what worked before, or the first that should fit.

        Raises HandlerFailure(OUT_OF_MEMORY) when the device is too small for all of them.
        """
        usable, capacity = self._memory.usable_bytes(), self._memory.capacity_bytes()
        footing = self.ladder.footing(need.bucket)
        while (peak := self.estimate(need, footing).peak) > usable:
            lower = rung_below(
                footing,
                batch=need.shape.batch,
                economies=need.economies,
                has_idle=has_idle,
            )
            if lower is None:
                if peak > capacity:
                    raise self._too_large(need, footing, peak=peak, capacity=capacity)
                break
            footing = lower
        return footing

    def beside(self, need: Need, footing: Footing) -> int:
        """Return how many bytes idle models may take while it runs."""
        if footing.is_alone:
            return 0
        return max(0, self._memory.usable_bytes() - self.estimate(need, footing).peak)

    def estimate(self, need: Need, footing: Footing = FREE) -> Estimate:
        """Return what a rendering needs on a footing, by all that is known."""
        batch = min(need.shape.batch, footing.most_at_once or need.shape.batch)
        return self._estimated(need, replace(need.shape, batch=batch), footing)

    def measured(self, need: Need, footing: Footing, *, peak: int, others: int) -> None:
        """Learn from the peak of a rendering, beside others that take so many bytes."""
        if footing.economies or footing.most_at_once or not peak:
            return
        estimated = self._plain(need, need.shape, footing)
        self._peaks.record(need.bucket, estimated=estimated, measured=peak - others)

    def exhausted(self, need: Need, footing: Footing) -> HandlerFailure:
        """Return the failure of a rendering for which memory ran out on the last footing."""
        tried = f", although {footing.words}" if footing != FREE else ""
        return HandlerFailure(
            FAILURE_REASON_OUT_OF_MEMORY,
            f"memory ran out for {words_of(need.shape)} by model {need.model.name}{tried};"
            " a worker with more memory, or something smaller, may do",
        )

    def _too_large(
        self, need: Need, footing: Footing, *, peak: int, capacity: int
    ) -> HandlerFailure:
        def fits(shape: Shape) -> bool:
            return self._estimated(need, shape, footing).peak <= capacity

        asked = replace(need.shape, batch=1) if footing.most_at_once else need.shape
        fitting = largest_that_fits(need.model, asked, fits=fits)
        advice = f"{words_of(fitting)} would fit" if fitting else "nothing it makes would fit"
        return HandlerFailure(
            FAILURE_REASON_OUT_OF_MEMORY,
            f"model {need.model.name} needs about {gigabytes(peak)} for {words_of(asked)}, and"
            f" there are {gigabytes(capacity)} here; {advice}",
            memory_needed_bytes=peak + self._memory.reserve_bytes,
        )

    def _estimated(self, need: Need, shape: Shape, footing: Footing) -> Estimate:
        plain = self._plain(need, shape, footing)
        if footing.economies:
            return plain
        bucket = ShapeBucket.of(need.model, shape, dtype=self._dtype_of(need.model))
        return self._peaks.corrected(bucket, plain)

    def _plain(self, need: Need, shape: Shape, footing: Footing) -> Estimate:
        offloads = Economy.OFFLOAD in footing.economies
        return peak_bytes(
            need.model,
            shape,
            weight_bytes=need.largest_part if offloads else need.weights,
            dtype=self._dtype_of(need.model),
            in_tiles=Economy.TILES in footing.economies,
            in_chunks=Economy.CHUNKS in footing.economies,
        )

    def _dtype_of(self, model: Model) -> str:
        return model.dtype or self._dtype


def shape_of(request: RenderRequest, model: Model, *, batch: int) -> Shape:
    """Return the shape of a request's passes, with so many items in each."""
    width, height, frames = request.width, request.height, request.frames
    first = request.items[0]
    if request.mode is Mode.UPSCALE and first.image is not None:
        height, width = (side * model.traits.factor for side in first.image.shape[:2])
    if request.mode is Mode.VIDEO_TO_VIDEO and first.video is not None:
        frames = len(first.video)
    return Shape(
        request.mode,
        width=width,
        height=height,
        frames=max(1, frames),
        duration=request.duration,
        batch=batch,
    )
