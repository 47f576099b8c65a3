"""Compiled for the shapes that the catalogue names, ahead of the tasks, and never while one waits.

The compiler counts and changes nothing: what a real one makes is tested where there is a device.
"""

import gc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from callsheet.runner.compiled_blocks import CompiledBlocks
from callsheet.runner.context import TaskStopped
from callsheet.runner.pipelines import Pipelines
from callsheet.runner.rendering import ControlNetUse, LoraUse, RenderRequest
from callsheet.runner.stop_gate import StopGate
from callsheet.runner.tuning import Tuner, Tuning
from callsheet.runner.untyped import Untyped, imported
from callsheet.runtime.families import Family
from callsheet.runtime.models import CompileShape
from tests.support.rendering import (
    MODES,
    STEPS,
    Controls,
    Slot,
    contents,
    request_of,
)
from tests.support.stages import Stage
from tests.support.tuning import NAME, CountingCompiler, film, tuned_pipelines

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

ALONE = CompileShape(width=64, height=64)
PAIR = replace(ALONE, items=2)
LONG = timedelta(minutes=5)
LORA = (LoraUse("tiny-sdxl-lora"),)


class Compiled:
    """A model that was compiled for one image and for two, before it was asked for anything."""

    def __init__(self, cache_dir: Path) -> None:
        self.compiler = CountingCompiler()
        self.model = film(Family.SDXL, ALONE, PAIR, cache_dir=cache_dir)
        tuning = Tuning(compiler=self.compiler)
        self.pipelines = tuned_pipelines(self.model, tuning=tuning, cache_dir=cache_dir)
        self.pipelines.warm_up(limit=LONG)
        self.graphs = self.compiler.graphs

    def contents(self, request: RenderRequest, slot: Slot | None = None) -> list[bytes]:
        """Return what becomes of a request."""
        return contents(self.pipelines.get(NAME).render(request, Controls(slot)))


@pytest.fixture(scope="module")
def compiled(cache_dir: Path) -> Compiled:
    return Compiled(cache_dir)


def image(*, count: int = 1, **other: object) -> RenderRequest:
    return request_of(Family.SDXL, MODES[Family.SDXL], count=count, **other)


def usual(stage: Stage) -> list[bytes]:
    return stage.usual(Family.SDXL, MODES[Family.SDXL]).contents


def test_a_model_is_compiled_before_its_first_task(compiled: Compiled, stage: Stage) -> None:
    """Blocks of one kind share what was compiled for one of them."""
    assert compiled.graphs == 2
    rendered = compiled.pipelines.get(NAME).render(image(), Controls())
    assert rendered.tuning["compiled"] == "1 of 64x64; 2 of 64x64"
    # The compiler changes nothing, so neither does the way to it
    assert contents(rendered) == usual(stage)
    compiled.contents(image(count=2))
    assert compiled.compiler.graphs == compiled.graphs


@pytest.mark.parametrize(
    "other",
    [
        {"width": 128},
        {"count": 3},
        {"guidance_scale": 0.0},
        {"controlnet": ControlNetUse("tiny-sdxl-controlnet")},
    ],
)
def test_no_task_waits_for_the_compiler(compiled: Compiled, other: dict[str, Any]) -> None:
    compiled.contents(image(**other))
    assert compiled.compiler.graphs == compiled.graphs


def test_what_was_not_compiled_is_as_it_is_without_a_compiler(
    compiled: Compiled, stage: Stage
) -> None:
    other = image(width=128)
    assert compiled.contents(other) == contents(stage.render(Family.SDXL, other))


def test_loras_on_the_blocks_and_off_again_leave_them_compiled(
    compiled: Compiled, stage: Stage
) -> None:
    with_lora = image(loras=LORA)
    assert compiled.contents(with_lora) == contents(stage.render(Family.SDXL, with_lora))
    assert compiled.contents(image()) == usual(stage)
    assert compiled.compiler.graphs == compiled.graphs


def test_a_task_stops_within_a_step_of_compiled_blocks(compiled: Compiled) -> None:
    counted = Controls()
    compiled.pipelines.get(NAME).render(image(), counted)
    each_step = (counted.checks_at_step[2] - counted.checks_at_step[1]) // 2
    controls = Controls(stop_within=(1, each_step))
    assert each_step > 1
    with pytest.raises(TaskStopped):
        compiled.pipelines.get(NAME).render(image(), controls)
    assert controls.steps[-1] == (1, STEPS)


def test_work_goes_on_from_a_state_bit_for_bit_where_it_is_compiled_the_same_way(
    compiled: Compiled, stage: Stage
) -> None:
    saved = Slot(due=lambda asked: asked == 2)
    whole = compiled.contents(image(), saved)
    resumed = Slot(saved.content)
    assert compiled.contents(image(), resumed) == whole
    assert (resumed.resumed_behind, resumed.refusals) == ([(2, STEPS)], [])
    # Elsewhere the bits would be others
    other = Slot(saved.content)
    stage.render(Family.SDXL, image(), Controls(other))
    assert other.refusals == ["the checkpoint is of another model, input, device or library"]


def test_a_model_that_comes_back_is_not_compiled_again(compiled: Compiled, stage: Stage) -> None:
    compiled.pipelines.clear()
    assert compiled.contents(image()) == usual(stage)
    assert compiled.compiler.graphs == compiled.graphs


def broken(_graph: Untyped, _inputs: Sequence[Untyped]) -> Callable[..., Untyped]:
    raise RuntimeError("there is no C++ compiler here")


