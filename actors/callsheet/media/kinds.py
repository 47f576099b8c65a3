"""What kind of file it is, by its first bytes alone, and who may read it.

The list is closed: a file of no kind here is not opened by anybody. None of the kinds can name
another file or an address: playlists and the like are not among them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: How many of the first bytes are looked at.
HEAD_BYTES: Final = 512


class Medium(StrEnum):
    """What a file is read as."""

    IMAGE = "image"
    VIDEO = "video"
    """A video may have sound, or nothing but sound."""
    SOUND = "sound"


@dataclass(frozen=True)
class FileKind:
    """One kind of file."""

    name: str
    medium: Medium
    begins: Callable[[bytes], bool]
    pillow: str = ""
    """Pillow's name of it. Empty: Pillow does not read it here."""
    demuxer: str = ""
    """FFmpeg's name of what takes it apart. Empty: FFmpeg does not read it here."""
    can_jump: bool = False
    """Whether a place in it is found exactly, without reading all before it."""


def _starts(*beginnings: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(beginnings)


def _riff(form: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[:4] == b"RIFF" and head[8:12] == form


def _brand(*brands: bytes) -> Callable[[bytes], bool]:
    """Whether it is an ISO file of one of these brands; of none in particular without any."""
    return lambda head: head[4:8] == b"ftyp" and (not brands or head[8:12].startswith(brands))


#: Where several fit, the first one counts.
KINDS: Final = (
    FileKind("PNG", Medium.IMAGE, _starts(b"\x89PNG\r\n\x1a\n"), pillow="PNG"),
    FileKind("JPEG", Medium.IMAGE, _starts(b"\xff\xd8\xff"), pillow="JPEG"),
    FileKind("WebP", Medium.IMAGE, _riff(b"WEBP"), pillow="WEBP"),
    FileKind("GIF", Medium.VIDEO, _starts(b"GIF87a", b"GIF89a"), pillow="GIF", demuxer="gif"),
    FileKind("AVIF", Medium.IMAGE, _brand(b"avif", b"avis"), pillow="AVIF"),
    FileKind("MP4", Medium.VIDEO, _brand(), demuxer="mov", can_jump=True),
    FileKind(
        "WebM or Matroska",
        Medium.VIDEO,
        _starts(b"\x1a\x45\xdf\xa3"),
        demuxer="matroska",
        can_jump=True,
    ),
    FileKind("WAV", Medium.SOUND, _riff(b"WAVE"), demuxer="wav", can_jump=True),
    FileKind("FLAC", Medium.SOUND, _starts(b"fLaC"), demuxer="flac", can_jump=True),
    FileKind("Ogg", Medium.SOUND, _starts(b"OggS"), demuxer="ogg", can_jump=True),
    FileKind(
        "MP3",
        Medium.SOUND,
        _starts(b"ID3", b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2"),
        demuxer="mp3",
    ),
)

#: The decoders that may be handed what a demuxer finds, by FFmpeg's names.
VIDEO_DECODERS: Final = frozenset(
    {"h264", "hevc", "libdav1d", "av1", "vp8", "vp9", "mpeg4", "mjpeg", "prores", "dnxhd", "gif"}
)
SOUND_DECODERS: Final = frozenset(
    {
        "aac",
        "ac3",
        "alac",
        "flac",
        "mp3",
        "mp3float",
        "opus",
        "libopus",
        "vorbis",
        "pcm_alaw",
        "pcm_mulaw",
        "pcm_f32be",
        "pcm_f32le",
        "pcm_f64le",
        "pcm_s16be",
        "pcm_s16le",
        "pcm_s24be",
        "pcm_s24le",
        "pcm_s32be",
        "pcm_s32le",
        "pcm_u8",
    }
)


def kind_of(head: bytes) -> FileKind | None:
    """Return the kind of the file that begins so. None: it is of no kind that is read here."""
    return next((kind for kind in KINDS if kind.begins(head)), None)
