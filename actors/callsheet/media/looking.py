"""Looks at a video or a sound as whoever plays it does: all of it is decoded.

Started as `python -m callsheet.media.looking FILE`; its output is one JSON object.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.container import InputContainer


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of a video, each of them decoded."""

    codec: str
    """FFmpeg's name of it."""
    width: int
    height: int
    frames: int


@dataclass(frozen=True, slots=True)
class Sound:
    """The sound of a file, all of it decoded."""

    codec: str
    """FFmpeg's name of it."""
    channels: int
    sample_rate: int
    samples: int
    """Of each channel."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen and heard."""

    pictures: Pictures | None
    """None: there are none."""
    sound: Sound | None
    """None: it is silent."""


def look(file: Path) -> Look:
    """Return what is in a file of our own, after decoding it. Raises av.FFmpegError."""
    import av

    with av.open(str(file), mode="r") as container:
        streams = [*container.streams.video[:1], *container.streams.audio[:1]]
        frames = samples = 0
        for frame in container.decode(*streams):
            if isinstance(frame, av.VideoFrame):
                frames += 1
            elif isinstance(frame, av.AudioFrame):
                samples += frame.samples
        return Look(_pictures(container, frames), _sound(container, samples))


def _pictures(container: "InputContainer", frames: int) -> Pictures | None:
    if not container.streams.video:
        return None
    context = container.streams.video[0].codec_context
    return Pictures(context.codec.canonical_name, context.width, context.height, frames)


def _sound(container: "InputContainer", samples: int) -> Sound | None:
    if not container.streams.audio:
        return None
    context = container.streams.audio[0].codec_context
    return Sound(context.codec.canonical_name, context.channels, context.sample_rate, samples)


def main(arguments: Sequence[str]) -> None:
    """Look at the one file that is named, and print what is in it."""
    (file,) = arguments
    sys.stdout.write(f"{json.dumps(asdict(look(Path(file))))}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
