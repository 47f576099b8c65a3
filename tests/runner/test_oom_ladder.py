"""When memory runs out: an allocator with a limit, at one known place of a real tiny model."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from callsheet.runner.context import HandlerFailure, TaskStopped
from callsheet.runner.memory_ladder import FREE, Economy, Footing, Ladder, rung_below
from callsheet.runner.pipelines import Pipelines
from callsheet.runner.rendering import Mode, RenderRequest, Reproducibility
from callsheet.runner.untyped import Untyped, imported
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.runtime.families import Family
from callsheet.runtime.memory_needs import ShapeBucket
from callsheet.runtime.models import TINY_RANDOM
from callsheet.v1.task_pb2 import FAILURE_REASON_OUT_OF_MEMORY
from tests.support.rendering import MODES, STEPS, Controls, built_in, contents, furthest, request_of

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

torch = imported("torch")
TILES = frozenset({Economy.TILES})
ALL = frozenset(Economy)


class Stage:
    """The tiny model, whose parts may be given a limit."""

    def __init__(self, cache_dir: Path, *, family: Family = Family.SDXL) -> None:
        self.pipelines = Pipelines(
            load_catalogue(None), device="cpu", cache_dir=cache_dir, most_host_bytes=2**31
        )
        self.model = built_in(family)
        self.tiny = self.pipelines.get(self.model.name)

    @property
    def warm(self) -> list[str]:
        report = self.pipelines.report()
        assert report is not None
        return list(report.loaded_models)

    @contextmanager
    def limit(self, part: str, fits: Callable[[Untyped], bool]) -> Generator[list[int]]:
        """Let memory run out in a part, where the tensor that it is given is too large.

        Yields the sizes of the tensors that were.
        """
        refused: list[int] = []

        def allocate(_: Untyped, given: tuple[Untyped, ...]) -> None:
            if not fits(given[0]):
                refused.append(int(given[0].numel()))
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

        handle = self._module(part).register_forward_pre_hook(allocate)
        try:
            yield refused
        finally:
            handle.remove()

    def _module(self, part: str) -> Untyped:
        warm = self.tiny._warm  # pyright: ignore[reportPrivateUsage]  # a test of a fault reaches for the part that fails
        module = cast("Untyped", warm.get(self.model))._base
        for name in part.split("."):
            module = getattr(module, name)
        return module


@pytest.fixture
def stage(cache_dir: Path) -> Stage:
    return Stage(cache_dir)


def request(*, count: int = 1, side: int = 64, **other: object) -> RenderRequest:
    asked = request_of(Family.SDXL, Mode.TEXT_TO_IMAGE, count=count, **other)
    return replace(asked, width=side, height=side)


def test_decoding_in_tiles_makes_do_with_less_and_the_next_task_begins_so(stage: Stage) -> None:
    asked = request(side=128)
    usual = stage.tiny.render(asked, Controls())
    with stage.limit("vae.decoder", in_tiles) as refused:
        first, second = Controls(), Controls()
        rendered = stage.tiny.render(asked, first)
        assert (len(refused), len(first.remarks)) == (1, 1)
        assert "memory ran out" in first.remarks[0]
        assert "tiles" in first.remarks[0]
        again = stage.tiny.render(asked, second)
        assert (len(refused), second.remarks) == (1, [])
    assert contents(again) == contents(rendered)
    assert rendered.items[0].frames is not None
    assert rendered.items[0].frames.shape == (1, 128, 128, 3)
    assert furthest(rendered, usual) < 128


def test_what_memory_runs_out_for_in_decoding_is_decoded_again_and_not_rendered(
    stage: Stage,
) -> None:
    """The steps are gone on from where they ended, and the result is that of tiles alone."""
    asked = request(side=128, count=2)
    denoised: list[int] = []

    def counted(latents: Untyped) -> bool:
        denoised.append(int(latents.shape[0]))
        return True

    controls = Controls()
    with stage.limit("unet.conv_in", counted), stage.limit("vae.decoder", in_tiles) as refused:
        rendered = stage.tiny.render(asked, controls)
        assert (len(denoised), STEPS) == (STEPS, asked.steps)
        tiled = stage.tiny.render(asked, Controls())
        assert len(denoised) == 2 * STEPS
    assert len(refused) == 1
    assert [step for step, _ in controls.steps] == [*range(STEPS + 1), STEPS]
    assert contents(rendered) == contents(tiled)


def test_a_smaller_batch_begins_anew(stage: Stage) -> None:
    """Its walks are others than those that memory ran out for."""
    asked = request(count=2)
    with stage.limit("vae.decoder", lambda latents: latents.shape[0] < 2) as refused:
        first = stage.tiny.render(asked, Controls())
    assert refused
    assert furthest(first, stage.tiny.render(asked, Controls())) <= 1


def in_tiles(latents: Untyped) -> bool:
    """Tell whether a decoder was given no more than a tile of 64 pixels."""
    return latents.shape[-1] <= 8


def test_another_size_and_tasks_without_need_are_as_they_were(stage: Stage) -> None:
    small, usual = request(), stage.tiny.render(request(), Controls())
    with stage.limit("vae.decoder", in_tiles):
        stage.tiny.render(request(side=128), Controls())
        assert contents(stage.tiny.render(small, Controls())) == contents(usual)


def test_a_smaller_batch_makes_do_with_less(stage: Stage) -> None:
    asked = request(count=4)
    usual = stage.tiny.render(asked, Controls())
    # With guidance, every item is two in the denoiser.
    with stage.limit("unet", lambda latents: latents.shape[0] <= 4) as refused:
        controls = Controls()
        rendered = stage.tiny.render(asked, controls)
    assert len(refused) == 2
    assert ["tiles" in remark for remark in controls.remarks] == [True, True]
    assert "at most 2 rendered at once" in controls.remarks[-1]
    assert (usual.bucket, rendered.bucket) == (4, 2)
    assert len(rendered.items) == 4
    assert furthest(usual, rendered) <= 1


def test_before_anything_else_idle_models_make_room(stage: Stage) -> None:
    stage.pipelines.get("tiny-sd15")
    with stage.limit("unet", lambda _: stage.warm == [TINY_RANDOM]) as refused:
        controls = Controls()
        rendered = stage.tiny.render(request(), controls)
    assert len(refused) == 1
    assert controls.remarks == ["memory ran out; again, and idle models were put away"]
    assert contents(rendered) == contents(stage.tiny.render(request(), Controls()))


def test_below_the_last_rung_it_fails_and_the_next_task_succeeds(stage: Stage) -> None:
    usual = stage.tiny.render(request(), Controls())
    with (
        stage.limit("unet", lambda _: False),
        pytest.raises(HandlerFailure) as failed,
    ):
        stage.tiny.render(request(count=2), Controls())
    assert failed.value.reason == FAILURE_REASON_OUT_OF_MEMORY
    assert failed.value.message.startswith("memory ran out for 2 times 64x64 by model tiny-random")
    assert "at most 1 rendered at once" in failed.value.message
    assert failed.value.__context__ is None
    assert stage.warm == []
    assert contents(stage.tiny.render(request(), Controls())) == contents(usual)


@pytest.mark.parametrize(
    ("family", "most", "words"),
    [
        (Family.SVD, 2, "few frames are decoded at once"),
        (Family.ANIMATEDIFF, 1, "pictures are decoded in tiles"),
    ],
)
def test_of_a_video_fewer_frames_are_decoded_at_once(
    cache_dir: Path, family: Family, most: int, words: str
) -> None:
    """An autoencoder without tiles is given a few; one with them takes one after the other."""
    stage = Stage(cache_dir, family=family)
    asked = request_of(family, MODES[family])
    usual = stage.tiny.render(asked, Controls())
    with stage.limit("vae.decoder", lambda latents: latents.shape[0] <= most) as refused:
        controls = Controls()
        rendered = stage.tiny.render(asked, controls)
    assert len(refused) == 1
    assert controls.remarks == [f"memory ran out; again, and {words}"]
    assert rendered.items[0].frames is not None
    assert usual.items[0].frames is not None
    assert rendered.items[0].frames.shape == usual.items[0].frames.shape


def test_what_must_be_exact_is_not_decoded_in_tiles(stage: Stage) -> None:
    asked = request(side=128, reproducibility=Reproducibility.STRICT)
    with (
        stage.limit("vae.decoder", in_tiles) as refused,
        pytest.raises(HandlerFailure),
    ):
        stage.tiny.render(asked, Controls())
    assert len(refused) == 1


def test_another_error_is_nothing_for_the_ladder(stage: Stage) -> None:
    def broken(_: Untyped) -> bool:
        raise ValueError("broken")

    controls = Controls()
    with stage.limit("unet", broken), pytest.raises(ValueError, match="broken"):
        stage.tiny.render(request(), controls)
    assert controls.remarks == []


def test_a_task_that_must_stop_stops_between_two_rungs(stage: Stage) -> None:
    class Stopping(Controls):
        def remark(self, remark: str) -> None:
            super().remark(remark)
            self._stop_at = 0

    controls = Stopping()
    with stage.limit("unet", lambda _: False), pytest.raises(TaskStopped):
        stage.tiny.render(request(), controls)
    assert len(controls.remarks) == 1


def test_what_never_fits_is_refused_before_a_step(cache_dir: Path) -> None:
    small = Pipelines(
        load_catalogue(None),
        device="cpu",
        cache_dir=cache_dir,
        most_host_bytes=2**31,
        host_bytes=30_000_000,
    )
    pipeline, controls = small.get(TINY_RANDOM), Controls()
    with pytest.raises(HandlerFailure, match="would fit") as refused:
        pipeline.render(request(side=1024, reproducibility=Reproducibility.STRICT), controls)
    assert refused.value.reason == FAILURE_REASON_OUT_OF_MEMORY
    assert (controls.steps, controls.phases) == ([], [])
    assert pipeline.render(request(), controls).items


def test_every_rung_costs_more_than_the_one_above_it() -> None:
    footing, seen = FREE, [FREE]
    while lower := rung_below(footing, batch=4, economies=ALL, has_idle=not footing.is_alone):
        seen.append(lower)
        footing = lower
    assert seen[1:] == [
        Footing(is_alone=True),
        Footing(is_alone=True, economies=TILES),
        Footing(is_alone=True, economies=TILES | {Economy.CHUNKS}),
        Footing(is_alone=True, economies=ALL),
        Footing(is_alone=True, economies=ALL, most_at_once=2),
        Footing(is_alone=True, economies=ALL, most_at_once=1),
    ]
    assert len({rung.words for rung in seen}) == len(seen)


def test_the_ladder_remembers_so_many_of_the_newest() -> None:
    ladder = Ladder(most=2)
    buckets = [ShapeBucket("m", Mode.TEXT_TO_IMAGE, "float32", size) for size in range(3)]
    for bucket in buckets:
        ladder.remember(bucket, Footing(most_at_once=1))
    assert [ladder.footing(bucket).most_at_once for bucket in buckets] == [0, 1, 1]
