"""Files that are not what they say, or ask for more than there is: refused with a reason."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from callsheet.media.limits import MediaLimits
from callsheet.media.reader import MediaReader
from callsheet.runner.context import HandlerFailure
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT
from tests.support.handling import HandlerContext
from tests.support.media_files import (
    RED,
    plain,
    png,
)
from tests.support.media_reading import Read, facts, image, picture, pictures, refusal_of, sound


def png_header(width: int, height: int, rows: bytes = b"") -> bytes:
    """Return a PNG whose head promises so many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows, 1)) if rows else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def wav_header(*, channels: int, rate: int, size: int) -> bytes:
    """Return a WAV whose head promises so much."""
    block = channels * 2
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block % 2**32, block % 2**16, 16)
    parts = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", 0xFFFFFFFF) + parts + bytes(64)


def flac_header(*, rate: int, samples: int) -> bytes:
    """Return a FLAC whose head promises so much."""
    numbers = rate << 44 | 15 << 36 | samples  # one channel of 16 bits
    told = struct.pack(">HH", 4096, 4096) + bytes(6) + struct.pack(">Q", numbers) + bytes(16)
    return b"fLaC\x80\x00\x00\x22" + told + bytes(64)


GIF_OF_65535_PIXELS = (
    b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + bytes(6) + b"\x2c" + bytes(4) + b"\xff\xff\xff\xff\x00"
    b"\x02\x02\x44\x01\x00\x3b"
)

PLAYLISTS = {
    "m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n",
    "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n",
    "dash": b'<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1/</BaseURL></MPD>',
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) (r) file\n",
    "zip": b"PK\x03\x04" + bytes(64),
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_what_could_name_other_files_is_of_no_kind(
    reader: MediaReader, context: HandlerContext, name: str
) -> None:
    reference = context.upload(PLAYLISTS[name], suffix="mp4")
    for read in (facts, image, picture, pictures, sound):
        refusal = refusal_of(read, reader, reference)
        assert "is of no kind that is read here" in refusal


HOSTILE: dict[str, tuple[Callable[[bytes], bytes], Read, str]] = {
    "an empty file": (lambda _: b"", facts, "is empty"),
    "a head alone": (lambda film: film[:40], facts, "is damaged|has neither"),
    "a film cut off in its index": (
        lambda film: film[:900],
        facts,
        "is damaged|no picture that can be decoded",
    ),
    "a film without its pictures": (
        lambda film: film[: film.index(b"mdat") + 4],
        facts,
        "no picture that can be decoded",
    ),
    "a film cut off in a picture": (
        lambda film: film[: film.index(b"mdat") + 60],
        pictures,
        "is damaged|no picture that can be decoded",
    ),
    "a film of noise": (
        lambda film: film[: film.index(b"mdat") + 4] + os.urandom(20_000),
        pictures,
        "is damaged|no picture that can be decoded",
    ),
    "one picture of a film of noise": (
        lambda film: film[: film.index(b"mdat") + 4] + os.urandom(20_000),
        picture,
        "is damaged|no picture that can be decoded",
    ),
    "a sound that plays for years": (
        lambda _: flac_header(rate=8000, samples=2**36 - 1),
        facts,
        "plays longer than",
    ),
    "a film with enormous pictures": (
        lambda _: GIF_OF_65535_PIXELS,
        facts,
        "65535 x 65535 pixels; at most|without a size",
    ),
    "an image of enormous size": (
        lambda _: GIF_OF_65535_PIXELS,
        image,
        "65535 x 65535 pixels; at most",
    ),
    "a film as a sound with a place it has not": (
        lambda film: film,
        lambda reader, reference: sound(reader, reference, start=50),
        "ends before 50 seconds",
    ),
    "a film with a start it has not": (
        lambda film: film,
        lambda reader, reference: pictures(reader, reference, start=50),
        "ends before 50 seconds",
    ),
    "an image as a video": (lambda _: png(plain(RED)), facts, "is an image"),
    "a video as an image": (lambda film: film, image, "is a video"),
    "a sound as an image": (
        lambda _: wav_header(channels=1, rate=8000, size=64),
        image,
        "is a sound",
    ),
    "a sound as pictures": (
        lambda _: wav_header(channels=1, rate=8000, size=64),
        pictures,
        "has no pictures",
    ),
    "a sound of no channels": (
        lambda _: wav_header(channels=0, rate=8000, size=64),
        sound,
        "is damaged|has",
    ),
    "a sound of an absurd rate": (
        lambda _: wav_header(channels=2, rate=2**31 - 1, size=2**31),
        sound,
        "samples a second|is damaged|plays longer",
    ),
    "a sound of very many channels": (
        lambda _: wav_header(channels=65_535, rate=8000, size=2**31),
        sound,
        "is damaged|has",
    ),
    "an image of more pixels than there is memory": (
        lambda _: png_header(2**31 - 1, 2**31 - 1),
        image,
        "pixels; at most|is damaged",
    ),
    "an image of no pixels": (lambda _: png_header(0, 0), image, "is damaged|without a size"),
    "an image cut off": (lambda _: png(plain(RED))[:60], image, "is damaged"),
    "an image of rubbish": (
        lambda _: b"\xff\xd8\xff" + os.urandom(400),
        image,
        "is damaged",
    ),
    "an Ogg of rubbish": (lambda _: b"OggS" + os.urandom(4000), sound, "is damaged|has no"),
    "a Matroska of rubbish": (
        lambda _: b"\x1a\x45\xdf\xa3" + os.urandom(4000),
        facts,
        "is damaged|has neither",
    ),
    "a GIF of rubbish": (lambda _: b"GIF89a" + os.urandom(400), facts, "is damaged|has|no picture"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_read_is_refused_with_a_reason(
    reader: MediaReader, context: HandlerContext, film: bytes, name: str
) -> None:
    make, read, reason = HOSTILE[name]
    message = refusal_of(read, reader, context.upload(make(film), suffix="bin"))
    with pytest.raises(HandlerFailure, match=reason):
        raise HandlerFailure(FAILURE_REASON_INVALID_INPUT, message)
    # And the process is as good as before
    assert reader.image(context.upload(png(plain(RED)), suffix="png")).shape == (24, 32, 3)


def test_an_image_that_needs_more_memory_than_there_may_be_is_refused(tmp_path: Path) -> None:
    side = 14_000
    bomb = png_header(side, side, bytes((side + 1) * side))
    assert len(bomb) < 2**20
    limits = MediaLimits(memory_bytes=512 * 2**20, most_pixels=side**2)
    context = HandlerContext(tmp_path, limits=limits)
    with context.open_media() as reader:
        message = refusal_of(image, reader, context.upload(bomb, suffix="png"))
    assert "needs more memory" in message
