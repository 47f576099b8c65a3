"""Every mode of every family, with the real libraries and tiny models."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from callsheet.runner.adapters import ADAPTERS
from callsheet.runner.context import TaskStopped
from callsheet.runner.rendering import (
    LoraUse,
    Mode,
    RenderRequest,
    Reproducibility,
)
from callsheet.runner.tiny.folders import built_in_folder
from callsheet.runner.untyped import imported
from callsheet.runtime.families import FAMILIES, Family, Medium
from callsheet.tasks.v1.generate_image_pb2 import (
    SCHEDULER_DPMPP_2M,
    SCHEDULER_UNIPC,
    Scheduler,
)
from tests.support.rendering import (
    STEPS,
    Controls,
    Slot,
    built_in,
    contents,
    furthest,
    item,
    request_of,
)
from tests.support.stages import Stage, state_behind, walk_of

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

torch, diffusers = imported("torch"), imported("diffusers")

USES = [(family, mode) for family, uses in ADAPTERS.items() for mode in uses]
BATCHES = [(family, mode) for family, mode in USES if ADAPTERS[family][mode].batches]
every_use = pytest.mark.parametrize(("family", "mode"), USES)


def test_every_mode_of_every_family_has_its_adapter() -> None:
    spoken = {Family.VITS}
    assert set(ADAPTERS) == set(Family) - spoken
    assert {family: set(uses) for family, uses in ADAPTERS.items()} == {
        family: set(FAMILIES[family].modes) for family in ADAPTERS
    }


@every_use
def test_every_mode_gives_what_it_is_for(stage: Stage, family: Family, mode: Mode) -> None:
    rendered = stage.usual(family, mode).rendered
    model, (made,) = built_in(family), rendered.items
    assert stage.warm(family).modes == model.modes
    assert rendered.scheduler
    assert set(rendered.versions) == {"diffusers", "peft", "torch", "transformers"}
    if model.traits.medium is Medium.AUDIO:
        assert made.audio is not None
        assert (made.audio.dtype, made.audio.shape) == (np.float32, (2, 4000))
        assert rendered.sample_rate == 16_000
        assert made.audio.std() > 0
        return
    assert made.frames is not None
    assert made.frames.shape == (request_of(family, mode).frames, 64, 64, 3)
    assert made.frames.dtype == np.uint8
    assert made.frames.std() > 1


@every_use
def test_every_step_is_told_and_before_them_that_they_begin(
    stage: Stage, family: Family, mode: Mode
) -> None:
    usual, steps = stage.usual(family, mode), walk_of(mode)
    assert usual.controls.steps == [(step, steps) for step in range(steps + 1)]
    assert usual.controls.phases == ["LOADING", "UNSPECIFIED", "STEPS", "UNSPECIFIED"]
    assert usual.slot.saved == [(2, steps)]


@every_use
def test_a_rendering_stops_within_a_step_and_another_goes_on_to_the_same_bits(
    stage: Stage, family: Family, mode: Mode
) -> None:
    usual, steps = stage.usual(family, mode), walk_of(mode)
    request = request_of(family, mode)
    # The second question is one within the second step.
    stopped = Controls(stop_within=(1, 2))
    with pytest.raises(TaskStopped):
        stage.render(family, request, stopped)
    assert stopped.steps == [(0, steps), (1, steps)]
    # Stopped there it is as usable as before, and the state of another one is all it takes.
    slot = Slot(usual.slot.content)
    controls = Controls(slot)
    assert contents(stage.render(family, request, controls)) == usual.contents
    assert controls.steps == [(step, steps) for step in range(2, steps + 1)]
    assert (slot.resumed_behind, slot.refusals) == ([(2, steps)], [])


@pytest.mark.parametrize("is_late", [False, True], ids=["reads", "decodes"])
def test_a_rendering_stops_while_it_reads_the_prompt_and_while_it_decodes(
    stage: Stage, *, is_late: bool
) -> None:
    request = request_of(Family.WAN, Mode.TEXT_TO_VIDEO)
    usual = stage.usual(Family.WAN, Mode.TEXT_TO_VIDEO)
    again = Controls()
    stage.render(Family.WAN, request, again)
    if is_late:
        stopped = Controls(stop_at=again.checks - 1)
    else:
        request = replace(request, items=(item(Mode.TEXT_TO_VIDEO, number=8),))
        stopped = Controls(stop_at=again.checks_at_step[0] + 1)
    with pytest.raises(TaskStopped):
        stage.render(Family.WAN, request, stopped)
    assert len(stopped.steps) == (STEPS + 1 if is_late else 0)
    rendered = stage.render(Family.WAN, request_of(Family.WAN, Mode.TEXT_TO_VIDEO))
    assert contents(rendered) == usual.contents


@pytest.mark.parametrize("scheduler", Scheduler.values())
def test_a_rendering_goes_on_with_every_scheduler(
    stage: Stage, scheduler: Scheduler.ValueType
) -> None:
    """The multistep ones remember the steps before, and the ancestral one makes noise."""
    request = request_of(Family.SDXL, Mode.TEXT_TO_IMAGE, scheduler=scheduler)
    usual = stage.render(Family.SDXL, request)
    state = Slot(state_behind(stage, Family.SDXL, request, 3))
    assert contents(stage.render(Family.SDXL, request, Controls(state))) == contents(usual)
    assert state.resumed_behind == [(3, STEPS)]


def test_a_rendering_goes_on_behind_its_last_step(stage: Stage) -> None:
    """Nothing is denoised then, which is told, and the result is decoded again."""
    request = request_of(Family.SDXL, Mode.TEXT_TO_IMAGE)
    controls = Controls(Slot(state_behind(stage, Family.SDXL, request, STEPS)))
    usual = stage.usual(Family.SDXL, Mode.TEXT_TO_IMAGE)
    assert contents(stage.render(Family.SDXL, request, controls)) == usual.contents
    assert controls.steps == [(STEPS, STEPS)]


def test_of_several_walks_those_that_are_done_are_not_walked_again(stage: Stage) -> None:
    request = request_of(
        Family.SDXL, Mode.TEXT_TO_IMAGE, count=3, reproducibility=Reproducibility.STRICT
    )
    usual = stage.render(Family.SDXL, request)
    controls = Controls(Slot(state_behind(stage, Family.SDXL, request, STEPS + 2)))
    assert contents(stage.render(Family.SDXL, request, controls)) == contents(usual)
    assert controls.steps[0] == (STEPS + 2, 3 * STEPS)
    assert controls.steps[-1] == (3 * STEPS, 3 * STEPS)


OTHERS: list[Callable[[RenderRequest], RenderRequest]] = [
    lambda asked: replace(asked, items=(replace(asked.items[0], seed=1),)),
    lambda asked: replace(asked, items=(replace(asked.items[0], prompt="a cow"),)),
    lambda asked: replace(asked, items=(replace(asked.items[0], negative_prompt="a cow"),)),
    lambda asked: replace(asked, items=(item(Mode.IMAGE_TO_IMAGE, number=1),)),
    lambda asked: replace(asked, steps=STEPS + 1),
    lambda asked: replace(asked, guidance_scale=1.5),
    lambda asked: replace(asked, strength=0.9),
    lambda asked: replace(asked, scheduler=SCHEDULER_UNIPC),
    lambda asked: replace(asked, loras=(LoraUse("tiny-sdxl-lora"),)),
]


@pytest.mark.parametrize("other", OTHERS)
def test_a_state_of_another_request_is_refused_and_the_work_starts_anew(
    stage: Stage, other: Callable[[RenderRequest], RenderRequest]
) -> None:
    request = other(request_of(Family.SDXL, Mode.IMAGE_TO_IMAGE))
    slot = Slot(stage.usual(Family.SDXL, Mode.IMAGE_TO_IMAGE).slot.content)
    controls = Controls(slot)
    resumed = stage.render(Family.SDXL, request, controls)
    assert controls.steps[0][0] == 0
    assert slot.refusals == ["the checkpoint is of another model, input, device or library"]
    assert contents(resumed) == contents(stage.render(Family.SDXL, request))


def test_bytes_that_are_no_state_are_refused(stage: Stage) -> None:
    slot = Slot(b"no state at all")
    rendered = stage.render(
        Family.SDXL, request_of(Family.SDXL, Mode.TEXT_TO_IMAGE), Controls(slot)
    )
    assert slot.refusals == ["the checkpoint cannot be read: it has no header"]
    assert contents(rendered) == stage.usual(Family.SDXL, Mode.TEXT_TO_IMAGE).contents


@pytest.mark.parametrize(("family", "mode"), BATCHES)
def test_an_item_of_a_batch_is_what_it_is_alone_but_for_rounding(
    stage: Stage, family: Family, mode: Mode
) -> None:
    alone = stage.usual(family, mode).rendered
    together = stage.render(family, request_of(family, mode, count=2))
    assert (alone.bucket, together.bucket) == (1, 2)
    assert furthest(alone, together) <= (1 if alone.items[0].audio is None else 1e-5)


def test_a_strict_item_is_what_it_is_alone_to_the_last_bit(stage: Stage) -> None:
    alone = stage.usual(Family.SDXL, Mode.TEXT_TO_IMAGE).rendered
    request = request_of(
        Family.SDXL, Mode.TEXT_TO_IMAGE, count=2, reproducibility=Reproducibility.STRICT
    )
    strict = stage.render(Family.SDXL, request)
    assert contents(strict)[:1] == contents(alone)
    assert strict.bucket == 1


def test_items_come_back_in_their_order_whatever_shared_a_batch(stage: Stage) -> None:
    """With words to avoid and without are two kinds of work: neither may change the other."""
    plain, avoiding = (item(Mode.TEXT_TO_IMAGE, number=number) for number in (0, 1))
    avoiding = replace(avoiding, negative_prompt="snow")
    request = request_of(Family.SDXL, Mode.TEXT_TO_IMAGE)
    both = stage.render(Family.SDXL, replace(request, items=(plain, avoiding)))
    each = [stage.render(Family.SDXL, replace(request, items=(one,))) for one in (plain, avoiding)]
    assert contents(both) == [*contents(each[0]), *contents(each[1])]


def test_words_that_were_read_before_are_not_read_again_and_give_the_same_bits(
    stage: Stage,
) -> None:
    words = replace(item(Mode.TEXT_TO_IMAGE), prompt="words that nothing else here has")
    request = request_of(Family.SD3, Mode.TEXT_TO_IMAGE, items=(words,))
    first, again = Controls(), Controls()
    usual = stage.render(Family.SD3, request, first)
    assert contents(stage.render(Family.SD3, request, again)) == contents(usual)
    assert again.checks_at_step[0] < first.checks_at_step[0]


@every_use
def test_what_is_rendered_can_be_seen_on_the_way(stage: Stage, family: Family, mode: Mode) -> None:
    shown = stage.usual(family, mode).sink.shown
    if built_in(family).traits.medium is Medium.AUDIO:
        assert shown == []
        return
    assert [step for step, _ in shown] == list(range(2, walk_of(mode) + 1, 2))
    side = {Family.LTX: 2, Family.UPSCALER: 16}.get(family, 8)
    for _, pictures in shown:
        assert [picture.shape for picture in pictures] == [(side, side, 3)]
        assert {picture.dtype for picture in pictures} == {np.dtype(np.uint8)}


def test_who_follows_a_rendering_does_not_change_it(stage: Stage) -> None:
    """With states, previews and checks it is what the bare pipeline of diffusers gives."""
    request = request_of(Family.SDXL, Mode.TEXT_TO_IMAGE)
    (one,) = request.items
    bare = diffusers.StableDiffusionXLPipeline.from_pretrained(
        built_in_folder("tiny-random", cache_dir=stage.cache_dir), local_files_only=True
    )
    bare.set_progress_bar_config(disable=True)
    (image,) = bare(
        one.prompt,
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(one.seed),
    ).images
    assert stage.usual(Family.SDXL, Mode.TEXT_TO_IMAGE).contents == [image.tobytes()]


def test_a_scheduler_of_one_mode_leaves_the_others_as_they_were(stage: Stage) -> None:
    """They share their parts, and each walk has a scheduler of its own."""
    usual = stage.usual(Family.SD15, Mode.IMAGE_TO_IMAGE)
    drawn = request_of(Family.SD15, Mode.TEXT_TO_IMAGE, scheduler=SCHEDULER_DPMPP_2M)
    rendered = stage.render(Family.SD15, drawn)
    assert rendered.scheduler == "DPMSolverMultistepScheduler"
    again = stage.render(Family.SD15, request_of(Family.SD15, Mode.IMAGE_TO_IMAGE))
    assert (contents(again), again.scheduler) == (usual.contents, usual.rendered.scheduler)


def test_the_interface_of_handlers_is_light() -> None:
    """The worker imports handlers too; numpy and torch would take seconds."""
    code = (
        "import sys; import callsheet.runner.rendering;"
        " print([name for name in ('torch', 'diffusers', 'PIL', 'numpy') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[]"
