"""What handlers get for a model: it renders within the memory that there is."""

from dataclasses import replace
from typing import cast

import structlog

from callsheet.runner.admission import Admission, Need
from callsheet.runner.device_memory import DeviceMemory
from callsheet.runner.failures import is_out_of_memory
from callsheet.runner.memory_ladder import FREE, Economy, Footing, rung_below
from callsheet.runner.rendering import Mode, RenderControls, Rendered, RenderRequest
from callsheet.runner.warm_models import WarmModels
from callsheet.runtime.memory_needs import FRAMES_OF_A_CHUNK
from callsheet.runtime.models import Model
from callsheet.v1.task_pb2 import PROGRESS_PHASE_LOADING

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class AdmittedPipeline:
    """A model of the warm ones: the LoadedPipeline that finds room before it renders.

    Between renderings the model may be evicted for another one; it is loaded again when it is
    needed. While it renders, it stays. When memory runs out, it tries again with less, down the
    ladder; what worked is where the next one of that size begins.
    """

    def __init__(
        self, model: Model, warm: WarmModels, *, admission: Admission, memory: DeviceMemory
    ) -> None:
        self._model = model
        self._warm = warm
        self._admission = admission
        self._memory = memory

    @property
    def model(self) -> Model:
        """The model it was loaded from."""
        return self._model

    @property
    def modes(self) -> frozenset[Mode]:
        """What it can be asked for."""
        return self._warm.get(self._model).modes

    def size_bytes(self) -> int:
        """Return how much memory its weights take."""
        return self._warm.get(self._model).size_bytes()

    def bring(self) -> None:
        """Bring its weights to where they are used, and have it compiled if it is to be.

        Raises when there is no room for all.
        """
        with self._warm.in_use(self._model) as resident:
            resident.prepare(check=lambda: None, is_time=lambda: True)

    def render(self, request: RenderRequest, controls: RenderControls) -> Rendered:
        """Make what is asked for, as LoadedPipeline says.

        Raises HandlerFailure(OUT_OF_MEMORY) when it needs more than there is, before anything is
        rendered where that can be known.
        """
        need = self._admission.need(self._warm.get(self._model), request)
        footing = self._admission.start(need, has_idle=self._has_idle())
        if footing != FREE:
            _log.info("memory_saved", model=self._model.name, footing=footing.words)
        while (rendered := self._tried(need, footing, request, controls)) is None:
            lower = rung_below(
                footing,
                batch=need.shape.batch,
                economies=need.economies,
                has_idle=self._has_idle(),
            )
            if lower is None:
                # The next one of that size begins here: it fails soon, or finds more room.
                self._admission.ladder.remember(need.bucket, footing)
                self._warm.clear()
                raise self._admission.exhausted(need, footing)
            _log.warning("memory_ran_out", model=self._model.name, next=lower.words)
            controls.remark(f"memory ran out; again, and {lower.words}")
            footing = lower
            controls.check()
        if footing != FREE:
            self._admission.ladder.remember(need.bucket, footing)
        return rendered

    def _tried(
        self, need: Need, footing: Footing, request: RenderRequest, controls: RenderControls
    ) -> Rendered | None:
        """Render on a footing; None: memory ran out, and what filled it is gone."""
        try:
            return self._rendered(need, footing, request, controls)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            # Its frames hold what filled the memory.
            error.__traceback__ = error.__context__ = None
        self._warm.release()
        return None

    def _rendered(
        self, need: Need, footing: Footing, request: RenderRequest, controls: RenderControls
    ) -> Rendered:
        controls.check()
        controls.enter(PROGRESS_PHASE_LOADING)
        with self._warm.in_use(
            self._model,
            beside=self._admission.beside(need, footing),
            on_host=Economy.OFFLOAD in footing.economies,
        ) as resident:
            resident.economise(footing.economies)
            others = self._warm.here_bytes() - need.weights
            self._memory.begin_part()
            frames_at_once = FRAMES_OF_A_CHUNK if Economy.CHUNKS in footing.economies else 0
            rendered = resident.render(
                replace(request, most_at_once=footing.most_at_once, frames_at_once=frames_at_once),
                controls,
            )
            peak = self._memory.part_peak_bytes()
        self._admission.measured(need, footing, peak=peak, others=others)
        return rendered

    def _has_idle(self) -> bool:
        return self._warm.has_idle_beside(self._model)
