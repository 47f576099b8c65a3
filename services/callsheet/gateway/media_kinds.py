"""What kind of file it is, by its first bytes: what a client says of it has to agree."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from callsheet.gateway.problems import Refused

#: How many of the first bytes are looked at.
HEAD_BYTES: Final = 512

#: What a client says that does not know, or does not care.
_ANYTHING: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})


@dataclass(frozen=True)
class MediaKind:
    """One kind of file that may be uploaded."""

    media_type: str
    suffix: str
    #: Whether the first bytes of a file are of this kind.
    begins: Callable[[bytes], bool]
    #: Other names of it.
    names: frozenset[str] = frozenset()
    #: Whether the bytes alone do not tell: then the client has to name it.
    must_be_named: bool = False

    def is_named(self, declared: str) -> bool:
        """Whether the client's word means this kind."""
        if declared in _ANYTHING:
            return not self.must_be_named
        return declared == self.media_type or declared in self.names


def kind_of(head: bytes, *, declared: str, among: Sequence[MediaKind] | None = None) -> MediaKind:
    """Return the kind of the file that begins so; *among*: which may come, all by default.

    Raises Refused, 415.
    """
    wanted = KINDS if among is None else among
    found = [kind for kind in KINDS if kind.begins(head)]
    named = next((kind for kind in found if kind.is_named(declared)), None)
    if named is not None and named in wanted:
        return named
    if named is None and found and not found[0].must_be_named:
        what = f"the file is {found[0].media_type}, not {declared[:64] or 'unnamed'}"
    else:
        what = f"files may be {', '.join(sorted({kind.media_type for kind in wanted}))}"
    raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "MEDIA_TYPE_UNSUPPORTED", what)


def media_type_of_suffix(suffix: str) -> str | None:
    """Return the media type of files with that ending. None: nobody can have uploaded one."""
    return next((kind.media_type for kind in KINDS if kind.suffix == suffix), None)


def _starts(*beginnings: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(beginnings)


def _riff(form: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[:4] == b"RIFF" and head[8:12] == form


def _brand(*brands: bytes) -> Callable[[bytes], bool]:
    """Whether it is an ISO file of one of these brands; of none in particular without any."""
    return lambda head: head[4:8] == b"ftyp" and (not brands or head[8:12].startswith(brands))


def _matroska(head: bytes) -> bool:
    return head.startswith(b"\x1a\x45\xdf\xa3")


def _webm(head: bytes) -> bool:
    return _matroska(head) and b"webm" in head[:64]


def _text(head: bytes) -> bool:
    if not head or b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        # The last character may be cut off by the end of what is looked at.
        return error.start >= HEAD_BYTES - 4
    return True


_ZIP: Final = _starts(b"PK\x03\x04")
_WORD: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

#: Every kind; where several fit, the first that the client can mean.
KINDS: Final = (
    MediaKind("image/png", "png", _starts(b"\x89PNG\r\n\x1a\n")),
    MediaKind("image/jpeg", "jpg", _starts(b"\xff\xd8\xff"), frozenset({"image/jpg"})),
    MediaKind("image/gif", "gif", _starts(b"GIF87a", b"GIF89a")),
    MediaKind("image/webp", "webp", _riff(b"WEBP")),
    MediaKind("image/avif", "avif", _brand(b"avif", b"avis")),
    MediaKind(
        "audio/wav",
        "wav",
        _riff(b"WAVE"),
        frozenset({"audio/wave", "audio/x-wav", "audio/vnd.wave"}),
    ),
    MediaKind(
        "audio/mpeg",
        "mp3",
        _starts(b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"),
        frozenset({"audio/mp3"}),
    ),
    MediaKind("audio/flac", "flac", _starts(b"fLaC"), frozenset({"audio/x-flac"})),
    MediaKind(
        "audio/ogg",
        "ogg",
        _starts(b"OggS"),
        frozenset({"application/ogg", "audio/opus", "video/ogg"}),
    ),
    MediaKind(
        "audio/mp4", "m4a", _brand(b"M4A "), frozenset({"audio/m4a", "audio/x-m4a", "video/mp4"})
    ),
    MediaKind("video/quicktime", "mov", _brand(b"qt  ")),
    MediaKind("video/mp4", "mp4", _brand(), frozenset({"video/x-m4v", "audio/mp4"})),
    MediaKind("video/webm", "webm", _webm, frozenset({"audio/webm"})),
    MediaKind("video/x-matroska", "mkv", _matroska, frozenset({"audio/x-matroska"})),
    MediaKind("application/pdf", "pdf", _starts(b"%PDF-")),
    MediaKind("application/msword", "doc", _starts(b"\xd0\xcf\x11\xe0"), must_be_named=True),
    MediaKind(_WORD, "docx", _ZIP, must_be_named=True),
    MediaKind("text/plain", "txt", _text, must_be_named=True),
    MediaKind("text/markdown", "md", _text, must_be_named=True),
    MediaKind("text/csv", "csv", _text, must_be_named=True),
    MediaKind("application/json", "json", _text, must_be_named=True),
)
#: The kinds of a moving picture.
VIDEO_KINDS: Final = tuple(
    kind for kind in KINDS if kind.media_type.startswith("video/") or kind.suffix == "gif"
)
