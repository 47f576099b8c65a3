"""What is written is read by others: Pillow and FFmpeg; and what it says of itself is true."""

import io
import json
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from callsheet.media.delivery import deliver_sound, deliver_video, frames_filler
from callsheet.media.encodings import IMAGES, SOUNDS, VIDEOS, ImageEncoding
from callsheet.media.images import THUMBNAIL, encoded, resized, thumbnail
from callsheet.media.provenance import LONGEST_PARAMETERS, Provenance, Source, provenance_of
from callsheet.media.video_writer import SoundShape, VideoWriter
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.edit_audio_pb2 import AudioTrack, EditAudioInput
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, ImageFormat
from callsheet.tasks.v1.media_pb2 import (
    AUDIO_FORMAT_FLAC,
    VIDEO_FORMAT_GIF,
    VIDEO_FORMAT_MP4,
    AudioFormat,
    MediaReference,
    VideoFormat,
)
from tests.support.handling import HandlerContext
from tests.support.media_files import BLUE, RED, colour_of, is_near, plain, seen, tone

TASK = "01234567-89ab-4cde-8f01-23456789abcd"
PROVENANCE = Provenance(
    task_id=TASK,
    attempt=2,
    project="film",
    task_type="generate_image",
    source=Source.MODEL,
    parameters={"prompt": "a <fox> & an 'owl' ]]>", "steps": 4},
    model="tiny-random",
    seed=7,
    libraries={"torch": "2.13.0"},
)


@pytest.fixture
def context(tmp_path: Path) -> HandlerContext:
    return HandlerContext(tmp_path)


def test_every_format_of_the_contract_has_its_encoding() -> None:
    assert set(IMAGES) == set(ImageFormat.values())
    assert set(VIDEOS) == set(VideoFormat.values())
    assert set(SOUNDS) == set(AudioFormat.values())


