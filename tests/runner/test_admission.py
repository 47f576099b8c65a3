"""Whether a rendering fits, by what is known before it begins."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from callsheet.runner.admission import Admission, Need, shape_of
from callsheet.runner.context import HandlerFailure
from callsheet.runner.device_memory import DeviceMemory
from callsheet.runner.failures import failure_of
from callsheet.runner.memory_ladder import FREE, INEXACT, Economy, Footing
from callsheet.runner.rendering import Mode, RenderItem, RenderRequest
from callsheet.runtime.families import Family
from callsheet.runtime.memory_fit import gigabytes, largest_that_fits, words_of
from callsheet.runtime.memory_needs import (
    RESERVE_BYTES,
    Shape,
    ShapeBucket,
    least_bytes,
    peak_bytes,
)
from callsheet.runtime.models import Model, built_in_model
from callsheet.v1.task_pb2 import FAILURE_REASON_OUT_OF_MEMORY

GB = 10**9
SDXL = replace(built_in_model(Family.SDXL), name="film", hub_id="x/film")
WAN = replace(built_in_model(Family.WAN), name="reel", hub_id="x/reel")
ALL = frozenset(Economy)


class Gauge:
    """The memory of a device that does not exist."""

    def __init__(self, *, total: int | None, free: int | None = None, peak: int = 0) -> None:
        self.total, self.peak = total, peak
        self._free = free

    def memory_bytes(self) -> int | None:
        """Return what it has."""
        return self.total

    def free_bytes(self) -> int:
        """Return what is free."""
        return self._free if self._free is not None else self.total or 0

    def reset_peak(self) -> None:
        """Forget the peak."""
        self.peak = 0

    def peak_bytes(self) -> int:
        """Return the peak."""
        return self.peak


def admission(*, total: int, free: int | None = None) -> Admission:
    """Return the admission to a device on which models may take so many bytes."""
    gauge = Gauge(total=total + RESERVE_BYTES, free=None if free is None else free + RESERVE_BYTES)
    return Admission(DeviceMemory(gauge, host_bytes=1), dtype="bfloat16")


def need(
    model: Model = SDXL,
    *,
    side: int = 1024,
    batch: int = 1,
    frames: int = 1,
    economies: frozenset[Economy] = ALL,
) -> Need:
    shape = Shape(min(model.modes), width=side, height=side, frames=frames, batch=batch)
    return Need(
        model,
        shape,
        ShapeBucket.of(model, shape, dtype="bfloat16"),
        weights=7 * GB,
        largest_part=5 * GB,
        economies=economies,
    )


def test_what_fits_begins_beside_whatever_is_warm() -> None:
    plane = admission(total=40 * GB)
    assert plane.start(need(), has_idle=True) == FREE
    assert plane.beside(need(), FREE) == 40 * GB - plane.estimate(need()).peak


@pytest.mark.parametrize(
    ("total", "footing"),
    [
        (22, Footing(is_alone=True, economies=frozenset({Economy.TILES}))),
        (17, Footing(is_alone=True, economies=ALL, most_at_once=2)),
        (10, Footing(is_alone=True, economies=ALL, most_at_once=1)),
    ],
)
def test_what_does_not_fit_begins_on_the_first_rung_where_it_should(
    total: int, footing: Footing
) -> None:
    """Tiles of 1024 pixels are of no use for 1024 pixels, and are for more."""
    plane, asked = admission(total=total * GB), need(side=1024, batch=4)
    if total == 22:
        asked = need(side=1536)
        plane = admission(total=15 * GB)
    begun = plane.start(asked, has_idle=True)
    assert begun == footing
    assert plane.beside(asked, begun) == 0


def test_where_a_rung_worked_before_the_next_of_that_size_begins() -> None:
    plane, asked = admission(total=80 * GB), need()
    worked = Footing(economies=frozenset({Economy.TILES}))
    plane.ladder.remember(asked.bucket, worked)
    assert plane.start(asked, has_idle=False) == worked
    assert plane.start(need(side=256), has_idle=False) == FREE


def test_what_never_fits_is_refused_with_what_would() -> None:
    with pytest.raises(HandlerFailure) as refused:
        admission(total=8 * GB).start(need(side=2048, economies=frozenset()), has_idle=True)
    assert refused.value.reason == FAILURE_REASON_OUT_OF_MEMORY
    assert refused.value.message == (
        "model film needs about 25.5 GB for 2048x2048, and there are 8.0 GB here; 448x448 would fit"
    )
    peak = admission(total=40 * GB).estimate(need(side=2048, economies=frozenset())).peak
    assert refused.value.memory_needed_bytes == peak + RESERVE_BYTES
    assert failure_of(refused.value).memory_needed_bytes == peak + RESERVE_BYTES


@pytest.mark.parametrize(("economies", "is_exact"), [(ALL, False), (ALL - INEXACT, True)])
def test_on_the_last_rung_a_device_is_asked_for_as_much_as_at_the_submission(
    economies: frozenset[Economy], *, is_exact: bool
) -> None:
    """So what is accepted for a device is not refused there, and the other way round."""
    asked = need(WAN, side=512, frames=81, batch=2, economies=economies)
    least = least_bytes(
        WAN, asked.shape, largest_part=asked.largest_part, dtype="bfloat16", is_exact=is_exact
    )
    assert admission(total=least - RESERVE_BYTES).start(asked, has_idle=False)
    with pytest.raises(HandlerFailure) as refused:
        admission(total=least - RESERVE_BYTES - 1).start(asked, has_idle=False)
    assert refused.value.memory_needed_bytes == least


def test_of_a_video_fewer_frames_are_told_first() -> None:
    with pytest.raises(HandlerFailure, match=r"\d+ frames of 512x512 would fit"):
        admission(total=9 * GB).start(
            need(WAN, side=512, frames=81, economies=frozenset()), has_idle=False
        )


def test_where_not_even_the_weights_fit_nothing_would() -> None:
    with pytest.raises(HandlerFailure, match="nothing it makes would fit"):
        admission(total=4 * GB).start(need(), has_idle=False)


def test_what_only_others_leave_no_room_for_is_tried_on_the_last_rung() -> None:
    begun = admission(total=40 * GB, free=1 * GB).start(need(batch=2), has_idle=False)
    assert begun == Footing(economies=ALL, most_at_once=1)


def test_a_measured_peak_corrects_the_estimate_of_its_size() -> None:
    plane, asked = admission(total=40 * GB), need()
    plane.measured(asked, FREE, peak=30 * GB, others=5 * GB)
    assert plane.estimate(asked).peak == pytest.approx(25 * GB, rel=1e-6)
    assert plane.estimate(need(side=256)).peak < 10 * GB


def test_a_peak_of_an_economy_or_none_at_all_corrects_nothing() -> None:
    plane, asked = admission(total=40 * GB), need()
    before = plane.estimate(asked)
    plane.measured(asked, Footing(economies=ALL), peak=30 * GB, others=0)
    plane.measured(asked, FREE, peak=0, others=0)
    assert plane.estimate(asked) == before


def test_the_shape_of_an_enlarged_image_is_that_of_what_comes_out() -> None:
    model = built_in_model(Family.UPSCALER)
    item = RenderItem("", seed=1, image=np.zeros((20, 30, 3), np.uint8))
    shape = shape_of(RenderRequest(mode=Mode.UPSCALE, items=(item,)), model, batch=1)
    assert (shape.width, shape.height) == (120, 80)


def test_the_shape_of_a_changed_video_has_its_frames() -> None:
    item = RenderItem("", seed=1, video=np.zeros((5, 8, 8, 3), np.uint8))
    request = RenderRequest(mode=Mode.VIDEO_TO_VIDEO, items=(item,), width=64, height=48)
    shape = shape_of(request, WAN, batch=1)
    assert (shape.width, shape.height, shape.frames) == (64, 48, 5)


def test_the_peak_of_a_part_does_not_spoil_that_of_the_whole() -> None:
    gauge = Gauge(total=10 * GB)
    memory = DeviceMemory(gauge, host_bytes=1)
    memory.reset_peak()
    gauge.peak = 7
    memory.begin_part()
    gauge.peak = 3
    assert (memory.part_peak_bytes(), memory.peak_bytes()) == (3, 7)


def test_without_memory_of_its_own_the_host_bounds_what_models_take() -> None:
    memory = DeviceMemory(Gauge(total=None), host_bytes=5)
    assert (memory.is_own, memory.capacity_bytes(), memory.usable_bytes()) == (False, 5, 5)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (Shape(Mode.TEXT_TO_IMAGE, width=64, height=48), "64x48"),
        (Shape(Mode.TEXT_TO_IMAGE, width=64, height=48, batch=3), "3 times 64x48"),
        (Shape(Mode.TEXT_TO_VIDEO, width=64, height=48, frames=9), "9 frames of 64x48"),
        (Shape(Mode.TEXT_TO_AUDIO, duration=timedelta(seconds=2.5)), "2.5 s of sound"),
    ],
)
def test_a_shape_has_words(shape: Shape, words: str) -> None:
    assert words_of(shape) == words


@pytest.mark.parametrize(("size", "words"), [(25_480_000_000, "25.5 GB"), (4_200_000, "4.2 MB")])
def test_bytes_have_words(size: int, words: str) -> None:
    assert gigabytes(size) == words


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (SDXL, Shape(Mode.TEXT_TO_IMAGE, width=2048, height=1024, batch=4)),
        (SDXL, Shape(Mode.TEXT_TO_IMAGE, width=2048, height=1024)),
        (WAN, Shape(Mode.TEXT_TO_VIDEO, width=832, height=480, frames=81)),
    ],
    ids=["batch", "size", "frames"],
)
def test_what_would_fit_is_something_that_the_model_takes(model: Model, shape: Shape) -> None:
    most = peak_bytes(model, shape, weight_bytes=0, dtype="bfloat16").peak // 2

    def fits(candidate: Shape) -> bool:
        return peak_bytes(model, candidate, weight_bytes=0, dtype="bfloat16").peak <= most

    fitting = largest_that_fits(model, shape, fits=fits)
    assert fitting is not None
    assert fits(fitting)
    model.check(width=fitting.width, height=fitting.height, frames=fitting.frames)
    assert not fits(shape)
