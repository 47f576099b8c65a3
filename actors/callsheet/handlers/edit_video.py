"""Cut, join, scale and overlay videos, give them sound, and draw them anew in another style.

Pictures and sound go through one after the other, and never all of a film is in memory. A style is
the exception: a model draws all of its pictures together, so there may only be as many as it takes.
"""

from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Final

from callsheet.media.delivery import deliver_video
from callsheet.media.encodings import VIDEOS
from callsheet.media.facts import MediaFacts, VideoFacts
from callsheet.media.provenance import Provenance, Source, provenance_of
from callsheet.media.reader import MediaReader
from callsheet.runner.context import HandlerFailure, TaskContext
from callsheet.tasks.v1.edit_video_pb2 import (
    CLIP_SOUND_DROP,
    VIDEO_FIT_CONTAIN,
    VIDEO_FIT_COVER,
    VIDEO_FIT_STRETCH,
    VIDEO_FIT_UNSPECIFIED,
    EditVideoInput,
    EditVideoOutput,
    VideoClip,
    VideoOverlay,
)
from callsheet.v1.task_pb2 import (
    FAILURE_REASON_INVALID_INPUT,
    PROGRESS_PHASE_ENCODING,
    PROGRESS_PHASE_UNSPECIFIED,
)

if TYPE_CHECKING:
    from callsheet.media.film import Clip, Film, FilmSound, Shown
    from callsheet.media.overlays import Overlay
    from callsheet.media.picture_decoding import Pixels
    from callsheet.media.style import Styled
    from callsheet.media.video_writer import SoundShape, VideoWriter

#: The names of fits, as callsheet.media.picture_decoding has them.
FITS: Final = {
    VIDEO_FIT_UNSPECIFIED: "contain",
    VIDEO_FIT_CONTAIN: "contain",
    VIDEO_FIT_COVER: "cover",
    VIDEO_FIT_STRETCH: "stretch",
}
_SMALLEST: Final = 16
_MOST_RATE: Final = 120
_FINEST: Final = 1001  # the rates of television are so many parts of a thousand and one


def run(input: EditVideoInput, context: TaskContext) -> EditVideoOutput:
    """Put the film together, and return where it was stored."""
    context.report(0, 0, "reading the videos")
    with context.open_media() as media:
        film = _film(input, media)
        edit = _Edit(input, context, film, overlays=_overlays(input, media))
        styled = _styled(input, context, film)
        delivered = deliver_video(
            context,
            partial(edit.write, styled=styled),
            VIDEOS[input.format],
            _provenance(input, context, styled),
            size=film.size,
            rate=film.rate,
            sound=edit.sound_shape(),
        )
    output = EditVideoOutput(
        video=delivered.video,
        poster=delivered.poster,
        thumbnail=delivered.thumbnail,
        provenance=delivered.provenance,
    )
    if styled is not None:
        output.seed = styled.seed
        output.model, output.model_revision = styled.model.name, styled.model.revision
        output.rendering.CopyFrom(styled.rendering)
    return output


@dataclass(frozen=True)
class _Edit:
    """What becomes of a film on its way into a file."""

    input: EditVideoInput
    context: TaskContext
    film: "Film"
    overlays: "list[Overlay]"

    def sound_shape(self) -> "SoundShape | None":
        """Return what sound the file will have. None: nothing is heard."""
        from callsheet.media.film import SOUND_CHANNELS, SOUND_RATE
        from callsheet.media.video_writer import SoundShape

        is_heard = self.input.HasField("soundtrack") or any(
            clip.has_sound for clip in self.film.clips
        )
        return SoundShape(SOUND_RATE, SOUND_CHANNELS) if is_heard else None

    def write(self, writer: "VideoWriter", *, styled: "Styled | None") -> None:
        """Write all pictures, each with what is heard meanwhile."""
        pictures = self.film.pictures() if styled is None else iter(styled.pictures)
        total = self.film.expected if styled is None else len(styled.pictures)
        self.context.enter(PROGRESS_PHASE_ENCODING)
        with closing(self._sound()) as sound:
            for number, shown in enumerate(pictures, start=1):
                self._check(number)
                writer.write(self._overlaid(shown, number - 1))
                if writer.has_sound:
                    writer.write_sound(sound.under(shown))
                of = max(total, number) if total else 0
                self.context.report(number if of else 0, of, f"picture {number}")
        self.context.enter(PROGRESS_PHASE_UNSPECIFIED)

    def _check(self, number: int) -> None:
        limit = self.film.reader.limits.longest
        if number / self.film.rate > limit.total_seconds():
            raise _invalid(f"the film would play longer than {limit.total_seconds():g} seconds")

    def _overlaid(self, shown: "Shown", place: int) -> "Pixels":
        time = float(place / self.film.rate)
        pixels = shown.pixels
        for overlay in self.overlays:
            if overlay.is_seen(time):
                pixels = overlay.over(pixels)
        return pixels

    def _sound(self) -> "FilmSound":
        from callsheet.media.film import SOUND_CHANNELS, SOUND_RATE, FilmSound

        if not self.input.HasField("soundtrack"):
            return FilmSound(self.film, track=None, gain=1.0)
        track = self.input.soundtrack
        begin = partial(
            self.film.reader.sound,
            track.audio,
            start=timedelta(0),
            end=None,
            rate=SOUND_RATE,
            channels=SOUND_CHANNELS,
        )
        return FilmSound(self.film, track=begin, gain=10 ** (track.volume_db / 20))


