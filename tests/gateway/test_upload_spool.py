"""Where uploads wait: threads of their own, and a file that is never closed under their hands."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from callsheet.artifacts.errors import ArtifactStoreError
from callsheet.artifacts.store import StoredArtifact
from callsheet.embedded.valkey import EmbeddedValkey
from callsheet.gateway import main
from callsheet.gateway.problems import Refused
from callsheet.gateway.upload_spool import UploadThreads, spooled
from callsheet.runtime.settings import Settings
from tests.gateway.test_uploads import PNG, UPLOADS
from tests.support.controls import until
from tests.support.gateways import running_gateway_plane

PATIENCE = 30.0


@pytest.fixture
async def threads() -> AsyncIterator[UploadThreads]:
    """Two threads."""
    found = UploadThreads(2)
    yield found
    await found.close()


async def test_what_is_written_can_be_read_by_its_path(
    threads: UploadThreads, tmp_path: Path
) -> None:
    async with spooled(tmp_path / "new", threads) as spool:
        await spool.write(b"abc")
        await spool.write(b"def")
        assert (spool.size, spool.path.read_bytes()) == (6, b"abcdef")
    assert list((tmp_path / "new").iterdir()) == []


async def test_a_file_stays_open_until_its_thread_has_ended(
    threads: UploadThreads, tmp_path: Path
) -> None:
    go_on, found = threading.Event(), list[bytes]()
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def upload() -> None:
        async with spooled(tmp_path, threads) as spool:
            await spool.write(b"mine")
            path = spool.path

            def store() -> None:
                loop.call_soon_threadsafe(started.set)
                go_on.wait(PATIENCE)
                found.append(path.read_bytes())

            await spool.off_loop(store)

    uploading = asyncio.create_task(upload())
    await started.wait()
    # When the upload is cancelled, and others are given the numbers of files that are free
    uploading.cancel()
    await asyncio.wait({uploading})
    others = [os.open(__file__, os.O_RDONLY) for _ in range(16)]
    go_on.set()
    await until(lambda: bool(found))
    for other in others:
        os.close(other)
    # Then its thread has read its own file
    assert found == [b"mine"]


async def test_a_folder_that_cannot_be_written_is_said(
    threads: UploadThreads, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Refused) as refused:
        async with spooled(tmp_path / "file", threads):
            pass
    assert (refused.value.status, refused.value.reason) == (507, "UPLOAD_NOT_KEPT")


class HeldStore:
    """A store whose uploads wait until they are let go, and that remembers what it read."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.go_on = threading.Event()
        self.read: list[bytes] = []
        self.thread = ""

    def put_upload(self, path: Path, **_: object) -> StoredArtifact:
        self.thread = threading.current_thread().name
        self.started.set()
        self.go_on.wait(PATIENCE)
        self.read.append(path.read_bytes())
        raise ArtifactStoreError("the test is over")


async def test_a_gateway_that_is_made_to_end_lets_threads_end_and_reads_no_others_file(
    valkey_server: EmbeddedValkey, cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = HeldStore()

    def held(_: Settings) -> HeldStore:
        return store

    monkeypatch.setattr(main, "artifact_store", held)
    async with running_gateway_plane(valkey_server.url, cell, tmp_path) as gateway:
        headers = {"content-type": "image/png"}
        sending = asyncio.create_task(gateway.http.post(UPLOADS, content=PNG, headers=headers))
        await until(store.started.is_set)
        assert store.thread.startswith("upload")
        # When the server gives up the requests that are under way
        await gateway.gateway.server.stop(grace=timedelta())
        await asyncio.wait({sending})
        others = [os.open(__file__, os.O_RDONLY) for _ in range(16)]
        store.go_on.set()
    # Then the end of the gateway waited for the thread, and its file was its own until then
    assert store.read == [PNG]
    for other in others:
        os.close(other)
    sending.exception()
