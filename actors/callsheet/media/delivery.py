"""Stores what a handler made: the file, the small ones that stand for it, and how it was made.

What an artifact says of itself was read from its bytes after they were written.
"""

import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from callsheet.media.encodings import SMALL, ImageEncoding, SoundEncoding, VideoEncoding
from callsheet.media.facts import WrittenFacts, written_facts
from callsheet.media.provenance import Provenance
from callsheet.runner.context import TaskContext
from callsheet.tasks.v1.artifact_pb2 import (
    ARTIFACT_ROLE_POSTER,
    ARTIFACT_ROLE_PROVENANCE,
    ARTIFACT_ROLE_THUMBNAIL,
    Artifact,
    ArtifactRole,
)
from callsheet.v1.task_pb2 import PROGRESS_PHASE_ENCODING, PROGRESS_PHASE_UNSPECIFIED

if TYPE_CHECKING:
    from callsheet.media.sound_track import Waveform
    from callsheet.media.sound_writer import SoundWriter
    from callsheet.media.video_writer import Pixels, SoundShape, VideoWriter


@dataclass(frozen=True)
class DeliveredImage:
    """An image, and what goes with it."""

    image: Artifact
    thumbnail: Artifact
    provenance: Artifact


@dataclass(frozen=True)
class DeliveredVideo:
    """A video, and what goes with it."""

    video: Artifact
    poster: Artifact
    thumbnail: Artifact
    provenance: Artifact


@dataclass(frozen=True)
class DeliveredSound:
    """A sound, and what goes with it."""

    audio: Artifact
    provenance: Artifact


def deliver_image(
    context: TaskContext, pixels: "Pixels", encoding: ImageEncoding, provenance: Provenance
) -> DeliveredImage:
    """Store an image, height x width x 3."""
    from callsheet.media.images import encoded, small, thumbnail

    with _encoding(context):
        content = encoded(pixels, encoding, xmp=provenance.xmp())
        reduced = thumbnail(pixels)
        picture = small(reduced)
    image = context.put(
        content,
        media_type=encoding.media_type,
        suffix=encoding.suffix,
        width=pixels.shape[1],
        height=pixels.shape[0],
    )
    return DeliveredImage(
        image,
        _stored_small(context, picture, reduced, ARTIFACT_ROLE_THUMBNAIL),
        _stored_provenance(context, provenance, image),
    )


def deliver_video(
    context: TaskContext,
    fill: Callable[["VideoWriter"], None],
    encoding: VideoEncoding,
    provenance: Provenance,
    *,
    size: tuple[int, int],
    rate: Fraction,
    sound: "SoundShape | None" = None,
) -> DeliveredVideo:
    """Store the video that *fill* writes; *size* is (width, height)."""
    from callsheet.media.images import small, thumbnail
    from callsheet.media.video_writer import VideoWriter

    with _scratch(context) as path:
        with VideoWriter(
            path, encoding, size=size, rate=rate, sound=sound, comment=provenance.embedded()
        ) as writer:
            fill(writer)
        first = writer.first
        with _encoding(context):
            facts = written_facts(path)
            reduced = thumbnail(first)
            poster, picture = small(first), small(reduced)
        video = _stored_file(context, path, facts, encoding)
    return DeliveredVideo(
        video,
        _stored_small(context, poster, first, ARTIFACT_ROLE_POSTER),
        _stored_small(context, picture, reduced, ARTIFACT_ROLE_THUMBNAIL),
        _stored_provenance(context, provenance, video),
    )


def deliver_sound(
    context: TaskContext,
    fill: Callable[["SoundWriter"], None],
    encoding: SoundEncoding,
    provenance: Provenance,
    *,
    rate: int,
    channels: int,
) -> DeliveredSound:
    """Store the sound that *fill* writes."""
    from callsheet.media.sound_writer import SoundWriter

    with _scratch(context) as path:
        with SoundWriter(
            path, encoding, rate=rate, channels=channels, comment=provenance.embedded()
        ) as writer:
            fill(writer)
        audio = _stored_file(context, path, written_facts(path), encoding)
    return DeliveredSound(audio, _stored_provenance(context, provenance, audio))


def frames_filler(
    context: TaskContext, frames: "Iterator[Pixels]", waveform: "Waveform | None" = None
) -> Callable[["VideoWriter"], None]:
    """Return what writes pictures that are there already, and the sound that goes with them."""

    def fill(writer: "VideoWriter") -> None:
        with _encoding(context):
            for frame in frames:
                context.check()
                writer.write(frame)
            if waveform is not None:
                writer.write_sound(waveform)

    return fill


@contextmanager
def _encoding(context: TaskContext) -> Generator[None]:
    """Count the time of the block as that of encoding."""
    context.enter(PROGRESS_PHASE_ENCODING)
    try:
        yield
    finally:
        context.enter(PROGRESS_PHASE_UNSPECIFIED)


@contextmanager
def _scratch(context: TaskContext) -> Generator[Path]:
    """Yield the path of a file without a name: nothing is left of it, even after a kill."""
    context.scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryFile(dir=context.scratch) as file:
        yield Path(f"/proc/self/fd/{file.fileno()}")


def _stored_file(
    context: TaskContext, path: Path, facts: WrittenFacts, encoding: SoundEncoding | VideoEncoding
) -> Artifact:
    video, sound = facts.video, facts.sound
    artifact = context.put(
        path,
        media_type=encoding.media_type,
        suffix=encoding.suffix,
        width=None if video is None else video.width,
        height=None if video is None else video.height,
    )
    artifact.duration.FromTimedelta(facts.duration)
    if video is not None:
        artifact.frames = facts.frames
        artifact.frame_rate = float(video.frame_rate)
        artifact.video_codec = video.codec
    if sound is not None:
        artifact.channels, artifact.sample_rate = sound.channels, sound.sample_rate
        artifact.audio_codec = sound.codec
    return artifact


def _stored_small(
    context: TaskContext, content: bytes, pixels: "Pixels", role: ArtifactRole.ValueType
) -> Artifact:
    height, width = pixels.shape[:2]
    artifact = context.put(
        content, media_type=SMALL.media_type, suffix=SMALL.suffix, width=width, height=height
    )
    artifact.role = role
    return artifact


def _stored_provenance(
    context: TaskContext, provenance: Provenance, artifact: Artifact
) -> Artifact:
    sidecar = context.put(
        provenance.sidecar(artifact), media_type="application/json", suffix="json"
    )
    sidecar.role = ARTIFACT_ROLE_PROVENANCE
    return sidecar
