"""PayloadCMS, the brain and the artifacts' store are looked at; nothing is changed by it."""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from callsheet.artifacts.access import S3Access
from callsheet.artifacts.store import ArtifactStore
from callsheet.payload.client import PayloadPlace
from callsheet.runtime.checks.brain_check import BrainCheck
from callsheet.runtime.checks.finding import Finding, HealthState, looked
from callsheet.runtime.checks.payload_check import PayloadCheck
from callsheet.runtime.checks.storage_check import StorageCheck
from callsheet.runtime.settings import Settings
from tests.support.brains import TOKEN, SmallBrainProcess
from tests.support.faulty_payload import FaultyPayload
from tests.support.receiver import Reply

SECONDS = 30.0


class Usage(NamedTuple):
    """As shutil has it."""

    total: int
    used: int
    free: int


async def payload_at(url: str) -> Finding:
    check = PayloadCheck(PayloadPlace(url, api_key="hunter2"), jitter=lambda: 0.5)
    try:
        return await looked(check)
    finally:
        await check.close()


async def test_a_payload_that_answers_a_search_is_up() -> None:
    async with FaultyPayload() as payload:
        found = await payload_at(payload.api)
        assert found.state is HealthState.UP
        assert payload.documents == []


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(status=403, body=b"{}"), "it refuses the key"),
        (Reply(status=200, body=b"<html>"), "what answers is not as expected"),
        (Reply(status=503, body=b""), "it does not answer"),
        (Reply(status=400, body=b"{}"), "it refuses a search"),
        (Reply(cut=True), "it does not answer"),
    ],
)
async def test_a_payload_that_does_not_is_down(reply: Reply, reason: str) -> None:
    async with FaultyPayload(searches=[reply]) as payload:
        found = await payload_at(payload.api)
    assert (found.state, found.reason) == (HealthState.DOWN, reason)
    assert found.mend
    assert "hunter2" not in repr(found)


@pytest.fixture
async def brain(tmp_path: Path) -> AsyncIterator[SmallBrainProcess]:
    process = SmallBrainProcess(tmp_path, token=TOKEN)
    await process.start()
    yield process
    process.kill()


async def test_a_brain_is_up_while_it_answers_and_down_while_it_is_away(
    brain: SmallBrainProcess,
) -> None:
    # Given a brain that answers
    settings = Settings(brain_ws_url=brain.url, brain_token=TOKEN)  # pyright: ignore[reportArgumentType]  # checked at run time
    check = BrainCheck(settings, jitter=lambda: 0.0)
    try:
        found = await looked(check, timeout=timedelta(seconds=SECONDS))
        assert found.state is HealthState.UP, found
        assert found.latency is not None
        # When it is gone, then it is down, and no address is the reason
        brain.kill()
        found = await looked(check, timeout=timedelta(seconds=SECONDS))
        assert found.state is HealthState.DOWN
        assert "127.0.0.1" not in found.reason
        # And once it is back it is up
        await brain.start()
        while (await looked(check, timeout=timedelta(seconds=SECONDS))).state is not HealthState.UP:
            assert not check.is_essential
    finally:
        await check.close()


async def test_a_brain_that_refuses_the_token_is_down(brain: SmallBrainProcess) -> None:
    settings = Settings(brain_ws_url=brain.url, brain_token="another-token")  # pyright: ignore[reportArgumentType]  # checked at run time
    check = BrainCheck(settings, jitter=lambda: 0.0, patience=timedelta(seconds=1))
    try:
        found = await looked(check, timeout=timedelta(seconds=SECONDS))
    finally:
        await check.close()
    assert (found.state, found.reason) == (HealthState.DOWN, "it is away")
    assert "another-token" not in repr(found)


def storage_at(folder: Path) -> StorageCheck:
    return StorageCheck(ArtifactStore(folder.as_uri()), folder.as_uri())


async def test_a_folder_that_can_be_written_is_up_and_is_not_made(tmp_path: Path) -> None:
    found = await looked(storage_at(tmp_path / "artifacts"))
    assert found.state is HealthState.UP
    assert found.figures["free_bytes"]
    assert not (tmp_path / "artifacts").exists()


async def test_a_folder_that_is_a_file_is_down(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("in the way")
    found = await looked(storage_at(tmp_path / "artifacts"))
    assert (found.state, found.reason) == (HealthState.DOWN, "it cannot be written")


async def test_a_disk_that_is_nearly_full_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 2**40, 1))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]  # stands for a full disk
    found = await looked(storage_at(tmp_path))
    assert (found.state, found.reason) == (HealthState.DEGRADED, "it is nearly full")


async def test_a_bucket_that_is_not_there_is_down() -> None:
    url = "s3://nobody/there"
    access = S3Access(endpoint="http://127.0.0.1:9", access_key_id="a", secret_access_key="b")
    check = StorageCheck(ArtifactStore(url, s3=access), url)
    found = await looked(check, timeout=timedelta(seconds=SECONDS))
    assert (found.state, found.reason) == (HealthState.DOWN, "it cannot be read")


async def test_a_store_that_hangs_holds_one_thread_and_answers_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a folder whose disk does not answer
    awake, asked = threading.Event(), 0

    def usage(_: Path) -> Usage:
        nonlocal asked
        asked += 1
        assert awake.wait(SECONDS)
        return Usage(2**40, 0, 2**40)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    check = storage_at(tmp_path)
    # When it is looked at again and again
    for _ in range(3):
        found = await looked(check, timeout=timedelta(milliseconds=20))
        assert found.state is HealthState.DOWN
    # Then one thread waits for it, whose answer counts once it comes
    assert asked == 1
    awake.set()
    async with asyncio.timeout(SECONDS):
        assert (await check.look()).state is HealthState.UP
