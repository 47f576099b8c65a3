"""What holds on a CUDA device, with tiny models; skipped where there is none.

All it needs is in this file, so that it also runs where only the repository and some wheels are:
`python -m pytest --noconftest -c /dev/null --rootdir=. tests/gpu/test_cuda.py`.
"""

import ctypes
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from callsheet.runner.failures import is_out_of_memory
from callsheet.runner.pipelines import Pipelines, Warm
from callsheet.runner.rendering import Mode, Rendered, RenderRequest, Reproducibility
from callsheet.runner.tuning import Tuning, TuningRefused
from callsheet.runner.untyped import imported
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.runtime.families import Family
from callsheet.runtime.models import CompileShape
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
from tests.support.tuning import NAME, film, tuned_pipelines


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


#: Of the usual request.
SHAPE = CompileShape(width=64, height=64)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def pipelines(cache_dir: Path) -> Pipelines:
    return Pipelines(
        load_catalogue(None), device="cuda:0", cache_dir=cache_dir, most_host_bytes=2**31
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


def tuned(tuning: Tuning, family: Family, cache_dir: Path, *shapes: CompileShape) -> Pipelines:
    """Return pipelines of one model, warmed up as before a runner is ready."""
    model = film(family, *shapes, cache_dir=cache_dir)
    found = tuned_pipelines(model, tuning=tuning, cache_dir=cache_dir, device="cuda:0")
    found.warm_up(limit=timedelta(minutes=5))
    return found


def rendered(pipelines: Pipelines, family: Family, slot: Slot | None = None) -> Rendered:
    return pipelines.get(NAME).render(request_of(family, MODES[family]), Controls(slot))


def test_models_are_served_in_a_format_that_the_device_computes_in(pipelines: Pipelines) -> None:
    is_known = imported("torch").cuda.is_bf16_supported(including_emulation=False)
    ours = warm(pipelines, Family.SDXL).render(image_of(0), Controls())
    assert ours.tuning["dtype"] == ("bfloat16" if is_known else "float16")


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_compiled_image_is_the_image_to_within_rounding_and_goes_on_bit_for_bit(
    pipelines: Pipelines,
    cache_dir: Path,
    channels_last: bool,  # noqa: FBT001 - pytest gives it by name
) -> None:
    tuning = Tuning(
        compiler="inductor", compiler_cache=cache_dir / "compiled", channels_last=channels_last
    )
    ours = tuned(tuning, Family.SDXL, cache_dir, SHAPE)
    graphs = compiled_graphs()
    saved = Slot(due=lambda asked: asked == 2)
    whole = rendered(ours, Family.SDXL, saved)
    assert whole.tuning["compiled"] == str(SHAPE)
    eager = warm(pipelines, Family.SDXL).render(image_of(0), Controls())
    other = warm(pipelines, Family.SDXL).render(image_of(1), Controls())
    assert furthest(whole, eager) < furthest(whole, other) / 2
    # Nothing was compiled while a task waited, nor is it when the weights were elsewhere meanwhile
    ours.clear()
    resumed = Slot(saved.content)
    assert contents(rendered(ours, Family.SDXL, resumed)) == contents(whole)
    assert resumed.refusals == []
    assert compiled_graphs() == graphs


def test_a_compiled_model_that_was_put_aside_is_compiled_still(cache_dir: Path) -> None:
    tuning = Tuning(compiler="inductor", compiler_cache=cache_dir / "compiled")
    first = film(Family.SDXL, SHAPE, cache_dir=cache_dir)
    second = replace(first, name="other", compile_shapes=())
    ours = tuned_pipelines(
        first, second, tuning=tuning, cache_dir=cache_dir, device="cuda:0", most_device_bytes=1
    )
    before = rendered(ours, Family.SDXL)
    graphs = compiled_graphs()
    ours.get("other").render(image_of(0), Controls())
    assert contents(rendered(ours, Family.SDXL)) == contents(before)
    assert compiled_graphs() == graphs


def test_attention_is_computed_as_chosen_where_the_model_lets_it(cache_dir: Path) -> None:
    # In sixteen bits alone, and without a mask
    ours = tuned(Tuning(attention="native_flash"), Family.FLUX, cache_dir)
    assert rendered(ours, Family.FLUX).tuning["attention"] == "native_flash"
    masked = tuned(Tuning(attention="native_flash"), Family.LTX, cache_dir)
    assert rendered(masked, Family.LTX).tuning["attention"] == "native"


def test_attention_that_the_device_cannot_compute_is_refused(cache_dir: Path) -> None:
    with pytest.raises(TuningRefused, match="native_flash cannot be computed on cuda:0 in float32"):
        tuned(Tuning(attention="native_flash", dtype="float32"), Family.FLUX, cache_dir)


def compiled_graphs() -> int:
    """Return how many graphs were compiled in this process."""
    return int(imported("torch._dynamo.utils").counters["stats"]["unique_graphs"])


def test_the_report_names_the_device_and_its_memory(pipelines: Pipelines) -> None:
    warm(pipelines, Family.SDXL)
    report = pipelines.report()
    assert report is not None
    assert report.product == imported("torch").cuda.get_device_name(0)
    assert 0 < report.memory_used_bytes < report.memory_total_bytes
