"""Uploads: streamed, sniffed, hashed on the way, and nothing left of what was broken off."""

import asyncio
import hashlib
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.gateway.media_kinds import HEAD_BYTES, KINDS, kind_of
from callsheet.gateway.problems import Refused
from tests.support.controls import until
from tests.support.gateways import RunningGateway, running_gateway_plane
from tests.support.pictures import PNG

UPLOADS = "/api/v1/uploads"
#: The places that uploads hold in their project's quota while they come.
COMING = "*:uploads:default:coming"
MP4 = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + bytes(1000)


HALF = PNG + bytes(2_000_000)
PART = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
#: The head of an upload, and half of its body.
HALVES = {
    "by its head": ("content-type: image/png\r\ncontent-length: 5000000", HALF),
    "in chunks": (
        "content-type: image/png\r\ntransfer-encoding: chunked",
        b"%x\r\n%b\r\n" % (len(HALF), HALF),
    ),
    "as a form": (
        "content-type: multipart/form-data; boundary=b\r\ncontent-length: 5000000",
        PART + HALF,
    ),
}


def kept(gateway: RunningGateway) -> list[Path]:
    """Return every file that the gateway's state folder holds of uploads."""
    folder = gateway.settings.state_dir
    return [
        path
        for root in (folder / "uploads", folder / "artifacts")
        for path in root.rglob("*")
        if path.is_file()
    ]