def full(_graph: Untyped, _inputs: Sequence[Untyped]) -> Callable[..., Untyped]:
    raise MemoryError


@pytest.mark.parametrize("compiler", [broken, full])
def test_a_shape_that_cannot_be_compiled_is_rendered_all_the_same(
    compiler: Callable[..., Untyped], stage: Stage, cache_dir: Path
) -> None:
    pipelines = pipelines_of(Tuning(compiler=compiler), cache_dir)
    pipelines.warm_up(limit=LONG)
    rendered = pipelines.get(NAME).render(image(), Controls())
    assert rendered.tuning["compiled"] == "nothing"
    assert contents(rendered) == usual(stage)


def pipelines_of(
    tuning: Tuning, cache_dir: Path, *names: str, most_bytes: int = 2**30
) -> Pipelines:
    models = [film(Family.SDXL, ALONE, cache_dir=cache_dir, name=n) for n in names or (NAME,)]
    return tuned_pipelines(*models, tuning=tuning, cache_dir=cache_dir, most_bytes=most_bytes)


def test_what_there_was_no_time_for_is_compiled_by_the_first_task(
    compiled: Compiled, stage: Stage, cache_dir: Path
) -> None:
    pipelines = pipelines_of(Tuning(compiler=compiled.compiler), cache_dir)
    pipelines.warm_up(limit=timedelta(0))
    pipeline, controls = pipelines.get(NAME), Controls()
    rendered = pipeline.render(image(), controls)
    assert rendered.tuning["compiled"] == "1 of 64x64"
    assert contents(rendered) == usual(stage)
    # It counts as loading, and is no step of the task
    assert controls.phases[0] == "LOADING"
    assert controls.steps[0] == (0, STEPS)


def test_a_task_that_is_stopped_while_it_compiles_leaves_that_to_the_next(
    compiled: Compiled, stage: Stage, cache_dir: Path
) -> None:
    pipelines = pipelines_of(Tuning(compiler=compiled.compiler), cache_dir)
    with pytest.raises(TaskStopped):
        pipelines.get(NAME).render(image(), Controls(stop_at=5))
    rendered = pipelines.get(NAME).render(image(), Controls())
    assert rendered.tuning["compiled"] == "1 of 64x64"
    assert contents(rendered) == usual(stage)


def test_models_that_do_not_fit_beside_the_others_are_left_to_their_tasks(
    compiled: Compiled, cache_dir: Path
) -> None:
    room = compiled.pipelines.get(NAME).size_bytes() * 3 // 2
    tuning = Tuning(compiler=compiled.compiler)
    pipelines = pipelines_of(tuning, cache_dir, "one", "two", most_bytes=room)
    pipelines.warm_up(limit=LONG)
    report = pipelines.report()
    assert report is not None
    assert [*report.loaded_models] == ["one"]


def test_a_model_without_shapes_is_not_compiled(stage: Stage, cache_dir: Path) -> None:
    compiler = CountingCompiler()
    model = film(Family.SDXL, cache_dir=cache_dir)
    pipelines = tuned_pipelines(model, tuning=Tuning(compiler=compiler), cache_dir=cache_dir)
    pipelines.warm_up(limit=LONG)
    assert contents(pipelines.get(NAME).render(image(), Controls())) == usual(stage)
    assert compiler.graphs == 0


def test_what_was_compiled_does_not_keep_a_models_weights() -> None:
    torch = imported("torch")
    block = torch.nn.Module()
    weight = block.weight = torch.nn.Parameter(torch.ones(2))
    kept = weakref.ref(weight)
    owner = denoiser_of(block, torch)
    blocks = CompiledBlocks([owner], gate=StopGate(), torch=torch, backend=CountingCompiler())
    with blocks.learning():
        block(torch.ones(2))
    del block, weight, owner, blocks
    gc.collect()
    assert kept() is None


def denoiser_of(block: Untyped, torch: Untyped) -> Untyped:
    """Return a denoiser that repeats the block, which multiplies by its weight."""

    def forward(x: Untyped) -> Untyped:
        return x * block.weight

    block.forward = forward
    owner = torch.nn.Module()
    owner.block = block
    owner._repeated_blocks = [type(block).__name__]
    return owner


@pytest.mark.parametrize(
    "family",
    [Family.SD3, Family.FLUX, Family.LTX, Family.ANIMATEDIFF, Family.SVD, Family.STABLE_AUDIO],
)
def test_every_kind_of_denoiser_has_blocks_that_it_repeats(
    compiled: Compiled, family: Family, cache_dir: Path
) -> None:
    torch, gate = imported("torch"), StopGate()
    model = film(family, CompileShape(width=64, height=64), cache_dir=cache_dir)
    pipeline = imported("diffusers").DiffusionPipeline.from_pretrained(model.path)
    denoiser = pipeline.components.get("unet") or pipeline.transformer
    gate.put_into([denoiser], torch=torch)
    tuner = Tuner(Tuning(compiler=compiled.compiler), torch=torch, device="cpu")
    blocks = tuner.tuned(model, pipeline, gate=gate).blocks
    assert blocks is not None
    assert len(blocks) >= 2
    wrapped = [each for each in denoiser.modules() if "forward" in vars(each)]
    assert len(wrapped) == len(blocks)
    for block in wrapped:
        # It is asked before a block whether to stop, and never within one
        asking = [each for each in block.modules() if each._forward_pre_hooks]
        assert asking == [block]
