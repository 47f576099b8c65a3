"""Attempts that run together: one pass for all, and each has its own progress, end and pictures."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from callsheet.runner.batches import SharedPipelines, grouped, render_together
from callsheet.runner.context import HandlerFailure, TaskStopped
from callsheet.runner.pipelines import Pipelines
from callsheet.runner.rendering import (
    LoadedPipeline,
    Mode,
    RenderControls,
    Rendered,
    RenderItem,
    RenderRequest,
    Reproducibility,
)
from callsheet.runner.turns import Turns
from callsheet.runtime.families import Family
from callsheet.runtime.models import Model
from callsheet.v1.task_pb2 import FAILURE_REASON_INTERNAL
from tests.support.rendering import (
    STEPS,
    Controls,
    Sink,
    built_in,
    contents,
    furthest,
    request_of,
    warm,
)

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

#: In a value of a pixel, from 0 to 255: what rounding may come to.
ROUNDING = 2


def one(number: int, **other: object) -> RenderRequest:
    """Return a request for one image; another number is another image."""
    request = request_of(Family.SDXL, Mode.TEXT_TO_IMAGE)
    return replace(
        request, items=(RenderItem(f"a fox and {number} hens", seed=7 + number),), **other
    )


def run_together(
    pipelines: LoadedPipeline, asked: Sequence[tuple[RenderRequest, RenderControls]]
) -> list[Future[Rendered]]:
    """Render each request in a thread of its own, this one being the inference thread."""
    turns = Turns(len(asked))
    with ThreadPoolExecutor(len(asked)) as threads:

        def attempt(request: RenderRequest, controls: RenderControls) -> Rendered:
            try:
                return turns.render(pipelines, request, controls)
            finally:
                turns.leave()

        futures = [threads.submit(attempt, *each) for each in asked]
        turns.serve(group=grouped, render=render_together)
        return futures


def alone(request: RenderRequest, cache_dir: Path) -> Rendered:
    return warm(Family.SDXL, cache_dir=cache_dir).render(request, Controls())


def test_images_of_one_pass_are_those_of_passes_of_their_own(cache_dir: Path) -> None:
    pipeline = warm(Family.SDXL, cache_dir=cache_dir)
    requests = [one(number) for number in range(3)]
    controls = [Controls() for _ in requests]
    done = run_together(pipeline, [*zip(requests, controls, strict=True)])
    for request, each, rendered in zip(requests, controls, done, strict=True):
        assert rendered.result().bucket == 3
        assert furthest(rendered.result(), alone(request, cache_dir)) <= ROUNDING
        # Each is told of every step of it
        assert each.steps == [(step, STEPS) for step in range(STEPS + 1)]
        assert each.phases[-3:] == ["UNSPECIFIED", "STEPS", "UNSPECIFIED"]
    # They are different images all the same
    assert len({contents(rendered.result())[0] for rendered in done}) == 3


def test_a_pass_of_the_same_size_gives_the_same_bits(cache_dir: Path) -> None:
    pipeline = warm(Family.SDXL, cache_dir=cache_dir)
    # Beside others, and at another place
    first = run_together(pipeline, [(one(0), Controls()), (one(1), Controls())])
    asked = {number: (one(number), Controls()) for number in (0, 2)}
    again = run_together(pipeline, [asked[0], asked[2]])
    assert contents(first[0].result()) == contents(again[0].result())


def test_a_strict_one_is_rendered_alone_to_the_last_bit(cache_dir: Path) -> None:
    pipeline = warm(Family.SDXL, cache_dir=cache_dir)
    strict = one(5, reproducibility=Reproducibility.STRICT)
    done = run_together(
        pipeline, [(strict, Controls()), (one(1), Controls()), (one(2), Controls())]
    )
    assert [rendered.result().bucket for rendered in done] == [1, 2, 2]
    assert contents(done[0].result()) == contents(alone(strict, cache_dir))


def test_who_stops_leaves_and_the_others_go_on(cache_dir: Path) -> None:
    pipeline = warm(Family.SDXL, cache_dir=cache_dir)
    stops, stays = Controls(stop_within=(2, 2)), Controls()
    left, stayed = run_together(pipeline, [(one(0), stops), (one(1), stays)])
    with pytest.raises(TaskStopped):
        left.result()
    # He stopped within the step, and was told nothing more
    assert stops.steps[-1] == (2, STEPS)
    assert stays.steps[-1] == (STEPS, STEPS)
    assert furthest(stayed.result(), alone(one(1), cache_dir)) <= ROUNDING


def test_a_pass_that_nobody_waits_for_ends(cache_dir: Path) -> None:
    pipeline = warm(Family.SDXL, cache_dir=cache_dir)
    both = [Controls(stop_within=(1, 1)), Controls(stop_within=(2, 1))]
    done = run_together(pipeline, [(one(0), both[0]), (one(1), both[1])])
    assert [type(rendered.exception()) for rendered in done] == [TaskStopped, TaskStopped]
    assert both[1].steps[-1] == (2, STEPS)
    # And the model is as usable as before
    assert contents(alone(one(0), cache_dir)) == contents(alone(one(0), cache_dir))


def test_each_is_shown_pictures_of_its_own(cache_dir: Path) -> None:
    pipeline = warm(Family.SDXL, cache_dir=cache_dir)
    sinks = [Sink(1), None, Sink(2)]
    done = run_together(
        pipeline, [(one(number), Controls(sink=sink)) for number, sink in enumerate(sinks)]
    )
    assert all(rendered.result().bucket == 3 for rendered in done)
    mine = Sink(2)
    pipeline.render(one(2), Controls(sink=mine))
    assert sinks[0] is not None
    assert sinks[2] is not None
    assert [step for step, _ in sinks[0].shown] == [1, 2, 3, 4]
    assert [step for step, _ in sinks[2].shown] == [step for step, _ in mine.shown] == [2, 4]
    for (_, shown), (_, expected) in zip(sinks[2].shown, mine.shown, strict=True):
        # One picture each, and the same one
        assert np.stack(shown).shape == np.stack(expected).shape == (1, *shown[0].shape)
        difference = np.stack(shown).astype(np.int16) - np.stack(expected).astype(np.int16)
        assert np.abs(difference).max() <= ROUNDING


class Fragile:
    """A pipeline with a fault: it renders no two things at once, and one of them not at all."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.modes = frozenset({Mode.TEXT_TO_IMAGE})
        self.passes: list[int] = []
        self.on_render: Callable[[], object] = lambda: None

    def render(self, request: RenderRequest, controls: RenderControls) -> Rendered:
        """Fail for a batch, and for the seed 8."""
        del controls
        seeds = [item.seed for item in request.items]
        self.passes.append(len(seeds))
        self.on_render()
        if len(seeds) > 1 or 8 in seeds:
            raise HandlerFailure(FAILURE_REASON_INTERNAL, "that was too much")
        return Rendered((), scheduler=f"{seeds[0]}")