@pytest.mark.parametrize("encoding", {it.suffix: it for it in IMAGES.values()}.values())
def test_an_image_carries_its_provenance_as_xmp(encoding: ImageEncoding) -> None:
    pixels = np.arange(16 * 12 * 3, dtype=np.uint8).reshape(12, 16, 3)
    content = encoded(pixels, encoding, xmp=PROVENANCE.xmp())
    assert content == encoded(pixels, encoding, xmp=PROVENANCE.xmp())
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size) == (encoding.pillow_name, (16, 12))
        packet = image.info.get("xmp") or image.info["XML:com.adobe.xmp"]
        if encoding.pillow_name != "JPEG":
            assert np.array_equal(np.asarray(image.convert("RGB")), pixels)
    told = _xmp(packet if isinstance(packet, bytes) else str(packet).encode())
    assert told["DigitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert json.loads(told["provenance"]) == PROVENANCE.told()


def _xmp(packet: bytes) -> dict[str, str]:
    """Return the texts of a packet by the last part of their names."""
    tree = ET.fromstring(packet.decode().strip("\x00"))  # noqa: S314  # our own words
    return {each.tag.rpartition("}")[2]: each.text or "" for each in tree.iter()}


def test_provenance_says_what_made_it() -> None:
    told = PROVENANCE.told()
    assert (told["task"], told["attempt"], told["model"], told["seed"]) == (
        TASK,
        2,
        "tiny-random",
        7,
    )
    libraries = told["libraries"]
    assert isinstance(libraries, dict)
    assert {"av", "callsheet", "numpy", "pillow", "torch"} == {*libraries}
    assert "unknown" not in libraries.values()
    assert "tuning" not in told
    tuned = replace(PROVENANCE, tuning={"dtype": "bfloat16"}).told()
    assert tuned["tuning"] == {"dtype": "bfloat16"}


def test_parameters_that_are_too_long_are_known_by_their_digest() -> None:
    long = replace(PROVENANCE, parameters={"prompt": "x" * LONGEST_PARAMETERS})
    parameters = long.told()["parameters"]
    assert isinstance(parameters, dict)
    assert [*parameters] == ["sha256"]
    assert len(long.xmp()) < 2**16 - 100  # what a JPEG has room for


def test_the_sidecar_names_the_bytes_and_what_they_were_made_of(context: HandlerContext) -> None:
    uris = [f"projects/film/uploads/{digit * 32}.wav" for digit in "ab"]
    tracks = [AudioTrack(audio=MediaReference(uri=uri)) for uri in (*uris, uris[0])]
    found = provenance_of(EditAudioInput(tracks=tracks), context, source=Source.COMPOSITE)
    artifact = Artifact(key="projects/film/x.wav", sha256="f" * 64, media_type="audio/wav")
    manifest = json.loads(found.sidecar(artifact))
    assert [each["instance_id"] for each in manifest["ingredients"]] == uris
    assert manifest["format"] == "audio/wav"
    hashed, actions, task = (each["data"] for each in manifest["assertions"])
    assert (hashed["alg"], hashed["hash"]) == ("sha256", "f" * 64)
    assert actions["actions"][0]["action"] == "c2pa.edited"
    assert (task["task_type"], task["task"]) == ("edit_audio", context.task_id)
    assert manifest["signature"] is None


def test_the_same_input_has_the_same_provenance(context: HandlerContext) -> None:
    input = GenerateImageInput(prompt="a fox", seed=7)
    first, second = (provenance_of(input, context, source=Source.MODEL) for _ in range(2))
    assert first.embedded() == second.embedded()
    assert first.told()["parameters"] == {"prompt": "a fox", "seed": "7"}


def test_a_thumbnail_is_small_and_never_larger_than_its_picture() -> None:
    assert thumbnail(plain(RED, width=2 * THUMBNAIL, height=20)).shape == (10, THUMBNAIL, 3)
    assert thumbnail(plain(RED)).shape == (24, 32, 3)
    assert resized(plain(RED), width=8, height=6).shape == (6, 8, 3)


def test_a_gif_shows_no_more_pictures_a_second_than_players_do(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    path.touch()
    with VideoWriter(
        path,
        VIDEOS[VIDEO_FORMAT_GIF],
        size=(32, 24),
        rate=Fraction(100),
        sound=None,
        comment="made here",
    ) as writer:
        for number in range(20):
            writer.write(plain(RED if number < 10 else BLUE))
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 10
        assert image.info["comment"] == b"made here"
    film = seen(path.read_bytes())
    assert [is_near(colour_of(picture), RED) for picture in film.pictures] == [True] * 5 + [
        False
    ] * 5


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.touch()
    with (
        pytest.raises(ValueError, match="is not 24 x 32 x 3"),
        VideoWriter(
            path,
            VIDEOS[VIDEO_FORMAT_MP4],
            size=(32, 24),
            rate=Fraction(10),
            sound=None,
            comment="",
        ) as writer,
    ):
        writer.write(plain(RED, width=48))


def test_rendered_frames_become_a_film_with_their_sound(context: HandlerContext) -> None:
    frames = np.stack([plain(RED)] * 3 + [plain(BLUE)] * 2)
    delivered = deliver_video(
        context,
        frames_filler(context, iter(frames), tone(440, seconds=0.5, rate=16_000)),
        VIDEOS[VIDEO_FORMAT_MP4],
        PROVENANCE,
        size=(32, 24),
        rate=Fraction(10),
        sound=SoundShape(16_000, 1),
    )
    film = seen(context.content(delivered.video))
    assert [is_near(colour_of(picture), RED) for picture in film.pictures] == [True] * 3 + [
        False
    ] * 2
    assert film.codecs == ("h264", "aac")
    assert delivered.video.frames == 5
    # And nothing is left of it but what was stored; so small a poster is its own thumbnail
    assert len(context.stored_keys()) == 3
    assert delivered.poster.key == delivered.thumbnail.key
    assert [*context.scratch.iterdir()] == []


def test_a_sound_says_what_is_true_of_it(context: HandlerContext) -> None:
    delivered = deliver_sound(
        context,
        lambda writer: writer.write(tone(440, seconds=0.5, rate=22_050)),
        SOUNDS[AUDIO_FORMAT_FLAC],
        PROVENANCE,
        rate=22_050,
        channels=1,
    )
    audio = delivered.audio
    assert (audio.channels, audio.sample_rate, audio.audio_codec) == (1, 22_050, "flac")
    assert audio.duration.ToTimedelta() == timedelta(seconds=0.5)
    assert audio.size_bytes == len(context.content(audio))
