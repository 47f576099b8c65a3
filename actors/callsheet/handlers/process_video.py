"""Tell what a video is, and take frames and its sound out of it.

Each frame is looked for by itself, and of the sound only a block is there at a time: never is all
of a video in memory, nor is all of it decoded for a few frames.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from callsheet.media.delivery import DeliveredSound, deliver_image, deliver_sound
from callsheet.media.encodings import IMAGES, SOUNDS
from callsheet.media.facts import MediaFacts, SoundFacts, VideoFacts
from callsheet.media.provenance import Provenance, Source, provenance_of
from callsheet.media.reader import MediaReader
from callsheet.runner.context import HandlerFailure, TaskContext
from callsheet.tasks.v1.edit_video_pb2 import CLIP_SOUND_DROP
from callsheet.tasks.v1.process_video_pb2 import (
    ProcessVideoInput,
    ProcessVideoOutput,
    VideoFrame,
    VideoMetadata,
    VideoStream,
)
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT

if TYPE_CHECKING:
    from callsheet.media.picture_decoding import Pixels
    from callsheet.media.sound_writer import SoundWriter

#: How many frames are taken when nobody says.
FRAMES: Final = 8
_MOST_CHANNELS: Final = 2
#: What a picture is scaled to that is only counted.
_LEAST: Final = (16, 16)


def run(input: ProcessVideoInput, context: TaskContext) -> ProcessVideoOutput:
    """Take the video apart, and return what it is and where its parts were stored."""
    context.report(0, 0, "reading the video")
    with context.open_media() as media:
        file = media.facts(input.video)
        video = _video_of(file, input)
        length = _length(file, video, input, media)
        sound = None if input.sound == CLIP_SOUND_DROP else file.sound
        taking = _Taking(
            input,
            context,
            media,
            moments=_moments(input, length),
            seconds=0 if sound is None else round(length.total_seconds()),
        )
        output = ProcessVideoOutput(
            metadata=_metadata(file, video, length=length, size=media.size_bytes(input.video)),
            frames=taking.frames(_size(input, video)),
        )
        if sound is not None:
            delivered = taking.sound(sound)
            output.sound.CopyFrom(delivered.audio)
            output.sound_provenance.CopyFrom(delivered.provenance)
    return output


@dataclass(frozen=True)
class _Taking:
    """What is taken out of one video."""

    input: ProcessVideoInput
    context: TaskContext
    media: MediaReader
    moments: Sequence[timedelta]
    """When frames are taken, earliest first."""
    seconds: int
    """How much sound is expected, for the progress."""

    def frames(self, size: tuple[int, int]) -> Iterator[VideoFrame]:
        """Yield the frames, stored, of the (width, height); no picture comes twice."""
        last: timedelta | None = None
        for number, at in enumerate(self.moments, start=1):
            time, pixels = self.media.picture(self.input.video, at=at, size=size)
            if last is None or time > last:
                last = time
                yield self._frame(time, pixels)
            self._report(number, f"frame {number} of {len(self.moments)}")

    def sound(self, facts: SoundFacts) -> DeliveredSound:
        """Store the sound."""
        encoding = SOUNDS[self.input.sound_format]
        rate = encoding.codec.rate_for(facts.sample_rate)
        channels = min(_MOST_CHANNELS, facts.channels)

        def fill(writer: "SoundWriter") -> None:
            place = 0
            for block in self.media.sound(
                self.input.video, start=timedelta(0), end=None, rate=rate, channels=channels
            ):
                writer.write(block)
                place += block.shape[1]
                heard = round(place / rate)
                done = len(self.moments) + min(heard, self.seconds)
                self._report(done, f"sound: {heard} seconds")

        return deliver_sound(
            self.context, fill, encoding, self._provenance(), rate=rate, channels=channels
        )

    def _frame(self, time: timedelta, pixels: "Pixels") -> VideoFrame:
        encoding = IMAGES[self.input.frame_format]
        delivered = deliver_image(self.context, pixels, encoding, self._provenance())
        frame = VideoFrame(
            image=delivered.image,
            thumbnail=delivered.thumbnail,
            provenance=delivered.provenance,
        )
        frame.time.FromTimedelta(time)
        return frame

    def _report(self, done: int, words: str) -> None:
        self.context.report(done, len(self.moments) + self.seconds, words)

    def _provenance(self) -> Provenance:
        return provenance_of(self.input, self.context, source=Source.COMPOSITE)


def _length(
    file: MediaFacts, video: VideoFacts, input: ProcessVideoInput, media: MediaReader
) -> timedelta:
    """Return how long the video plays; without a word of its head its pictures are counted."""
    if file.duration is not None:
        return file.duration
    shown = media.pictures(
        input.video,
        start=timedelta(0),
        end=None,
        rate=video.frame_rate,
        size=_LEAST,
        fit="stretch",
    )
    return timedelta(seconds=float(sum(1 for _ in shown) / video.frame_rate))


def _video_of(file: MediaFacts, input: ProcessVideoInput) -> VideoFacts:
    if file.video is None:
        name = input.video.uri.rpartition("/")[2]
        raise HandlerFailure(FAILURE_REASON_INVALID_INPUT, f"the file {name} has no pictures")
    return file.video


def _metadata(
    file: MediaFacts, video: VideoFacts, *, length: timedelta, size: int
) -> VideoMetadata:
    metadata = VideoMetadata(
        container=file.kind,
        size_bytes=size,
        width=video.width,
        height=video.height,
        frame_rate=float(video.frame_rate),
        video_codec=video.codec,
        streams=[VideoStream(kind=each.kind, codec=each.codec) for each in file.streams],
    )
    metadata.duration.FromTimedelta(length)
    if file.sound is not None:
        metadata.channels, metadata.sample_rate = file.sound.channels, file.sound.sample_rate
        metadata.audio_codec = file.sound.codec
    return metadata


def _moments(input: ProcessVideoInput, length: timedelta) -> list[timedelta]:
    """Return when frames are taken, earliest first."""
    most = input.frames if input.HasField("frames") else FRAMES
    if not input.HasField("frame_interval"):
        return [length * (2 * number + 1) / (2 * most) for number in range(most)]
    interval = input.frame_interval.ToTimedelta()
    there = max(1, -(-length // interval))
    return [interval * number for number in range(min(most, there))]


def _size(input: ProcessVideoInput, video: VideoFacts) -> tuple[int, int]:
    """Return the width and height of the frames."""
    longest = max(video.width, video.height)
    wanted = min(input.longest_side, longest) if input.HasField("longest_side") else longest
    width, height = (max(1, round(side * wanted / longest)) for side in (video.width, video.height))
    return width, height
