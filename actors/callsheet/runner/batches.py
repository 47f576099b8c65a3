"""Renderings of several attempts as one, which each of them sees as its own."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Final, cast

import structlog

from callsheet.runner.context import TaskStopped
from callsheet.runner.pipelines import Pipelines
from callsheet.runner.quality import Agreement
from callsheet.runner.rendering import (
    CheckpointSlot,
    LoadedPipeline,
    Mode,
    Pixels,
    PreviewSink,
    RenderControls,
    Rendered,
    RenderRequest,
    Reproducibility,
)
from callsheet.runner.turns import Passes, RenderWish, Turns
from callsheet.runtime.models import Model
from callsheet.v1.task_pb2 import ProgressPhase

_ITEMS: Final = "items"

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class SharedPipelines:
    """The models of a runner for the thread of one of several attempts that run together."""

    def __init__(self, pipelines: Pipelines, turns: Turns, *, check: Callable[[], None]) -> None:
        """*check* raises TaskStopped when the attempt must stop."""
        self._pipelines = pipelines
        self._turns = turns
        self._check = check

    def get(self, name: str, *, mode: Mode | None = None) -> LoadedPipeline:
        """Return the pipeline of a model, as Pipelines.get does."""
        pipeline = self._turns.call(lambda: self._pipelines.get(name, mode=mode), check=self._check)
        return _SharedPipeline(pipeline, self._turns, check=self._check)

    def agreement(self) -> Agreement | None:
        """Return what tells how well images agree with words, as Pipelines.agreement does."""
        agreement = self._turns.call(self._pipelines.agreement, check=self._check)
        if agreement is None:
            return None
        return _SharedAgreement(agreement, self._turns, check=self._check)


class _SharedPipeline:
    def __init__(
        self, pipeline: LoadedPipeline, turns: Turns, *, check: Callable[[], None]
    ) -> None:
        self._pipeline = pipeline
        self._turns = turns
        self._check = check

    @property
    def model(self) -> Model:
        return self._pipeline.model

    @property
    def modes(self) -> frozenset[Mode]:
        return self._turns.call(lambda: self._pipeline.modes, check=self._check)

    def render(self, request: RenderRequest, controls: RenderControls) -> Rendered:
        return self._turns.render(self._pipeline, request, controls)


class _SharedAgreement:
    def __init__(self, agreement: Agreement, turns: Turns, *, check: Callable[[], None]) -> None:
        self._agreement = agreement
        self._turns = turns
        self._check = check

    def with_words(self, words: str, images: Sequence[bytes]) -> Sequence[float]:
        return self._turns.call(
            lambda: self._agreement.with_words(words, images), check=self._check
        )


def grouped(wishes: Sequence[RenderWish]) -> Passes:
    """Return renderings in as few passes as what they have in common allows."""
    groups: dict[tuple[object, ...], list[RenderWish]] = {}
    for wish in wishes:
        groups.setdefault(_pass_of(wish), []).append(wish)
    return list(groups.values())


def render_together(group: Sequence[RenderWish]) -> Passes:
    """Settle the renderings of one pass; return which of them are to be rendered alone."""
    waiting = [wish for wish in group if not wish.is_settled]
    if len(waiting) > 1:
        _render_group(waiting)
        return [[wish] for wish in waiting if not wish.is_settled]
    for wish in waiting:
        wish.settle(partial(wish.pipeline.render, wish.request, wish.controls))
    return ()


def _pass_of(wish: RenderWish) -> tuple[object, ...]:
    """Return what renderings must share to be one; of a strict one, what nobody else has."""
    request = wish.request
    shared = (getattr(request, each.name) for each in fields(request) if each.name != _ITEMS)
    alone = id(wish) if request.reproducibility is Reproducibility.STRICT else 0
    # With words to avoid and without are two passes.
    avoids = bool(request.items[0].negative_prompt)
    return (wish.pipeline.model.name, *shared, avoids, alone)


def _render_group(group: Sequence[RenderWish]) -> None:
    """Render as one; whoever has stopped meanwhile is settled, and of an error nobody else is."""
    first = group[0]
    request = replace(
        first.request, items=tuple(item for wish in group for item in wish.request.items)
    )
    controls = _BatchControls(group)
    try:
        rendered = first.pipeline.render(request, controls)
    except TaskStopped:
        return  # all of them
    except Exception as error:  # noqa: BLE001 - it may be of one of them: each is rendered alone
        _log.warning("batch_not_rendered", model=first.pipeline.model.name, error=repr(error))
        error.__traceback__ = None  # its frames hold what filled the memory
        return
    start = 0
    for wish in group:
        end = start + len(wish.request.items)
        wish.settle(partial(replace, rendered, items=rendered.items[start:end]))
        start = end


class _BatchControls:
    """The controls of a pass: what it tells goes to all who are still there."""

    def __init__(self, group: Sequence[RenderWish]) -> None:
        self._group = group
        self._previews = _BatchPreviews.of(group)

    @property
    def checkpoints(self) -> CheckpointSlot | None:
        # A state of the whole is of no use to one of them alone.
        return None

    @property
    def previews(self) -> PreviewSink | None:
        return self._previews

    def check(self) -> None:
        """Let go of who must stop; the pass stops when nobody is left."""
        for wish in self._group:
            if wish.is_settled:
                continue
            try:
                wish.controls.check()
            except TaskStopped as stopped:
                wish.fail(stopped)
        if all(wish.is_settled for wish in self._group):
            raise TaskStopped

    def on_step(self, step: int, of: int) -> None:
        for wish in self._present():
            try:
                wish.controls.on_step(step, of)
            except TaskStopped as stopped:
                wish.fail(stopped)

    def remark(self, remark: str) -> None:
        for wish in self._present():
            wish.controls.remark(remark)

    def enter(self, phase: ProgressPhase.ValueType) -> None:
        for wish in self._present():
            wish.controls.enter(phase)

    def _present(self) -> list[RenderWish]:
        return [wish for wish in self._group if not wish.is_settled]


class _BatchPreviews:
    """Pictures of a pass, each for the attempt whose item it shows."""

    def __init__(self, group: Sequence[RenderWish], *, every_steps: int) -> None:
        self._group = group
        self._every_steps = every_steps
        self._shown = [0] * len(group)

    @classmethod
    def of(cls, group: Sequence[RenderWish]) -> "_BatchPreviews | None":
        sinks = [wish.controls.previews for wish in group]
        wanted = [sink.every_steps for sink in sinks if sink is not None]
        return cls(group, every_steps=min(wanted)) if wanted else None

    @property
    def every_steps(self) -> int:
        return self._every_steps

    def show(self, pictures: tuple[Pixels, ...], *, step: int, of: int) -> None:
        if len(pictures) != sum(len(wish.request.items) for wish in self._group):
            return  # too little memory made several passes of it
        start = 0
        for place, wish in enumerate(self._group):
            end = start + len(wish.request.items)
            sink = wish.controls.previews
            is_due = sink is not None and step - self._shown[place] >= sink.every_steps
            if sink is not None and is_due and not wish.is_settled:
                self._shown[place] = step
                sink.show(pictures[start:end], step=step, of=of)
            start = end
