"""The table of families: complete, and without contradictions."""

from datetime import timedelta

import pytest

from callsheet.runtime.families import FAMILIES, Family, Medium, Mode, Traits


def test_every_family_has_its_traits_and_every_mode_a_family() -> None:
    assert set(FAMILIES) == set(Family)
    assert {mode for traits in FAMILIES.values() for mode in traits.modes} == set(Mode)


@pytest.mark.parametrize("traits", FAMILIES.values(), ids=FAMILIES)
def test_a_family_has_the_sizes_of_its_medium(traits: Traits) -> None:
    assert (traits.frames > 0) == (traits.frame_rate > 0) == (traits.medium is Medium.VIDEO)
    assert (traits.sample_rate > 0) == (traits.medium is Medium.AUDIO)
    assert (traits.width > 0) == (traits.height > 0)
    if traits.duration > timedelta():
        assert traits.medium is Medium.AUDIO
    assert (traits.factor > 1) == (Mode.UPSCALE in traits.modes)


@pytest.mark.parametrize("traits", FAMILIES.values(), ids=FAMILIES)
def test_the_default_sizes_of_a_family_are_multiples_of_what_it_takes(traits: Traits) -> None:
    assert traits.width % traits.multiple == traits.height % traits.multiple == 0
    assert traits.frames == 0 or (traits.frames - 1) % traits.frames_multiple == 0


def test_what_changes_images_is_for_families_that_draw_them() -> None:
    able = [t for t in FAMILIES.values() if t.takes_loras or t.takes_controlnets]
    assert able
    assert all(traits.medium is Medium.IMAGE for traits in able)
