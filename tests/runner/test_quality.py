"""The score of an output: by the measure that its type names, or unset, and never a constant."""

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from google.protobuf.message import Message
from PIL import Image

from callsheet.ledger.catalog import task_types
from callsheet.runner import quality
from callsheet.runner.agreement import PromptAgreement
from callsheet.runner.handlers import options_of
from callsheet.runner.pipelines import Pipelines
from callsheet.runner.quality import MEASURES, PROMPT_AGREEMENT, Agreement, quality_of
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.runtime.models import AgreementModel
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.v1.task_pb2 import Quality
from tests.support.tiny_clip import tiny_clip_folder

INPUT = GenerateImageInput(prompt="a lighthouse at dusk")


class Agreeable:
    """Agrees by what it is told."""

    def __init__(self, *cosines: float) -> None:
        self.cosines = cosines
        self.asked: list[str] = []

    def with_words(self, words: str, images: Sequence[bytes]) -> Sequence[float]:
        """Return the cosines."""
        assert len(images) == len(self.cosines)
        self.asked.append(words)
        return self.cosines


def nobody() -> Agreement | None:
    return None


def stripes(width: int) -> bytes:
    image = Image.new("L", (64, 64))
    image.putdata([60 + 140 * (x // width % 2) for _ in range(64) for x in range(64)])
    content = io.BytesIO()
    image.convert("RGB").save(content, "PNG")
    return content.getvalue()


def drawn(*contents: bytes) -> tuple[GenerateImageOutput, dict[str, bytes]]:
    output = GenerateImageOutput()
    for number in range(len(contents)):
        output.images.add(key=str(number))
    return output, {str(number): content for number, content in enumerate(contents)}


def scored(*contents: bytes, agreement: quality.FindAgreement = nobody) -> Quality | None:
    output, by_key = drawn(*contents)
    return quality_of("generate_image", INPUT, output, contents=by_key, agreement=agreement)


@pytest.mark.parametrize("name", task_types())
def test_every_measure_that_a_task_type_names_is_known(name: str) -> None:
    assert options_of(name).quality_measure in {"", *MEASURES}


def test_images_are_scored_by_a_measure_that_is_named() -> None:
    found = scored(stripes(4))
    assert found is not None
    assert found.measure == "image-focus-exposure-1"
    assert 0 < found.score < 1
    assert set(found.parts) == {
        "sharpness",
        "exposure",
        "clipped_shadows",
        "clipped_highlights",
        "mean_luma",
    }


def test_the_score_of_several_images_is_their_mean() -> None:
    fine, coarse, both = scored(stripes(2)), scored(stripes(16)), scored(stripes(2), stripes(16))
    assert fine is not None
    assert coarse is not None
    assert both is not None
    assert fine.score > coarse.score
    assert both.score == pytest.approx((fine.score + coarse.score) / 2)


def test_agreement_is_a_part_where_there_is_a_model_and_moves_no_score() -> None:
    model = Agreeable(0.2, 0.4)
    with_model = scored(stripes(4), stripes(4), agreement=lambda: model)
    without = scored(stripes(4), stripes(4))
    assert with_model is not None
    assert without is not None
    assert with_model.parts[PROMPT_AGREEMENT] == pytest.approx(0.3)
    assert model.asked == [INPUT.prompt]
    assert with_model.score == without.score
    assert PROMPT_AGREEMENT not in without.parts


def test_a_type_without_a_measure_has_no_quality() -> None:
    output: Message = PingOutput()
    assert quality_of("ping", PingInput(), output, contents={}, agreement=nobody) is None


def test_an_output_without_images_has_no_quality() -> None:
    assert scored() is None


def test_a_score_that_cannot_be_computed_is_unset() -> None:
    assert scored(b"no image") is None


def test_an_artifact_that_is_not_there_is_no_failure() -> None:
    output, _ = drawn(stripes(4))
    found = quality_of("generate_image", INPUT, output, contents={}, agreement=nobody)
    assert found is None


def test_a_tiny_clip_tells_words_and_images_apart(tmp_path: Path) -> None:
    folder = tiny_clip_folder(tmp_path)
    model = PromptAgreement(AgreementModel(path=folder, hub_id=None, revision=""), device="cpu")
    images = [stripes(2), stripes(16)]
    dusk, noon = (model.with_words(words, images) for words in ("dusk", "noon"))
    assert model.with_words("dusk", images) == pytest.approx(dusk)
    assert all(-1 <= cosine <= 1 for cosine in (*dusk, *noon))
    assert len({*dusk, *noon}) == 4
    assert len(model.with_words("word " * 400, images)) == 2


def test_the_model_of_agreement_is_the_catalogues_and_loaded_once(tmp_path: Path) -> None:
    folder = tiny_clip_folder(tmp_path)
    pipelines = _pipelines(tmp_path, f'[agreement]\npath = "{folder.name}"\n')
    model = pipelines.agreement()
    assert model is not None
    assert pipelines.agreement() is model


def test_without_a_model_in_the_catalogue_agreement_is_unset(tmp_path: Path) -> None:
    assert _pipelines(tmp_path, "").agreement() is None


def test_a_model_of_agreement_that_is_not_there_is_tried_once(tmp_path: Path) -> None:
    pipelines = _pipelines(tmp_path, '[agreement]\npath = "nowhere"\n')
    assert pipelines.agreement() is None
    tiny_clip_folder(tmp_path).rename(tmp_path / "nowhere")
    assert pipelines.agreement() is None


def _pipelines(folder: Path, agreement: str) -> Pipelines:
    catalogue = folder / "models.toml"
    catalogue.write_text(
        '[models.none]\npath = "none"\nfamily = "sdxl"\nwidth = 64\nheight = 64\n'
        f"steps = 1\nguidance_scale = 1\n{agreement}"
    )
    return Pipelines(
        load_catalogue(catalogue), device="cpu", cache_dir=folder, most_host_bytes=2**30
    )
