"""Has models compiled for the shapes that the catalogue names, by rendering each once."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, cast

import structlog

from callsheet.runner.adapters import ADAPTERS, takes_words
from callsheet.runner.compiled_blocks import CompiledBlocks
from callsheet.runner.failures import is_out_of_memory
from callsheet.runner.refusals import takes_image
from callsheet.runner.rendering import RenderControls, RenderItem, RenderRequest
from callsheet.runner.warm_models import WarmModels
from callsheet.runtime.models import CompileShape, Model
from callsheet.v1.task_pb2 import ProgressPhase

#: The second one begins where a first step ends.
_STEPS: Final = 2

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


@dataclass(frozen=True)
class _Alone:
    """RenderControls of a rendering that nobody looks at."""

    check: Callable[[], None]
    checkpoints: None = None
    previews: None = None

    def on_step(self, step: int, of: int) -> None:
        """Tell nobody."""

    def remark(self, remark: str) -> None:
        """Tell nobody."""

    def enter(self, phase: ProgressPhase.ValueType) -> None:
        """Tell nobody."""


class ShapeWarmUp:
    """What a model is still to be compiled for, and what it was."""

    def __init__(self, model: Model, blocks: CompiledBlocks | None) -> None:
        """Without *blocks* there is nothing to do."""
        self._model = model
        self._blocks = blocks
        self._pending = [] if blocks is None else list(dict.fromkeys(model.compile_shapes))
        self._compiled: list[CompileShape] = []

    @property
    def is_pending(self) -> bool:
        """Whether there is something to do."""
        return bool(self._pending)

    @property
    def compiled(self) -> tuple[CompileShape, ...]:
        """The shapes that it was compiled for."""
        return tuple(self._compiled)

    def run(
        self,
        render: Callable[[RenderRequest, RenderControls], object],
        *,
        check: Callable[[], None],
        is_time: Callable[[], bool] = lambda: True,
    ) -> None:
        """Render each pending shape once, as long as there is time; *check* may end it before.

        A shape that fails is left uncompiled, and the log says why.
        """
        while self._pending and is_time():
            shape = self._pending[0]
            if self._is_learned(shape, partial(render, self._request(shape), _Alone(check))):
                self._compiled.append(shape)
            self._pending.pop(0)

    def _is_learned(self, shape: CompileShape, render: Callable[[], object]) -> bool:
        if self._blocks is None:
            raise AssertionError("without blocks nothing is pending")
        told = {"model": self._model.name, "shape": str(shape)}
        _log.info("shape_compiling", **told, left=len(self._pending))
        start = time.monotonic()
        try:
            with self._blocks.learning():
                render()
        except Exception as error:  # noqa: BLE001 - of the compiler and all its parts
            reason = "memory ran out" if is_out_of_memory(error) else repr(error)
            _log.warning("shape_not_compiled", **told, reason=reason)
            return False
        _log.info("shape_compiled", **told, seconds=round(time.monotonic() - start, 1))
        return True

    def _request(self, shape: CompileShape) -> RenderRequest:
        """Return a request of that shape, as most tasks of the model are."""
        import numpy as np

        model = self._model
        mode, use = next(iter(ADAPTERS[model.family].items()))
        size = shape.height, shape.width, 3
        image = np.zeros(size, np.uint8) if takes_image(mode) else None
        words = "a warm-up" if takes_words(use) else ""
        return RenderRequest(
            mode=mode,
            items=tuple(RenderItem(words, seed=n, image=image) for n in range(shape.items)),
            width=shape.width,
            height=shape.height,
            steps=_STEPS,
            guidance_scale=model.default_guidance_scale,
            frames=max(1, shape.frames),
            duration=model.default_duration,
        )


def prepare_models(models: Iterable[Model], warm: WarmModels, *, limit: timedelta) -> None:
    """Load models and have them compiled, as many as fit beside each other.

    After the limit nothing more is begun. What is left out is done when a task needs it.
    """
    start, room = time.monotonic(), warm.most_bytes
    end = start + limit.total_seconds()

    def is_time() -> bool:
        return time.monotonic() < end

    _log.info("warm_up_started", limit_seconds=limit.total_seconds())
    for model in models:
        if reason := _why_cold(warm.weigh(model), room=room, is_time=is_time()):
            _log.warning("model_left_cold", model=model.name, reason=reason)
            continue
        try:
            with warm.in_use(model) as resident:
                resident.prepare(check=_go_on, is_time=is_time)
                room -= resident.size_bytes()
        except Exception as error:  # noqa: BLE001 - the task that needs the model is told
            _log.warning("model_left_cold", model=model.name, reason=repr(error))
    seconds = round(time.monotonic() - start, 1)
    _log.info("warm_up_finished", models=list(warm.names()), seconds=seconds)


def _why_cold(need: int, *, room: int, is_time: bool) -> str:
    """Return why a model whose weights take so much is not loaded ahead; empty: it is."""
    if not is_time:
        return "the time for it is up"
    if not need:
        return "its files are not here yet"
    return "" if need <= room else "there is no room beside the others"


def _go_on() -> None:
    """Nobody stops what no task asked for."""
