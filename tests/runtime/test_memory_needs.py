"""How much memory a rendering needs, by its shape and by what was seen."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet.runtime.families import FAMILIES, Family, Mode
from callsheet.runtime.memory_needs import (
    RESERVE_BYTES,
    Estimate,
    MeasuredPeaks,
    Shape,
    ShapeBucket,
    default_shape,
    least_bytes,
    peak_bytes,
)
from callsheet.runtime.models import BUILT_IN, BUILT_INS, Model, built_in_model

GIB: Final = 2**30
SDXL: Final = replace(BUILT_IN, name="sdxl", hub_id="someone/sdxl", revision="main")
IMAGE: Final = Shape(Mode.TEXT_TO_IMAGE, width=1024, height=1024)


def real(family: Family, **more: object) -> Model:
    """Return a model of the family with real sizes."""
    traits = FAMILIES[family]
    sizes: dict[str, object] = {
        "hub_id": "someone/model",
        "default_width": traits.width,
        "default_height": traits.height,
        "default_frames": traits.frames,
        "default_duration": traits.duration,
        "sample_rate": traits.sample_rate,
        "most_duration": timedelta(),
    }
    return replace(built_in_model(family), **{**sizes, **more})


def working(model: Model, shape: Shape, *, dtype: str = "bfloat16") -> int:
    return peak_bytes(model, shape, weight_bytes=0, dtype=dtype).working


def test_an_sdxl_image_of_one_megapixel_decodes_in_about_five_gigabytes() -> None:
    """As InvokeAI measured it: 2,200 numbers a pixel."""
    estimate = peak_bytes(SDXL, IMAGE, weight_bytes=7 * GIB, dtype="bfloat16")
    assert estimate.weights == 7 * GIB
    assert 4.2 * GIB < estimate.working < 4.6 * GIB
    assert estimate.peak == estimate.weights + estimate.working


def test_tiles_bound_what_decoding_needs() -> None:
    large = replace(IMAGE, width=2048, height=2048)
    tiled = replace(SDXL, vae_tiling=True)
    assert working(tiled, IMAGE) == working(SDXL, IMAGE)
    assert working(tiled, large) < 0.5 * working(SDXL, large)


def test_a_video_is_decoded_piece_by_piece_when_little_is_to_be_needed() -> None:
    """Which helps of every family that decodes more than a tile of one frame at once."""

    def least(family: Family, *, is_exact: bool) -> int:
        model = real(family)
        shape = replace(default_shape(model), batch=4)
        return least_bytes(model, shape, largest_part=GIB, dtype="bfloat16", is_exact=is_exact)

    for family in (Family.SVD, Family.ANIMATEDIFF):
        pieces, whole = least(family, is_exact=False), least(family, is_exact=True)
        assert RESERVE_BYTES + GIB < pieces < 0.4 * whole
        needed = peak_bytes(
            real(family), default_shape(real(family)), weight_bytes=GIB, dtype="bfloat16"
        )
        assert whole == needed.peak + RESERVE_BYTES


def test_a_batch_needs_as_much_more_as_it_has_items() -> None:
    assert working(SDXL, replace(IMAGE, batch=4)) == 4 * working(SDXL, IMAGE)


def test_wider_numbers_need_more() -> None:
    assert working(SDXL, IMAGE, dtype="float32") == 2 * working(SDXL, IMAGE, dtype="float16")


def test_a_longer_video_needs_more_and_is_not_decoded_all_at_once() -> None:
    wan = real(Family.WAN)
    short, long = (replace(default_shape(wan), frames=frames) for frames in (5, 81))
    assert working(wan, short) < working(wan, long) < 16 * working(wan, short)


def test_an_image_that_is_edited_by_instruction_is_seen_in_every_step() -> None:
    kontext = real(Family.FLUX_KONTEXT, vae_tiling=True)
    wide = Shape(Mode.TEXT_TO_IMAGE, width=8192, height=8192)
    assert working(kontext, replace(wide, mode=Mode.INSTRUCT)) > working(kontext, wide)


def test_sound_is_rendered_in_the_longest_duration_of_its_model() -> None:
    audio = real(Family.STABLE_AUDIO, most_duration=timedelta(seconds=47))
    brief, long = (
        Shape(Mode.TEXT_TO_AUDIO, duration=timedelta(seconds=seconds)) for seconds in (1, 47)
    )
    assert working(audio, brief) == working(audio, long) > GIB


@pytest.mark.parametrize("family", Family)
def test_every_family_needs_something_at_its_own_size_and_fits_a_large_device(
    family: Family,
) -> None:
    model = real(family)
    need = working(model, default_shape(model))
    assert 0 < need < 80 * GIB
    tiny = built_in_model(family)
    assert 0 < working(tiny, default_shape(tiny), dtype="float32") < GIB


@given(
    width=st.integers(1, 64), height=st.integers(1, 64), frames=st.integers(1, 20),
    batch=st.integers(1, 8), model=st.sampled_from(list(BUILT_INS.values())),
)  # fmt: skip
def test_more_of_anything_never_needs_less(
    width: int, height: int, frames: int, batch: int, model: Model
) -> None:
    shape = Shape(min(model.modes), width=8 * width, height=8 * height, frames=frames, batch=batch)
    for more in (
        replace(shape, width=shape.width + 8),
        replace(shape, height=shape.height + 8),
        replace(shape, frames=frames + 1),
        replace(shape, batch=batch + 1),
    ):
        assert working(model, more) >= working(model, shape)


def bucket(width: int = 1024, *, model: Model = SDXL, dtype: str = "bfloat16") -> ShapeBucket:
    return ShapeBucket.of(model, replace(IMAGE, width=width), dtype=dtype)


def test_shapes_of_about_one_size_share_a_bucket() -> None:
    assert bucket(1024) == bucket(1400)
    assert len({bucket(1024), bucket(2048), bucket(dtype="float32"), bucket(model=BUILT_IN)}) == 4
    sound = BUILT_INS["tiny-stable_audio"]
    brief, long = (
        ShapeBucket.of(
            sound, Shape(Mode.TEXT_TO_AUDIO, duration=timedelta(seconds=s)), dtype="float32"
        )
        for s in (1, 8)
    )
    assert brief != long


ESTIMATE: Final = Estimate(weights=600, working=400)


def test_an_estimate_is_corrected_by_the_largest_share_that_was_seen() -> None:
    peaks = MeasuredPeaks()
    assert peaks.corrected(bucket(), ESTIMATE) == ESTIMATE
    for measured in (900, 1200, 800):
        peaks.record(bucket(), estimated=ESTIMATE, measured=measured)
    assert peaks.corrected(bucket(), ESTIMATE) == Estimate(weights=600, working=600)
    assert peaks.corrected(bucket(), Estimate(600, 1400)).peak == 2400
    assert peaks.corrected(bucket(2048), ESTIMATE) == ESTIMATE


def test_a_model_that_needs_less_than_was_thought_is_believed() -> None:
    peaks = MeasuredPeaks()
    peaks.record(bucket(), estimated=ESTIMATE, measured=500)
    assert peaks.corrected(bucket(), ESTIMATE) == Estimate(weights=500, working=0)


def test_nothing_measured_is_nothing_learned() -> None:
    peaks = MeasuredPeaks()
    peaks.record(bucket(), estimated=ESTIMATE, measured=0)
    peaks.record(bucket(), estimated=Estimate(0, 0), measured=5)
    assert peaks.corrected(bucket(), ESTIMATE) == ESTIMATE


def test_what_was_not_seen_for_long_is_forgotten() -> None:
    peaks = MeasuredPeaks(most=2)
    for width in (1024, 2048, 1024, 8192):
        peaks.record(bucket(width), estimated=ESTIMATE, measured=2000)
    kept = [w for w in (1024, 2048, 8192) if peaks.corrected(bucket(w), ESTIMATE) != ESTIMATE]
    assert kept == [1024, 8192]
