"""How each format of the contract is written: container, codecs and their options.

All that bears on the bytes is named here, the number of threads too: the same pixels and samples
give the same bytes, on machines of any size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from callsheet.tasks.v1.generate_image_pb2 import (
    IMAGE_FORMAT_JPEG,
    IMAGE_FORMAT_PNG,
    IMAGE_FORMAT_UNSPECIFIED,
    IMAGE_FORMAT_WEBP,
    ImageFormat,
)
from callsheet.tasks.v1.media_pb2 import (
    AUDIO_FORMAT_FLAC,
    AUDIO_FORMAT_MP3,
    AUDIO_FORMAT_OPUS,
    AUDIO_FORMAT_UNSPECIFIED,
    AUDIO_FORMAT_WAV,
    VIDEO_FORMAT_GIF,
    VIDEO_FORMAT_MP4,
    VIDEO_FORMAT_UNSPECIFIED,
    VIDEO_FORMAT_WEBM,
    AudioFormat,
    VideoFormat,
)

_Options = Mapping[str, str]


@dataclass(frozen=True)
class ImageEncoding:
    """How Pillow writes an image; the options are all given, so that its bytes do not drift."""

    pillow_name: str
    media_type: str
    suffix: str
    options: Mapping[str, int | bool] = field(default_factory=dict[str, int | bool])


@dataclass(frozen=True, kw_only=True)
class SoundCodec:
    """How FFmpeg encodes sound."""

    name: str
    options: _Options = field(default_factory=dict[str, str])
    bit_rate: int = 0
    """Bits a second; 0: what the codec needs."""
    rates: tuple[int, ...] = ()
    """The samples a second that it takes. Empty: any."""

    def rate_for(self, wanted: int) -> int:
        """Return what is nearest to the wanted number of samples a second; of two the higher."""
        if not self.rates or wanted in self.rates:
            return wanted
        return min(self.rates, key=lambda rate: (abs(rate - wanted), -rate))


@dataclass(frozen=True, kw_only=True)
class SoundEncoding:
    """How FFmpeg writes a file of sound."""

    muxer: str
    media_type: str
    suffix: str
    codec: SoundCodec


@dataclass(frozen=True, kw_only=True)
class VideoEncoding:
    """How FFmpeg writes a video."""

    muxer: str
    media_type: str
    suffix: str
    codec: str
    pixel_format: str
    options: _Options = field(default_factory=dict[str, str])
    muxer_options: _Options = field(default_factory=dict[str, str])
    threads: int = 4
    """Always so many, because they bear on the bytes."""
    most_rate: int = 0
    """Pictures a second, beyond which some are left out; 0: any number is written."""
    sound: SoundCodec | None = None
    """None: it has no sound."""


_PNG: Final = ImageEncoding("PNG", "image/png", "png", {"compress_level": 6})

IMAGES: Final[Mapping[ImageFormat.ValueType, ImageEncoding]] = MappingProxyType(
    {
        IMAGE_FORMAT_UNSPECIFIED: _PNG,
        IMAGE_FORMAT_PNG: _PNG,
        IMAGE_FORMAT_WEBP: ImageEncoding(
            "WEBP", "image/webp", "webp", {"lossless": True, "quality": 80, "method": 4}
        ),
        IMAGE_FORMAT_JPEG: ImageEncoding(
            "JPEG", "image/jpeg", "jpg", {"quality": 95, "subsampling": 0, "optimize": False}
        ),
    }
)

#: Posters and thumbnails.
SMALL: Final = ImageEncoding("WEBP", "image/webp", "webp", {"quality": 80, "method": 4})

_MP3_RATES: Final = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OPUS: Final = SoundCodec(name="libopus", bit_rate=128_000, rates=(48_000,))

_WAV: Final = SoundEncoding(
    muxer="wav", media_type="audio/wav", suffix="wav", codec=SoundCodec(name="pcm_s16le")
)

SOUNDS: Final[Mapping[AudioFormat.ValueType, SoundEncoding]] = MappingProxyType(
    {
        AUDIO_FORMAT_UNSPECIFIED: _WAV,
        AUDIO_FORMAT_WAV: _WAV,
        AUDIO_FORMAT_MP3: SoundEncoding(
            muxer="mp3",
            media_type="audio/mpeg",
            suffix="mp3",
            codec=SoundCodec(name="libmp3lame", bit_rate=192_000, rates=_MP3_RATES),
        ),
        AUDIO_FORMAT_OPUS: SoundEncoding(
            muxer="ogg", media_type="audio/ogg", suffix="ogg", codec=_OPUS
        ),
        AUDIO_FORMAT_FLAC: SoundEncoding(
            muxer="flac",
            media_type="audio/flac",
            suffix="flac",
            codec=SoundCodec(name="flac", options={"compression_level": "5"}),
        ),
    }
)

_MP4: Final = VideoEncoding(
    muxer="mp4",
    media_type="video/mp4",
    suffix="mp4",
    codec="libx264",
    pixel_format="yuv420p",
    options={"crf": "18", "preset": "medium", "profile": "high"},
    # The index comes first, so that it plays before all of it is there.
    muxer_options={"movflags": "faststart+use_metadata_tags"},
    sound=SoundCodec(name="aac", bit_rate=192_000, rates=(44_100, 48_000)),
)

VIDEOS: Final[Mapping[VideoFormat.ValueType, VideoEncoding]] = MappingProxyType(
    {
        VIDEO_FORMAT_UNSPECIFIED: _MP4,
        VIDEO_FORMAT_MP4: _MP4,
        VIDEO_FORMAT_WEBM: VideoEncoding(
            muxer="webm",
            media_type="video/webm",
            suffix="webm",
            codec="libvpx-vp9",
            pixel_format="yuv420p",
            options={"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4"},
            sound=_OPUS,
        ),
        VIDEO_FORMAT_GIF: VideoEncoding(
            muxer="gif",
            media_type="image/gif",
            suffix="gif",
            codec="gif",
            pixel_format="pal8",
            most_rate=50,  # its clock has hundredths of a second, and players take no less than two
        ),
    }
)