async def test_a_file_is_kept_under_its_digest_and_served_again(gateway: RunningGateway) -> None:
    headers = {"content-type": "image/png"}
    answer = await gateway.http.post(UPLOADS, content=PNG, headers=headers)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert told["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert (told["size_bytes"], told["media_type"]) == (len(PNG), "image/png")
    assert told["uri"].endswith(f"/projects/default/uploads/{told['name']}")
    served = await gateway.http.get(told["url"])
    assert (served.status_code, served.content) == (200, PNG)
    again = await gateway.http.post(UPLOADS, content=PNG, headers=headers)
    assert again.json() == told
    assert len(kept(gateway)) == 1


async def test_the_file_of_a_form_is_an_upload_too(gateway: RunningGateway) -> None:
    content = MP4 + bytes(3_000_000)
    files = {"file": ("clip.mp4", content, "video/mp4")}
    answer = await gateway.http.post(UPLOADS, files=files)
    assert answer.status_code == 201, answer.text
    assert answer.json()["sha256"] == hashlib.sha256(content).hexdigest()
    assert answer.json()["name"].endswith(".mp4")


#: What is refused: bytes, what they are said to be, status and reason.
LIES = [
    (b"", "image/png", 400, "UPLOAD_EMPTY"),
    (PNG, "video/mp4", 415, "MEDIA_TYPE_UNSUPPORTED"),
    (b"<html><script>", "text/html", 415, "MEDIA_TYPE_UNSUPPORTED"),
    (b"<svg xmlns='x'/>", "image/svg+xml", 415, "MEDIA_TYPE_UNSUPPORTED"),
    (b"MZ\x90\x00" + bytes(600), "image/png", 415, "MEDIA_TYPE_UNSUPPORTED"),
    (b"\x7fELF" + bytes(600), "application/octet-stream", 415, "MEDIA_TYPE_UNSUPPORTED"),
]

#: Forms that are not one file in the field `file`, by what is wrong with them.
FORMS: dict[str, dict[str, Any]] = {
    "another name": {"files": {"video": ("v.mp4", MP4, "video/mp4")}},
    "one field more": {
        "files": {"file": ("v.mp4", MP4, "video/mp4")},
        "data": {"project_id": "default"},
    },
    "two files": {"files": [("file", ("1", PNG, "image/png")), ("file", ("2", PNG, "image/png"))]},
    "broken off": {
        "content": b"--x\r\nContent-Disposition: form-data",
        "headers": {"content-type": "multipart/form-data; boundary=x"},
    },
    "no boundary": {"content": PNG, "headers": {"content-type": "multipart/form-data"}},
}


async def test_what_is_not_what_it_says_is_refused(gateway: RunningGateway) -> None:
    for content, declared, status, reason in LIES:
        headers = {"content-type": declared}
        answer = await gateway.http.post(UPLOADS, content=content, headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (status, reason), declared
    assert kept(gateway) == []


async def test_a_form_has_one_file_and_nothing_else(gateway: RunningGateway) -> None:
    for name, form in FORMS.items():
        answer = await gateway.http.post(UPLOADS, **form)
        assert answer.status_code == 400, name
    assert kept(gateway) == []


async def test_a_key_that_may_not_submit_uploads_nothing(gateway: RunningGateway) -> None:
    reader = await gateway.new_key(roles=frozenset({"read"}))
    headers = {"content-type": "image/png"}
    async with gateway.client(reader) as http:
        answer = await http.post(UPLOADS, content=PNG, headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (403, "ROLE_MISSING")
    params = {"project_id": "elsewhere"}
    answer = await gateway.http.post(UPLOADS, content=PNG, headers=headers, params=params)
    assert (answer.status_code, answer.json()["reason"]) == (404, "PROJECT_NOT_FOUND")
    assert kept(gateway) == []


#: Names of uploads that nobody made.
NOBODYS = ["x", "..%2f..%2fsecret", "0" * 32 + ".png", "0" * 32 + ".exe", "z" * 32 + ".png"]


async def test_an_upload_that_is_not_there_is_not_found(gateway: RunningGateway) -> None:
    for name in NOBODYS:
        assert (await gateway.http.get(f"{UPLOADS}/{name}")).status_code == 404, name


def spooled(gateway: RunningGateway) -> list[int]:
    """Return the sizes of the files without a name that are open in the folder of uploads."""
    folder = f"{gateway.settings.state_dir}/uploads/"
    return [
        file.stat().st_size
        for file in Path("/proc/self/fd").iterdir()
        if file.is_symlink() and str(file.readlink()).startswith(folder)
    ]


@pytest.mark.parametrize("how", ["by its head", "in chunks", "as a form"])
async def test_an_upload_that_breaks_off_leaves_nothing(gateway: RunningGateway, how: str) -> None:
    """The connection is reset in the middle of the body, after some of it was written."""
    head, content = HALVES[how]
    with socket.create_connection(("127.0.0.1", gateway.gateway.server.port), 10) as line:
        line.setblocking(False)
        start = f"POST {UPLOADS} HTTP/1.1\r\nhost: x\r\nx-api-key: {gateway.key}\r\n{head}\r\n\r\n"
        await asyncio.get_running_loop().sock_sendall(line, start.encode() + content)
        await until(lambda: any(size >= 2**20 for size in spooled(gateway)))
        # An RST, as of a machine that lost its power, and no orderly end
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await until(lambda: spooled(gateway) == [])
    await until(lambda: not gateway.gateway.server.connections)
    assert kept(gateway) == []
    assert await gateway.gateway.beside.sessions.command("KEYS", COMING) == []
    # And what it held is free
    answer = await gateway.http.post(UPLOADS, content=PNG, headers={"content-type": "image/png"})
    assert answer.status_code == 201


@pytest.fixture
async def narrow(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> AsyncIterator[RunningGateway]:
    """A gateway that takes files of 10,000 bytes."""
    async with running_gateway_plane(
        valkey_server.url, cell, tmp_path, upload_largest_bytes=10_000
    ) as running:
        yield running


async def pieces(count: int) -> AsyncIterator[bytes]:
    """Yield a file that does not say how long it is."""
    yield PNG
    for _ in range(count):
        yield bytes(1000)


async def test_a_file_that_is_too_large_is_refused_however_it_comes(narrow: RunningGateway) -> None:
    headers = {"content-type": "image/png"}
    answers = [
        await narrow.http.post(UPLOADS, content=PNG + bytes(10_000), headers=headers),
        await narrow.http.post(UPLOADS, content=pieces(20), headers=headers),
        await narrow.http.post(
            UPLOADS, files={"file": ("a.png", PNG + bytes(10_000), "image/png")}
        ),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["reason"]) == (413, "BODY_TOO_LARGE")
    assert kept(narrow) == []
    exact = PNG + bytes(10_000 - len(PNG))
    assert (await narrow.http.post(UPLOADS, content=exact, headers=headers)).status_code == 201


async def test_a_file_announced_too_large_is_refused_before_it_is_sent(
    narrow: RunningGateway,
) -> None:
    with socket.create_connection(("127.0.0.1", narrow.gateway.server.port), 10) as line:
        line.setblocking(False)
        loop = asyncio.get_running_loop()
        head = (
            f"POST {UPLOADS} HTTP/1.1\r\nhost: x\r\nx-api-key: {narrow.key}\r\n"
            "content-type: image/png\r\ncontent-length: 999999999999\r\n"
            "expect: 100-continue\r\n\r\n"
        )
        await loop.sock_sendall(line, head.encode())
        answer = await loop.sock_recv(line, 65536)
        assert answer.startswith(b"HTTP/1.1 413 ")


def test_every_kind_is_known_by_its_own_name() -> None:
    for kind in KINDS:
        assert kind.is_named(kind.media_type)
    assert len({kind.suffix for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize(
    ("head", "declared", "suffix"),
    [
        (PNG, "", "png"),
        (MP4, "application/octet-stream", "mp4"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio/x-wav", "wav"),
        (b"\x1a\x45\xdf\xa3" + b"\x42\x82\x84webm", "audio/webm", "webm"),
        (b"PK\x03\x04", KINDS[-5].media_type, "docx"),
        ("käse".encode() * 200, "text/plain", "txt"),
        (("x" * (HEAD_BYTES - 1) + "ä").encode()[:HEAD_BYTES], "text/markdown", "md"),
    ],
)
def test_a_kind_is_told_by_the_first_bytes(head: bytes, declared: str, suffix: str) -> None:
    assert kind_of(head[:HEAD_BYTES], declared=declared).suffix == suffix


@pytest.mark.parametrize("declared", ["", "application/zip", "text/plain"])
def test_an_archive_that_is_no_document_is_refused(declared: str) -> None:
    with pytest.raises(Refused):
        kind_of(b"PK\x03\x04" + bytes(100), declared=declared)