def test_what_goes_wrong_together_is_done_alone_and_fails_whom_it_is_of() -> None:
    pipeline = Fragile(built_in(Family.SDXL))
    done = run_together(pipeline, [(one(number), Controls()) for number in range(3)])
    assert [done[0].result().scheduler, done[2].result().scheduler] == ["7", "9"]
    with pytest.raises(HandlerFailure, match="too much"):
        done[1].result()
    assert pipeline.passes == [3, 1, 1, 1]


def test_what_asks_for_other_steps_is_not_one_pass() -> None:
    pipeline = Fragile(built_in(Family.SDXL))
    done = run_together(pipeline, [(one(0), Controls()), (one(2, steps=9), Controls())])
    assert [rendered.result().scheduler for rendered in done] == ["7", "9"]
    assert pipeline.passes == [1, 1]


class Threads:
    """Pipelines that tell in which thread they were asked for, and wait until they may be found."""

    def __init__(self) -> None:
        self.asked_in: list[int] = []
        self.found = threading.Event()

    def get(self, name: str, *, mode: Mode | None = None) -> LoadedPipeline:
        """Find a pipeline, when the test says so."""
        del mode
        self.asked_in.append(threading.get_ident())
        assert self.found.wait(60)
        if not name:
            raise HandlerFailure(FAILURE_REASON_INTERNAL, "there is none")
        return Fragile(built_in(Family.SDXL))


def test_models_are_found_in_the_inference_thread() -> None:
    turns, pipelines = Turns(2), Threads()
    shared = SharedPipelines(cast("Pipelines", pipelines), turns, check=lambda: None)
    pipelines.found.set()

    def attempt(name: str) -> str:
        try:
            return shared.get(name).model.name
        finally:
            turns.leave()

    with ThreadPoolExecutor(2) as threads:
        found, missed = threads.submit(attempt, "one"), threads.submit(attempt, "")
        turns.serve(group=grouped, render=render_together)
    assert found.result() == built_in(Family.SDXL).name
    with pytest.raises(HandlerFailure, match="there is none"):
        missed.result()
    assert pipelines.asked_in == [threading.get_ident()] * 2


def test_who_must_stop_does_not_wait_for_a_model() -> None:
    turns, pipelines, stop = Turns(1), Threads(), threading.Event()

    def check() -> None:
        if stop.is_set():
            raise TaskStopped

    shared = SharedPipelines(cast("Pipelines", pipelines), turns, check=check)

    def attempt() -> None:
        try:
            shared.get("one")
        finally:
            # Only now is the model there
            pipelines.found.set()
            turns.leave()

    with ThreadPoolExecutor(1) as threads:
        stopped = threads.submit(attempt)
        stop.set()
        turns.serve(group=grouped, render=render_together)
    assert isinstance(stopped.exception(), TaskStopped)


def test_who_must_stop_does_not_wait_for_the_pass_of_others() -> None:
    pipeline, turns = Fragile(built_in(Family.SDXL)), Turns(3)
    begun, stop = threading.Event(), Controls(stop_at=1)
    pipeline.on_render = lambda: (begun.set(), left.wait(60))
    left = threading.Event()

    def attempt(request: RenderRequest, controls: RenderControls) -> Rendered:
        try:
            return turns.render(pipeline, request, controls)
        finally:
            left.set() if controls is stop else None
            turns.leave()

    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(attempt, one(0), Controls())
        strict = threads.submit(attempt, one(2, steps=9), stop)
        alone_too = threads.submit(attempt, one(2, steps=8), Controls())
        turns.serve(group=grouped, render=render_together)
    assert isinstance(strict.exception(), TaskStopped)
    assert [first.result().scheduler, alone_too.result().scheduler] == ["7", "9"]


def test_a_rendering_does_not_wait_for_ever_for_others() -> None:
    pipeline, turns = Fragile(built_in(Family.SDXL)), Turns(2, patience=timedelta(0))
    rendered = threading.Event()
    with ThreadPoolExecutor(2) as threads:

        def first() -> Rendered:
            try:
                return turns.render(pipeline, one(0), Controls())
            finally:
                rendered.set()
                turns.leave()

        def second() -> bool:
            # Wants nothing before the first one is done
            waited = rendered.wait(60)
            turns.leave()
            return waited

        one_done, other_done = threads.submit(first), threads.submit(second)
        turns.serve(group=grouped, render=render_together)
    assert one_done.result().scheduler == "7"
    assert other_done.result()