def _film(input: EditVideoInput, media: MediaReader) -> "Film":
    from callsheet.media.film import Film
    from callsheet.media.picture_decoding import Fit

    files = [media.facts(clip.video) for clip in input.clips]
    first, *_ = [_video_of(file, clip) for file, clip in zip(files, input.clips, strict=True)]
    size = (input.width or _even(first.width), input.height or _even(first.height))
    if size[0] * size[1] > media.limits.most_pixels:
        raise _invalid(f"a film of {size[0]} x {size[1]} pixels has too many")
    rate = Fraction(input.frame_rate) if input.HasField("frame_rate") else first.frame_rate
    is_heard = input.soundtrack.clips != CLIP_SOUND_DROP
    return Film(
        reader=media,
        clips=[
            _clip(clip, file, is_heard=is_heard and clip.sound != CLIP_SOUND_DROP)
            for clip, file in zip(input.clips, files, strict=True)
        ],
        size=size,
        rate=min(rate, Fraction(_MOST_RATE)).limit_denominator(_FINEST),
        fit=Fit(FITS[input.fit]),
    )


def _video_of(file: MediaFacts, clip: VideoClip) -> VideoFacts:
    if file.video is None:
        raise _invalid(f"the file {clip.video.uri.rpartition('/')[2]} has no pictures")
    return file.video


def _clip(clip: VideoClip, file: MediaFacts, *, is_heard: bool) -> "Clip":
    from callsheet.media.film import Clip

    return Clip(
        reference=clip.video,
        duration=file.duration,
        start=clip.start.ToTimedelta(),
        end=clip.end.ToTimedelta() if clip.HasField("end") else None,
        has_sound=is_heard and file.sound is not None,
    )


def _even(side: int) -> int:
    return max(_SMALLEST, side - side % 2)


def _overlays(input: EditVideoInput, media: MediaReader) -> "list[Overlay]":
    return [_overlay(overlay, media) for overlay in input.overlays]


def _overlay(overlay: VideoOverlay, media: MediaReader) -> "Overlay":
    from callsheet.media.overlays import Overlay, scaled_overlay

    picture = media.image(overlay.image, transparent=True)
    return Overlay(
        picture=scaled_overlay(picture, width=overlay.width, height=overlay.height),
        left=overlay.left,
        top=overlay.top,
        opacity=overlay.opacity if overlay.HasField("opacity") else 1.0,
        start=overlay.start.ToTimedelta().total_seconds(),
        end=overlay.end.ToTimedelta().total_seconds() if overlay.HasField("end") else None,
    )


def _styled(input: EditVideoInput, context: TaskContext, film: "Film") -> "Styled | None":
    if not input.HasField("style"):
        return None
    from callsheet.media.style import styled

    return styled(input.style, context, film)


def _provenance(input: EditVideoInput, context: TaskContext, styled: "Styled | None") -> Provenance:
    if styled is None:
        return provenance_of(input, context, source=Source.COMPOSITE)
    return provenance_of(
        input,
        context,
        source=Source.MODEL_AND_INPUT,
        model=styled.model.name,
        model_revision=styled.model.revision,
        seed=styled.seed,
        libraries=styled.libraries,
        tuning=styled.tuning,
    )


def _invalid(message: str) -> HandlerFailure:
    return HandlerFailure(FAILURE_REASON_INVALID_INPUT, message)
