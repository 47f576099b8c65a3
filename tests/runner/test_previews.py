"""Previews: colours from latents, one small file for all that is being made."""

import io
import uuid
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from callsheet.artifacts.store import ArtifactStore
from callsheet.internal.v1.pipe_pb2 import RunAttempt
from callsheet.runner.preview_pictures import SIDE, AttemptPreviews, webp_of
from callsheet.runner.previews import fit_latent_map
from callsheet.runner.rendering import Pixels
from callsheet.runner.untyped import Untyped, imported
from callsheet.runner.uploads import Uploads
from callsheet.tasks.v1.artifact_pb2 import Artifact
from tests.support.runners import PROJECT

torch = imported("torch")

SOON = timedelta(seconds=30)


class AutoencoderKL:
    """An autoencoder that is a straight line, each place of a latent eight pixels wide."""

    device, dtype = "cpu", torch.float32

    def __init__(self) -> None:
        self.config = SimpleNamespace(latent_channels=4, scaling_factor=0.5, shift_factor=0.25)
        self.weights = torch.tensor(
            [[0.5, 0.0, 0.1], [0.0, 0.5, 0.0], [0.1, 0.0, 0.5], [0.2, 0.2, 0.2]]
        )

    def decode(self, latents: Untyped) -> Untyped:
        """Return the colours of the latents, as they are without their scale."""
        plain = (latents - self.config.shift_factor) * self.config.scaling_factor
        colours = torch.einsum("bchw,ck->bkhw", plain, self.weights) + 0.1
        return SimpleNamespace(sample=colours.repeat_interleave(8, 2).repeat_interleave(8, 3))


def test_the_map_finds_the_colours_of_an_autoencoder_that_is_a_straight_line() -> None:
    vae = AutoencoderKL()
    fitted = fit_latent_map(vae, torch=torch)
    assert torch.allclose(fitted.weights, vae.weights, atol=1e-4)
    assert torch.allclose(fitted.bias, torch.full((3,), 0.1), atol=1e-4)
    grey = fitted.picture(torch.zeros(4, 2, 3))
    assert grey.shape == (2, 3, 3)
    assert grey.tolist() == [[[140] * 3] * 3] * 2  # 0.1 of -1 to 1


def plain(shade: int, *, height: int = 8, width: int = 16) -> Pixels:
    return np.full((height, width, 3), shade, np.uint8)


def test_one_picture_is_as_large_as_a_preview_gets() -> None:
    content, width, height = webp_of([plain(200)])
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size) == ("WEBP", (width, height))
        assert image.size == (SIDE, SIDE // 2)
        assert np.abs(np.asarray(image).astype(int) - 200).max() <= 4


def test_several_pictures_are_shown_in_a_square() -> None:
    shades = [10, 90, 170, 250, 50]
    content, width, height = webp_of([plain(shade, width=8) for shade in shades])
    assert (width, height) == (SIDE, round(SIDE * 2 / 3))
    with Image.open(io.BytesIO(content)) as image:
        seen = np.asarray(image)
    third, half = width // 3, height // 2
    for number, shade in enumerate([*shades, 0]):
        x, y = third * (number % 3) + third // 2, half * (number // 3) + half // 2
        assert abs(int(seen[y, x].mean()) - shade) <= 8


class Show:
    """The previews of an attempt, and what is told of them."""

    def __init__(self, folder: Path) -> None:
        self.store = ArtifactStore(folder.as_uri())
        self.uploads = Uploads()
        self.told: list[Artifact] = []
        self.run = RunAttempt(task_id=str(uuid.UUID(int=7)), attempt=2, project=PROJECT)
        self.previews = AttemptPreviews(
            self.run, artifacts=self.store, uploads=self.uploads, tell=self.told.append
        )

    def shown(self, shade: int) -> Artifact:
        self.previews.sink(1).show((plain(shade),), step=1, of=8)
        assert self.uploads.finish(within=SOON)
        return self.told[-1]

    def kept(self) -> set[str]:
        return {*self.store.list_keys(PROJECT, self.run.task_id)}


@pytest.fixture
def show(tmp_path: Path) -> Show:
    return Show(tmp_path)


def test_a_preview_is_told_when_it_can_be_fetched(show: Show) -> None:
    told = show.shown(200)
    assert told.key.rpartition("/")[2].startswith("2-")
    assert (told.media_type, told.width, told.height) == ("image/webp", SIDE, SIDE // 2)
    assert len(show.store.get(told.key)) == told.size_bytes


def test_the_newest_two_are_kept(show: Show) -> None:
    told = [show.shown(shade) for shade in (0, 80, 160, 240)]
    assert show.kept() == {artifact.key for artifact in told[2:]}
    # The same again is the same file, and not deleted as the one before it
    assert show.shown(240).key == told[3].key
    assert show.kept() == {artifact.key for artifact in told[2:]}


def test_at_the_end_none_is_left_and_none_is_told_any_more(show: Show) -> None:
    show.shown(200)
    show.previews.close()
    assert show.uploads.finish(within=SOON)
    assert show.kept() == set()
    show.previews.show([plain(1)])
    assert show.uploads.finish(within=SOON)
    assert len(show.told) == 1
    assert show.kept() == set()
