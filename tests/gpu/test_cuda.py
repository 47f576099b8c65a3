"""What holds on a CUDA device, with tiny models; skipped where there is none.

All it needs is in this file, so that it also runs where only the repository and some wheels are:
`python -m pytest --noconftest -c /dev/null --rootdir=. tests/gpu/test_cuda.py`.
"""

import ctypes
from dataclasses import replace

import pytest

from callsheet.runner.failures import is_out_of_memory
from callsheet.runner.pipelines import Pipelines, Warm
from callsheet.runner.rendering import Mode, Rendered, RenderRequest, Reproducibility
from callsheet.runner.untyped import imported
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.runtime.families import Family
from tests.support.rendering import (
    MODES,
    Controls,
    Slot,
    built_in,
    contents,
    furthest,
    item,
    request_of,
)


def _has_cuda() -> bool:
    try:
        # Where no driver is, nothing need be imported to know.
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return bool(imported("torch").cuda.is_available())


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not _has_cuda(), reason="NO CUDA DEVICE: nothing of it was tested"),
    pytest.mark.filterwarnings("ignore"),  # what the libraries warn of is theirs to mend
]

#: One of each medium.
FAMILIES = (Family.SDXL, Family.LTX, Family.STABLE_AUDIO)


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Pipelines:
    return Pipelines(
        load_catalogue(None),
        device="cuda:0",
        cache_dir=tmp_path_factory.mktemp("cache"),
        most_host_bytes=2**31,
    )


def warm(pipelines: Pipelines, family: Family) -> Warm:
    return pipelines.get(built_in(family).name)


def image_of(*numbers: int) -> RenderRequest:
    """Return a request of images; the same number is the same image."""
    items = tuple(item(Mode.TEXT_TO_IMAGE, number=number) for number in numbers)
    return replace(request_of(Family.SDXL, Mode.TEXT_TO_IMAGE), items=items)


def test_a_strict_image_is_the_same_bits_whatever_is_rendered_beside_it(
    pipelines: Pipelines,
) -> None:
    ours = warm(pipelines, Family.SDXL)
    strict = replace(image_of(0, 1, 2), reproducibility=Reproducibility.STRICT)
    alone = ours.render(image_of(1), Controls())
    assert contents(ours.render(strict, Controls()))[1] == contents(alone)[0]


def test_an_image_of_a_batch_is_the_image_alone_to_within_rounding(pipelines: Pipelines) -> None:
    ours = warm(pipelines, Family.SDXL)
    batch = ours.render(image_of(0, 1, 2, 3), Controls())
    assert batch.bucket == 4
    alone = ours.render(image_of(0), Controls())
    # In bfloat16 one rounding is three decimal digits; other noise is another image
    assert furthest(batch, alone) < furthest(batch, ours.render(image_of(1), Controls())) / 2


@pytest.mark.parametrize("family", FAMILIES)
def test_work_that_goes_on_from_a_state_ends_in_the_same_bits(
    pipelines: Pipelines, family: Family
) -> None:
    ours, request = warm(pipelines, family), request_of(family, MODES[family])
    saved = Slot(due=lambda asked: asked == 2)
    whole: Rendered = ours.render(request, Controls(saved))
    resumed = Slot(saved.content)
    again = ours.render(request, Controls(resumed))
    assert (resumed.resumed_behind, resumed.refusals) == ([(2, 4)], [])
    assert contents(again) == contents(whole)


def test_after_memory_ran_out_the_next_image_is_as_it_was(pipelines: Pipelines) -> None:
    ours, torch = warm(pipelines, Family.SDXL), imported("torch")
    before = contents(ours.render(image_of(0), Controls()))
    held = torch.cuda.memory_reserved() + 64 * 2**20
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(held / total)
    try:
        with pytest.raises(Exception, match="memory") as caught:
            ours.render(replace(image_of(0), width=2048, height=2048), Controls())
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert is_out_of_memory(caught.value)
    assert contents(ours.render(image_of(0), Controls())) == before


def test_the_report_names_the_device_and_its_memory(pipelines: Pipelines) -> None:
    warm(pipelines, Family.SDXL)
    report = pipelines.report()
    assert report is not None
    assert report.product == imported("torch").cuda.get_device_name(0)
    assert 0 < report.memory_used_bytes < report.memory_total_bytes
