"""What uploads may take: no project all of the places, and none more than its bytes a day."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import httpx
import pytest

from callsheet.embedded.valkey import EmbeddedValkey
from tests.gateway.test_uploads import PNG, UPLOADS, kept, pieces
from tests.support.controls import ping_request
from tests.support.gateways import RunningGateway, gateway_before, running_gateway_plane

QUOTA = 10_000
HEADERS = {"content-type": "image/png"}
FILM = {"project_id": "film"}
BOTH = frozenset({"default", "film"})


@pytest.fixture
async def frugal(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> AsyncIterator[RunningGateway]:
    """A gateway that takes 10,000 bytes a day of each project."""
    async with running_gateway_plane(
        valkey_server.url, cell, tmp_path, upload_daily_bytes=QUOTA
    ) as running:
        yield running


def picture(size: int, *, of: int = 0) -> bytes:
    """Return a picture of so many bytes; of another number it is another one."""
    return PNG + bytes([of]) * (size - len(PNG))


async def brought(gateway: RunningGateway, content: bytes, **options: object) -> httpx.Response:
    """Upload a picture."""
    return await gateway.http.post(UPLOADS, content=content, headers=HEADERS, **options)  # pyright: ignore[reportArgumentType]  # httpx checks them at run time


def refused(answer: httpx.Response) -> bool:
    """Whether the answer is that the quota is used up, and when to come again."""
    if answer.status_code != 429:
        return False
    assert answer.json()["reason"] == "UPLOAD_QUOTA_EXHAUSTED"
    return int(answer.headers["retry-after"]) > 0


async def test_no_project_takes_the_place_of_all_uploads(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(
            running_gateway_plane(valkey_server.url, cell, tmp_path, uploads=4)
        )
        for _ in range(2):
            line = stack.enter_context(
                socket.create_connection(("127.0.0.1", gateway.gateway.server.port), 10)
            )
            line.sendall(
                f"POST {UPLOADS} HTTP/1.1\r\nhost: x\r\nx-api-key: {await gateway.new_key()}\r\n"
                "content-type: image/png\r\ncontent-length: 5000\r\n\r\n".encode()
            )
        async with asyncio.timeout(30):
            while (answer := await brought(gateway, PNG)).status_code != 429:
                assert answer.status_code == 201
        assert answer.json()["reason"] == "PROJECT_UPLOADS_EXHAUSTED"
        assert "2 uploads of one project" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) > 0
        async with gateway.client(await gateway.new_key(projects=BOTH)) as other:
            answer = await other.post(UPLOADS, content=PNG, headers=HEADERS, params=FILM)
        assert answer.status_code == 201


async def test_a_project_brings_no_more_than_its_bytes_a_day(frugal: RunningGateway) -> None:
    assert (await brought(frugal, picture(6_000))).status_code == 201
    refusal = await brought(frugal, picture(5_000))
    assert refused(refusal)
    assert "4000 are left" in refusal.json()["detail"]
    assert 86_000 < int(refusal.headers["retry-after"]) <= 86_400
    assert refused(await frugal.http.post(UPLOADS, content=pieces(5), headers=HEADERS))
    files = {"file": ("a.png", picture(5_000), "image/png")}
    assert refused(await frugal.http.post(UPLOADS, files=files))
    assert len(kept(frugal)) == 1
    # What was refused holds nothing, and another project has its own
    assert (await brought(frugal, picture(4_000))).status_code == 201
    async with frugal.client(await frugal.new_key(projects=BOTH)) as other:
        answer = await other.post(UPLOADS, content=picture(9_000), headers=HEADERS, params=FILM)
    assert answer.status_code == 201


async def test_what_is_announced_is_refused_before_it_is_sent(frugal: RunningGateway) -> None:
    assert (await brought(frugal, picture(6_000))).status_code == 201
    with socket.create_connection(("127.0.0.1", frugal.gateway.server.port), 10) as line:
        line.setblocking(False)
        loop = asyncio.get_running_loop()
        head = (
            f"POST {UPLOADS} HTTP/1.1\r\nhost: x\r\nx-api-key: {frugal.key}\r\n"
            "content-type: image/png\r\ncontent-length: 5000\r\nexpect: 100-continue\r\n\r\n"
        )
        await loop.sock_sendall(line, head.encode())
        assert (await loop.sock_recv(line, 65536)).startswith(b"HTTP/1.1 429 ")


async def test_a_file_that_no_day_has_room_for_is_too_large(frugal: RunningGateway) -> None:
    answer = await brought(frugal, picture(QUOTA + 1))
    assert (answer.status_code, answer.json()["reason"]) == (413, "BODY_TOO_LARGE")
    assert (await brought(frugal, picture(QUOTA))).status_code == 201


async def test_the_same_bytes_count_once(frugal: RunningGateway) -> None:
    for _ in range(3):
        assert (await brought(frugal, picture(4_000))).status_code == 201
    assert (await brought(frugal, picture(6_000, of=1))).status_code == 201


async def test_what_a_task_refers_to_counts_no_more(frugal: RunningGateway) -> None:
    first = (await brought(frugal, picture(6_000))).json()
    assert refused(await brought(frugal, picture(6_000, of=1)))
    await frugal.submit(echo=first["uri"])
    second = (await brought(frugal, picture(6_000, of=1))).json()
    connect = {"spec": {"ping": {"echo": second["uri"]}}}
    path = "/callsheet.v1.TaskService/SubmitTask"
    assert (await frugal.http.post(path, json=connect)).status_code == 200
    third = (await brought(frugal, picture(6_000, of=2))).json()
    path = "/callsheet.v1.TaskService/SubmitTasks"
    bad = {"spec": {"ping": {"echo": third["uri"]}}, "project": "elsewhere"}
    assert (await frugal.http.post(path, json={"requests": [bad]})).status_code == 200
    assert refused(await brought(frugal, picture(6_000, of=3)))  # a refused one refers to nothing
    batch = {"requests": [bad, {"spec": {"ping": {"echo": third["uri"]}}}]}
    assert (await frugal.http.post(path, json=batch)).status_code == 200
    assert (await brought(frugal, picture(6_000, of=3))).status_code == 201


async def test_nobody_frees_what_another_project_brought(frugal: RunningGateway) -> None:
    uri = (await brought(frugal, picture(6_000))).json()["uri"]
    async with frugal.client(await frugal.new_key(projects=frozenset({"film"}))) as other:
        body = {"task_type": "ping", "task_data": {"echo": uri}}
        assert (await other.post("/api/v1/tasks/submit", json=body)).status_code == 202
    assert refused(await brought(frugal, picture(6_000, of=1)))


async def test_a_file_counts_for_a_day(frugal: RunningGateway) -> None:
    assert (await brought(frugal, picture(6_000))).status_code == 201
    sessions = frugal.gateway.beside.sessions
    prefix = f"callsheet:{{{frugal.settings.cell}}}:uploads:default"
    found = cast("list[bytes]", await sessions.command("ZRANGE", f"{prefix}:times", 0, -1))
    # When it was brought long ago, and an upload was never ended by a gateway that died
    await sessions.command("ZADD", f"{prefix}:times", 1, *found)
    await sessions.command("HSET", f"{prefix}:coming", "lost", f"{QUOTA}:1")
    assert (await brought(frugal, picture(QUOTA, of=1))).status_code == 201
    assert await sessions.command("ZCARD", f"{prefix}:times") == 1
    assert await sessions.command("HGET", prefix, "total") == str(QUOTA).encode()


async def test_only_so_many_files_count_at_the_same_time(
    frugal: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callsheet.gateway.upload_quota.MOST_FILES", 1)
    assert (await brought(frugal, picture(1_000))).status_code == 201
    assert refused(await brought(frugal, picture(1_000, of=1)))


async def test_all_gateways_count_together(
    frugal: RunningGateway, valkey_server: EmbeddedValkey, tmp_path: Path
) -> None:
    assert (await brought(frugal, picture(6_000))).status_code == 201
    async with gateway_before(
        frugal.plane,
        valkey_server.url,
        frugal.settings.cell,
        tmp_path / "other",
        upload_daily_bytes=QUOTA,
    ) as other:
        assert refused(await brought(other, picture(5_000, of=1)))


async def test_without_redis_each_gateway_counts_by_itself(
    frugal: RunningGateway, valkey_server: EmbeddedValkey, tmp_path: Path
) -> None:
    assert (await brought(frugal, picture(6_000))).status_code == 201
    async with gateway_before(
        frugal.plane,
        valkey_server.url,
        frugal.settings.cell,
        tmp_path / "alone",
        upload_daily_bytes=QUOTA,
        sessions_redis_url="redis://127.0.0.1:1",
    ) as alone:
        assert (await brought(alone, picture(6_000, of=1))).status_code == 201
        assert refused(await brought(alone, picture(5_000, of=2)))
        answer = await alone.http.post(UPLOADS, content=pieces(5), headers=HEADERS)
        assert refused(answer)  # and what came of it is given back
        lie = await alone.http.post(UPLOADS, content=bytes(4_000), headers=HEADERS)
        assert lie.status_code == 415
        assert (await brought(alone, picture(4_000, of=3))).status_code == 201
        await alone.plane.client.submit(ping_request())  # tasks need no sessions
