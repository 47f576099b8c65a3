"""What the pixels of an image tell."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from callsheet.runner.image_measure import LONGEST_SIDE, measured

Pixels = NDArray[np.uint8]


def png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def grey(value: int, *, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.new("RGB", size, (value, value, value))


def chequered(square: int = 8) -> Image.Image:
    rows, columns = np.indices((96, 128)) // square
    light = np.where((rows + columns) % 2, 200, 60).astype(np.uint8)
    return Image.fromarray(light).convert("RGB")


def test_a_blurred_image_is_less_sharp_the_more_it_is_blurred() -> None:
    image = chequered()
    blurred = [
        measured(png(image.filter(ImageFilter.GaussianBlur(radius)))).sharpness
        for radius in (0, 1, 2, 4)
    ]
    assert blurred == sorted(blurred, reverse=True)
    assert blurred[0] > 0.8
    assert blurred[-1] < 0.1


@pytest.mark.parametrize(("value", "shadows", "highlights"), [(0, 1, 0), (255, 0, 1), (128, 0, 0)])
def test_what_is_black_or_white_is_clipped(value: int, shadows: int, highlights: int) -> None:
    found = measured(png(grey(value)))
    assert (found.clipped_shadows, found.clipped_highlights) == (shadows, highlights)
    assert found.mean_luma == pytest.approx(value / 255)


def test_light_in_the_middle_is_exposed_best() -> None:
    dark, middle, light = (measured(png(grey(value))).exposure for value in (40, 128, 230))
    assert middle > 0.99
    assert dark < middle
    assert light < middle


@pytest.mark.parametrize("value", [0, 128, 255])
def test_nothing_to_see_scores_nothing(value: int) -> None:
    assert measured(png(chequered())).score > 0.5
    assert measured(png(grey(value))).score == 0


def test_the_same_pixels_have_the_same_score_in_every_lossless_form() -> None:
    image, webp = chequered(), io.BytesIO()
    image.save(webp, "WEBP", lossless=True)
    assert measured(png(image)) == measured(webp.getvalue())


def test_every_number_is_a_share(rng: np.random.Generator) -> None:
    noise: Pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    found = measured(png(Image.fromarray(noise)))
    assert all(
        0 <= number <= 1
        for number in (
            found.score,
            found.sharpness,
            found.exposure,
            found.clipped_shadows,
            found.clipped_highlights,
            found.mean_luma,
        )
    )


def test_an_image_of_one_pixel_is_measured() -> None:
    assert measured(png(grey(128, size=(1, 1)))).sharpness == 0


def test_a_large_image_is_measured_at_a_bounded_size() -> None:
    large = grey(128, size=(4 * LONGEST_SIDE, 8))
    assert measured(png(large)).mean_luma == pytest.approx(128 / 255)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(OSError, match="identify"):
        measured(b"no image")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
